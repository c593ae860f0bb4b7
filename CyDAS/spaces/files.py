"""Which file holds which architecture: genotype files of many kinds, results and checkpoints, as plain values.

What a value means is a space's business (``parse``); here it is only found.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from CyDAS.models.alpha_mean import mean_alphas
from CyDAS.models.cells.genotype_forms import find_genotypes, is_cell
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.runs.checkpoint import load_checkpoint, refusing
from CyDAS.spaces.base import SearchSpace
from CyDAS.spaces.chain import ChainSpace
from CyDAS.spaces.darts import DartsSpace
from CyDAS.spaces.nats import NatsSpace
from CyDAS.utils.errors import CydasError, GenotypeError

#: The values of ``--space``; :func:`CyDAS.spaces.register_space` adds to them.
SPACES: dict[str, type[SearchSpace]] = {"darts": DartsSpace, "nats": NatsSpace, "chain": ChainSpace}
#: Larger files are no genotypes: of text, and of text that must be taken apart as Python.
MAX_BYTES, MAX_PYTHON = 10_000_000, 1_000_000
#: What errors call a file, with its path.
WHAT = "genotype file "
#: Under which keys a JSON file or a checkpoint may hold its one architecture.
KEYS = ("genotype", "architecture", "arch", "arch_str")
#: How a checkpoint starts: a zip file, or the pickle of PyTorch before 1.6.
_CHECKPOINTS = (b"PK\x03\x04", b"\x80\x02")
_ALPHAS = "super_layers_arch."


def split_name(path: Path) -> tuple[Path, str | None]:
    """A file and, of ``FILE::NAME``, which of its genotypes; a file of that very name comes first."""
    file, colons, name = str(path).rpartition("::")
    return (path, None) if not colons or os.path.exists(path) else (Path(file), name)


def read_entries(path: Path) -> Any:
    """What a file holds as its architecture, as a space's ``parse`` reads it.

    ``path`` may be ``FILE::NAME``. The file is JSON (a genotype in any form, a search's result or round), text with a
    genotype, Python with named ones, or a checkpoint; nothing of it is run. Raises :class:`CydasError`.
    """
    file, name = split_name(path)
    what = f"{WHAT}{file}"
    content = _read(file, what)
    if content.startswith(_CHECKPOINTS):
        if name is not None:
            raise CydasError(f"{what} is a checkpoint of one architecture: leave out ::{name}")
        return _from_checkpoint(file)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CydasError(f"{what}: neither text nor a checkpoint") from None
    try:
        value = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        return _from_text(text, name, what, is_json=file.suffix == ".json", error=error)
    return _choose(value, name, what)


def _read(file: Path, what: str) -> bytes:
    try:
        with open(file, "rb") as stream:
            content = stream.read(len(_CHECKPOINTS[0]))
            if not content.startswith(_CHECKPOINTS):  # checkpoints may be larger, and have a reader of their own
                content += stream.read(MAX_BYTES)
    except FileNotFoundError:
        raise CydasError(f"{what}: there is no such file") from None
    except (OSError, ValueError) as error:  # a null character in its name
        raise CydasError(f"{what}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise CydasError(f"{what}: more than {MAX_BYTES} bytes are too many")
    return content


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError("a key stands in it twice")
    return entries


def _from_text(text: str, name: str | None, what: str, is_json: bool, error: Exception) -> Any:
    """Of a text that is no JSON, for the reason ``error``: one architecture, or Python."""
    if _is_nats(text):
        return _choose(text, name, what)
    is_json = is_json or text.lstrip()[:1] in ("{", "[")
    if len(text) > MAX_PYTHON:
        raise CydasError(f"{what}: not JSON, and more than {MAX_PYTHON} characters are too many for Python")
    try:
        found = find_genotypes(text)
    except GenotypeError as problem:
        found = {}
        reason = str(problem)
    else:
        reason = "no NAME = Genotype(...) stands at its top level"
    if found:
        return _pick(found, name, what)
    if text.lstrip()[:1] == "|" or "nodes with" in text[:100]:
        return text  # meant for NATS-Bench's space, which says what is wrong with it
    if is_json:
        raise CydasError(f"{what}: not JSON ({error})")
    raise CydasError(f"{what}: it holds no genotype: neither JSON nor Python ({' '.join(reason.split())[:200]})")


def _is_nats(value: Any) -> bool:
    try:
        parse_architecture(value)
    except GenotypeError:
        return False
    return True


def _choose(value: Any, name: str | None, what: str) -> Any:
    """The architecture in a JSON file's value, or in that which is called ``name`` there."""
    if not isinstance(value, dict):
        if name is not None:
            raise CydasError(f"{what} holds one architecture without a name: leave out ::{name}")
        return value
    if isinstance(value.get("seeds"), dict):  # the summary of several searches
        value = value["seeds"]
        return _unwrap(_pick(value, name, what), what)
    if name is not None:
        return _unwrap(_pick(value, name, what), what)
    if value and all(_is_whole(entry) for entry in value.values()) and not set(value) & set(KEYS):
        if not any(key.isdecimal() for key in value):
            return _pick(value, name, what)
    return _unwrap(value, what)


def _is_whole(entry: Any) -> bool:
    """Whether it is an architecture by itself, as the values of a file of several are."""
    return (isinstance(entry, str) and entry.lstrip().startswith(("Genotype(", "|"))) or (
        isinstance(entry, dict) and is_cell(entry)
    )


def _pick(found: dict[str, Any], name: str | None, what: str) -> Any:
    """The one of that name, or the only one: several names for the same count once."""
    names = ", ".join(key or "(without a name)" for key in found)[:500]
    if name is not None:
        if name not in found:
            raise CydasError(f"{what} has no genotype {name!r}; there are {names}")
        return found[name]
    if not found or any(entry != next(iter(found.values())) for entry in found.values()):
        raise CydasError(f"{what} holds several genotypes: {names}: choose one as {what.removeprefix(WHAT)}::NAME")
    return next(iter(found.values()))


def _unwrap(value: Any, what: str) -> Any:
    """What stands under one of :data:`KEYS`, or the value itself."""
    keys = [key for key in KEYS if isinstance(value, dict) and key in value]
    if len(keys) > 1:
        raise CydasError(f"{what} has an architecture under {' and '.join(keys)}: choose one as FILE::{keys[0]}")
    return value[keys[0]] if keys else value


def _from_checkpoint(path: Path) -> Any:
    """A retrained network's architecture, or the one that a search now prefers, as its round's file says it too.

    That is not the one which its evaluation network has: the alphas have been trained since that was made.
    """
    content = load_checkpoint(path)
    if isinstance(search := content.get("search"), dict):
        with refusing(f"checkpoint {path} holds no search"):
            space = SPACES[content["about"]["config"].get("space", "darts")]
            alphas = {key.removeprefix(_ALPHAS): v for key, v in search["joint"].items() if key.startswith(_ALPHAS)}
            if search.get("alpha_mean"):  # --average_rounds
                alphas |= mean_alphas(search["alpha_mean"])
            if not all(isinstance(alpha, Tensor) and alpha.isfinite().all() for alpha in alphas.values()):
                raise ValueError("its alphas are not finite numbers")
            return space.to_strings(space.preferred(alphas, search.get("space", {})))
    if "genotype" in content:
        return content["genotype"]
    keys = ", ".join(re.sub(r"[^\w.]", "?", str(key))[:40] for key in list(content)[:5])
    raise CydasError(f"checkpoint {path} does not say which architecture it is of (it has {keys}, ...)")
