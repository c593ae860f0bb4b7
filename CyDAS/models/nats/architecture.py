"""Architectures of NATS-Bench's topology space, and the forms in which the field writes them."""

import ast
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from CyDAS.utils.errors import GenotypeError

#: The columns of alpha, in order. All of them may be chosen, ``none`` included.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (target, source) of each edge: the rows of alpha, in order.
EDGES = tuple((target, source) for target in range(1, 4) for source in range(target))
EDGE_NAMES = tuple(f"{target}<-{source}" for target, source in EDGES)
#: NASLib's orders of both, for its tuples of indices.
NASLIB_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (3, 2))

#: A text longer than this is no architecture (the longest form has about 250 characters).
MAX_LENGTH = 300
FORMS = (
    "|nor_conv_3x3~0|+|none~0|skip_connect~1|+..., Structure(4 nodes with |...|), [3, 0, 1, ...] in the benchmark's "
    "order, or NASLib's (2, 1, 0, ...)"
)
_OPERATION = "(?:" + "|".join(OPERATIONS) + ")"
#: The benchmark's string, exactly as it stands in its tables.
STRING = re.compile(
    r"\+".join("".join(rf"\|{_OPERATION}~{source}" for source in range(target)) + r"\|" for target in (1, 2, 3))
)
_STRUCTURE = re.compile(r"(?:_?Structure|CellStructure|TopologyStructure)\((?:4 nodes with )?(.*)\)", re.DOTALL)
_INDICES = re.compile(r"(naslib:|nats:)?\s*([\[(])\s*([0-9]+(?:\s*,\s*[0-9]+)*)\s*,?\s*([\])])", re.ASCII)


class Architecture(NamedTuple):
    """One operation's name for each of :data:`EDGES`. ``str`` is the benchmark's form."""

    operations: tuple[str, ...]

    def __str__(self) -> str:
        nodes = [
            "".join(
                f"|{name}~{source}" for (at, source), name in zip(EDGES, self.operations, strict=True) if at == target
            )
            for target in range(1, 4)
        ]
        return "+".join(f"{node}|" for node in nodes)


def random_architecture(generator: torch.Generator) -> Architecture:
    """Any of the 15,625 with equal probability."""
    indices = torch.randint(len(OPERATIONS), (len(EDGES),), generator=generator)
    return Architecture(tuple(OPERATIONS[index] for index in indices.tolist()))


def parse_architecture(value: Any) -> Architecture:
    """Read an architecture in any form of :func:`read_architecture`. Raises :class:`GenotypeError`."""
    return read_architecture(value)[0]


def read_architecture(value: Any) -> tuple[Architecture, str]:
    """An architecture and, in words, which form was read.

    The forms, as text or as plain values: the benchmark's string ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``, what its API
    prints (``Structure(4 nodes with |op~0|+...)``) or returns (three lists of (operation, source)), six indices of
    :data:`OPERATIONS` in ``[...]``, for :data:`EDGES`, and NASLib's six indices in ``(...)``, for its own orders. In
    front of a text of indices ``naslib:`` or ``nats:`` says whose they are, whatever brackets they have. White space
    and a pair of quotes around a text are left out. Raises :class:`GenotypeError` naming the place that is wrong.
    """
    if isinstance(value, Architecture):
        return value, "an architecture"
    if isinstance(value, list | tuple):
        return _from_values(value)
    if not isinstance(value, str) or len(value) > MAX_LENGTH:
        raise GenotypeError(f"an architecture is a short string like {FORMS}")
    text = value.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].strip()
    structure = _STRUCTURE.fullmatch(text)
    inner = structure[1].strip() if structure else text
    if not structure and (indices := _INDICES.fullmatch(text)):
        return _from_index_text(*indices.groups())
    if inner.startswith(("[", "(")):
        return _from_lists(_literal(inner))
    return _from_string(inner), "the API's structure" if structure else "the benchmark's string"


def _from_string(text: str) -> Architecture:
    nodes = text.split("+")
    if len(nodes) != 3:
        raise GenotypeError(f"3 nodes, separated by +, are expected, not {len(nodes)}: an architecture is {FORMS}")
    pairs = []
    for target, node in enumerate(nodes, start=1):
        if not re.fullmatch(r"\|([^|]*\|)+", node):
            raise GenotypeError(f"node {target}: |operation~source| for each source is expected, not {node[:80]!r}")
        pairs.append([tuple(entry.partition("~")[::2]) for entry in node[1:-1].split("|")])
    return _from_pairs(pairs, str)


def _from_pairs(nodes: Sequence[Any], kind: type) -> Architecture:
    """Of each node's (operation, source), the sources in order, all of one ``kind``."""
    operations = []
    for target, entries in enumerate(nodes, start=1):
        if not isinstance(entries, list | tuple) or len(entries) != target:
            given = len(entries) if isinstance(entries, list | tuple) else repr(entries)[:40]
            raise GenotypeError(f"node {target}: {target} edges are expected, not {given}")
        for source, entry in enumerate(entries):
            place = f"node {target}, edge {source}"
            if not isinstance(entry, list | tuple) or len(entry) != 2:
                raise GenotypeError(f"{place}: (operation, source) is expected, not {entry!r:.40}")
            name, given = entry
            if not isinstance(name, str) or name not in OPERATIONS:
                raise GenotypeError(f"{place}: {str(name)[:40]!r} is not one of {', '.join(OPERATIONS)}")
            if type(given) is not kind or given != kind(source):
                raise GenotypeError(f"{place}: its source is {source}, not {str(given)[:40]!r}")
            operations.append(name)
    return Architecture(tuple(operations))


def _from_values(value: Sequence[Any]) -> tuple[Architecture, str]:
    if len(value) == len(EDGES) and all(type(index) is int for index in value):
        return _from_indices(value, naslib=isinstance(value, tuple))
    return _from_lists(value)


def _from_lists(value: Any) -> tuple[Architecture, str]:
    """Of what the benchmark's ``str2lists`` returns."""
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(n, list | tuple) for n in value):
        raise GenotypeError(
            f"3 nodes of (operation, source), or {len(EDGES)} indices of operations, are expected, not {value!r:.80}"
        )
    return _from_pairs(value, int), "the API's lists"


def _from_index_text(whose: str | None, opening: str, inner: str, closing: str) -> tuple[Architecture, str]:
    numbers = [number.strip() for number in inner.split(",")]
    if opening + closing not in ("[]", "()"):
        raise GenotypeError(f"the brackets {opening} and {closing} do not belong together")
    if len(numbers) != len(EDGES) or not all(len(number) == 1 for number in numbers):
        raise GenotypeError(f"{len(EDGES)} indices of operations, 0 to {len(OPERATIONS) - 1}, are expected")
    return _from_indices([int(number) for number in numbers], whose == "naslib:" if whose else opening == "(")


def _from_indices(indices: Sequence[int], naslib: bool) -> tuple[Architecture, str]:
    if not all(0 <= index < len(OPERATIONS) for index in indices):
        raise GenotypeError(f"indices of operations are 0 to {len(OPERATIONS) - 1}, not {list(indices)}")
    if not naslib:
        return Architecture(tuple(OPERATIONS[index] for index in indices)), "indices in the benchmark's order"
    chosen = dict(zip(NASLIB_EDGES, (NASLIB_OPERATIONS[index] for index in indices), strict=True))
    return Architecture(tuple(chosen[edge] for edge in EDGES)), "NASLib's indices, in its own orders"


def _literal(text: str) -> Any:
    """The lists and tuples of strings and numbers that are written there, as Python writes them; nothing is run."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        value = None
    # Python also reads +0, 0x0 and 0_0 as numbers.
    if value is None or _bare(repr(value)) != _bare(text):
        raise GenotypeError(f"not an architecture: {text[:80]!r}; it is {FORMS}")
    return value


def _bare(text: str) -> str:
    """Without white space, quotes and a list's last comma."""
    return re.sub(r",(?=[)\]])", "", re.sub(r"[\s'\"]", "", text))
