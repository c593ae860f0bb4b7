"""Which search spaces there are, and which of them an architecture is of.

An architecture is what a space says it is; to everyone else it is opaque, or its :meth:`to_strings`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from CyDAS.config import CommonConfig
from CyDAS.config.spaces import FLAGS, NatsFlags
from CyDAS.data import LabelledImages
from CyDAS.spaces.base import SearchSpace
from CyDAS.spaces.chain import ChainSpace
from CyDAS.spaces.darts import DartsSpace
from CyDAS.spaces.files import SPACES, read_entries
from CyDAS.spaces.nats import NatsSpace
from CyDAS.spaces.table import TableSpace
from CyDAS.utils.errors import CydasError

__all__ = [
    "SPACES",
    "ChainSpace",
    "DartsSpace",
    "NatsSpace",
    "SearchSpace",
    "TableSpace",
    "check_genotype",
    "identify_architecture",
    "load_architecture",
    "make_space",
    "register_space",
]

Kind = TypeVar("Kind", bound=type[SearchSpace])


def register_space(name: str, flags: tuple[type, ...] = (NatsFlags,)) -> Callable[[Kind], Kind]:
    """A decorator that makes a class the space of ``--space NAME``, in every program that imports its file.

    ``flags``: dataclasses of ``CyDAS.config.spaces`` whose flags it reads beside ``init_channels`` and ``layer_num``;
    those of the other spaces may differ when a run goes on. Raises ``ValueError`` for a name that another space has.
    """

    def register(space: Kind) -> Kind:
        other, own = (f"{kind.__module__}.{kind.__qualname__}" for kind in (SPACES.get(name, space), space))
        if other != own:
            raise ValueError(f"the name {name!r} is that of the space {other}")
        SPACES[name], FLAGS[name] = space, flags
        return space

    return register


def find_space(name: str, source: str) -> type[SearchSpace]:
    """The class of a space. Raises :class:`CydasError` where no space has this name, which ``source`` mentions."""
    if name not in SPACES:
        raise CydasError(
            f"{source} is of --space {name}, which is none of {', '.join(SPACES)}: name the file that adds it, "
            "--extension FILE"
        )
    return SPACES[name]


def make_space(config: CommonConfig, data: LabelledImages) -> SearchSpace:
    """The space that the flags name. Raises :class:`CydasError` where they make none."""
    return SPACES[config.space].from_config(config, data)


def load_architecture(path: Path, stages: int, space: str = "darts") -> Any:
    """Read a genotype file of a space, or ``FILE::NAME`` for one of several in it.

    Raises :class:`CydasError` for anything else.
    """
    entries, source = read_entries(path), f"genotype file {path}"
    try:
        return SPACES[space].parse(entries, stages, source)
    except CydasError:
        for other in SPACES.keys() - {space}:
            if _is_of(other, entries):
                raise CydasError(f"{source} is of --space {other}, not of {space}") from None
        raise


def identify_architecture(path: Path) -> tuple[str, Any]:
    """The space that a genotype file (or ``FILE::NAME``) is of, and its architecture with as many stages as it has.

    Raises :class:`CydasError` where it is of none.
    """
    entries, problems = read_entries(path), {}
    for space in SPACES:
        try:
            return space, SPACES[space].parse(entries, None, f"genotype file {path}")
        except CydasError as error:
            problems[space] = error
    is_meant_for_nats = "|" in str(entries)[:100] or "nodes with" in str(entries)[:100]
    values = list(entries.values()) if isinstance(entries, dict) else [entries]
    is_meant_for_chain = all(isinstance(each, list) or str(each).startswith("[[") for each in values)
    raise problems["nats" if is_meant_for_nats else "chain" if values and is_meant_for_chain else "darts"]


def _is_of(space: str, entries: Any) -> bool:
    try:
        SPACES[space].parse(entries, None, "")
    except CydasError:
        return False
    return True


def check_genotype(checkpoint: dict[str, Any], architecture: Any, config: CommonConfig, path: Path) -> None:
    """Raise :class:`CydasError` where a checkpoint says that it is of another architecture.

    Its weights alone cannot tell: poolings, skips and the sources of edges leave no trace in them.
    """
    if "genotype" in checkpoint:
        space = SPACES[config.space]
        own = space.parse(checkpoint["genotype"], config.layer_num, f"checkpoint {path}")
        if own != architecture:
            raise CydasError(f"checkpoint {path} is of another architecture: {space.brief(own)}")
