"""Checkpoints: written whole or not at all, proven readable, read without running anything in them.

A checkpoint is what ``torch.save`` writes, a zip file, with a SHA-256 of all bytes before it as the zip's comment;
other programs read it as any other checkpoint.
"""

import hashlib
import pickle
import pickletools
import random
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from CyDAS.runs.weights import load_weights as load_weights  # one of this file's names since before it moved
from CyDAS.utils.distributed import Process, gather
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import previous, write_atomically

#: How a checkpoint's comment starts; the digest in hexadecimal follows.
MARK = b"CyDAS sha256 "
_COMMENT = len(MARK) + 64
#: What a damaged or foreign file makes torch.load raise.
_UNREADABLE = (
    OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, AssertionError, MemoryError,
    OverflowError, struct.error,
)  # fmt: skip


def save_checkpoint(path: Path, content: dict[str, Any], keep: bool = True) -> None:
    """Write ``content`` (tensors and plain values only) so that ``path`` always holds a whole checkpoint.

    With ``keep`` the one before it is kept as ``path.previous``. Raises :class:`CydasError` where it cannot be written.
    """

    def write(beside: Path) -> None:
        torch.save(content, beside)
        _seal(beside)

    write_atomically(path, write, prove=lambda beside: _check_seal(beside, needed=True), keep=keep)


def _seal(path: Path) -> None:
    """Put the digest of a zip file into its comment."""
    with open(path, "rb+") as file:
        file.seek(-2, 2)  # a zip ends with its comment's length, here 0
        file.write(struct.pack("<H", _COMMENT))
        file.seek(0)
        digest = _digest(file)
        file.seek(0, 2)
        file.write(MARK + digest.hexdigest().encode())


def _digest(file, length: int | None = None) -> "hashlib._Hash":
    """SHA-256 of the first ``length`` bytes, or all of them."""
    digest = hashlib.sha256()
    left = float("inf") if length is None else length
    while left > 0 and (block := file.read(int(min(left, 1 << 20)))):
        digest.update(block)
        left -= len(block)
    return digest


def _check_seal(path: Path, needed: bool) -> None:
    """Raise :class:`CydasError` where the file is not what was written; ``needed``: or where nobody can tell."""
    with open(path, "rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _COMMENT))
        comment = file.read()
        if not comment.startswith(MARK):
            if needed:
                raise CydasError(f"checkpoint {path}: it is cut off, damaged, or not of CyDAS: its checksum is missing")
            return
        file.seek(0)
        if _digest(file, size - _COMMENT).hexdigest().encode() != comment[len(MARK) :]:
            raise CydasError(f"checkpoint {path}: it is damaged: its checksum is wrong")


def load_checkpoint(path: Path, sealed: bool = False) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises :class:`CydasError` for all but a dict of tensors and plain values.

    ``sealed``: only with the checksum that CyDAS writes. What a file claims to hold is compared with its size before
    anything of that size is allocated.
    """
    if not path.is_file():
        raise CydasError(f"checkpoint {path}: there is no such file")
    try:
        _check_seal(path, sealed)
        content = _load_within_size(path)
    except (pickle.UnpicklingError, zipfile.BadZipFile):
        raise CydasError(
            f"checkpoint {path}: it is damaged or holds more than tensors and plain values, so it is not read"
        ) from None
    except _UNREADABLE as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CydasError(f"checkpoint {path}: it is damaged or no checkpoint ({first_line})") from None
    if not isinstance(content, dict):
        raise CydasError(f"checkpoint {path}: a dict is expected, not {type(content).__name__}")
    return content


def _load_within_size(path: Path) -> Any:
    """Read a file. Raises :class:`CydasError` where its content would take more memory than it has bytes.

    In a zip file storages are views of its entries, whose claimed sizes are looked at before they are used; those of
    another byte order, which PyTorch would turn before that, are refused. Older formats are gone through twice.
    """
    size = path.stat().st_size
    too_large = CydasError(f"checkpoint {path}: it claims to hold more than the file's {size} bytes")

    def leave_there(storage: torch.UntypedStorage, _: str) -> torch.UntypedStorage:
        if storage.nbytes() > size:
            raise too_large
        return storage

    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or len(entries) > 10_000_000:
                raise CydasError(f"checkpoint {path}: it is compressed, which no checkpoint is")
            if sum(entry.file_size for entry in entries) > size:
                raise too_large
            orders = {archive.read(entry) for entry in entries if entry.filename.endswith("/byteorder")} or {b"little"}
        if orders != {sys.byteorder.encode()}:
            raise CydasError(f"checkpoint {path}: its bytes are in another order than this machine's")
        # What PyTorch's annotation calls a storage is none of those that it hands over.
        return torch.load(path, map_location=leave_there, weights_only=True)  # type: ignore[arg-type]
    _check_old_format(path, size)
    # On the meta device storages have a size but no memory; they may share bytes, but not be larger than the file.
    storages: dict[int, int] = {}
    _collect_storages(torch.load(path, map_location="meta", weights_only=True), storages, set())
    if any(claimed > size for claimed in storages.values()):
        raise too_large
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_old_format(path: Path, size: int) -> None:
    """The format before PyTorch 1.6 says in its fourth pickle how large storages are: no number there exceeds the file.

    The pickle is taken apart, not run. Raises :class:`CydasError`, or ``ValueError`` for what is no pickle.
    """
    with open(path, "rb") as file:
        for number in range(4):
            for _, argument, _ in pickletools.genops(file):
                if number == 3 and isinstance(argument, int) and argument > size:
                    raise CydasError(f"checkpoint {path}: it claims to hold more than the file's {size} bytes")


def _collect_storages(value: Any, found: dict[int, int], seen: set[int], depth: int = 0) -> None:
    if isinstance(value, Tensor):
        storage = value.untyped_storage()
        found[storage._cdata] = storage.nbytes()
    elif isinstance(value, dict | list | tuple) and depth < 100 and id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, dict) else value:
            _collect_storages(item, found, seen, depth + 1)


class RuledOut(CydasError):
    """A good checkpoint that the flags rule out: going on from an older one is not what was meant."""


def load_newest(
    path: Path, accept: Callable[[dict[str, Any], Path], None], warn: Callable[[str], None]
) -> dict[str, Any]:
    """The checkpoint at ``path`` or, where that is damaged or not accepted, the one before it.

    ``accept(content, file)`` raises :class:`CydasError` for a checkpoint of something else, :class:`RuledOut` for one
    that ends it all. Whatever is passed over is named to ``warn``. Raises :class:`CydasError` with all reasons where
    none is good; nothing is written.
    """
    reasons: list[str] = []
    for file in (path, previous(path)):
        try:
            content = load_checkpoint(file, sealed=True)
            accept(content, file)
        except RuledOut:
            raise
        except CydasError as error:
            if file.exists() or not reasons:
                reasons.append(str(error))
            continue
        for reason in reasons:
            warn(f"{reason}; going on from {file}")
        return content
    raise CydasError("; ".join(reasons))


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn what goes wrong while a checkpoint's content is put in place into a :class:`CydasError` saying ``what``."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise CydasError(f"{what}: {type(error).__name__} {(str(error).splitlines() or [''])[0]}") from None


def process_states(**own: Any) -> list[dict[str, Any]]:
    """What differs between processes, of each of them: random generators and ``own``. Every process must call it."""
    version, keys, python_gauss = random.getstate()
    numpy = np.random.get_state(legacy=False)
    array = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    return gather(
        {
            "python": [version, list(keys), python_gauss],
            "numpy": [numpy["bit_generator"], array, numpy["state"]["pos"], numpy["has_gauss"], numpy["gauss"]],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            **own,
        }
    )


def set_process_state(states: list[dict[str, Any]], process: Process) -> dict[str, Any]:
    """Put this process's random generators back to what :func:`process_states` returned, and return the rest.

    Raises :class:`CydasError` where it was another number of processes.
    """
    if len(states) != process.world_size:
        raise CydasError(f"the checkpoint is of {len(states)} process(es), here are {process.world_size}")
    state = states[process.rank]
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, array, *rest = state["numpy"]
    np.random.set_state((name, array.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and process.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
    return state


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the buffers, batch norm statistics above all, which differ between processes within an epoch."""
    return {name: buffer.detach().to("cpu", copy=True) for name, buffer in module.named_buffers()}


@torch.no_grad()
def set_buffers(module: nn.Module, values: dict[str, Tensor]) -> None:
    """Put back what :func:`buffers_of` returned. Raises ``KeyError`` for a buffer that there is not."""
    own = dict(module.named_buffers())
    for name, value in values.items():
        own[name].copy_(value)
