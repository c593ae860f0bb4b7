"""Genotypes: the discrete cells a search ends with, and the strings that they are written as.

Forms that are no string by themselves: :mod:`CyDAS.models.cells.genotype_forms`.
"""

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from CyDAS.models.cells.layout import NODES
from CyDAS.models.cells.operations import CHOOSABLE
from CyDAS.utils.errors import GenotypeError

Edge = tuple[str, int]  #: (operation, index of the state it is applied to)
Cell = list[list[Edge]]  #: per node its two chosen edges, best first

#: A genotype string longer than this is no genotype (a real one has about 450 characters).
MAX_LENGTH = 10_000


#: A part of a text that is no plain value.
EXPRESSION = object()


class Genotype(NamedTuple):
    """One normal and one reduction cell. ``repr`` is the published string format."""

    normal: Cell
    normal_concat: Sequence[int]
    reduce: Cell
    reduce_concat: Sequence[int]


def make_genotype(normal: Cell, reduce: Cell) -> Genotype:
    concat = range(2, 2 + NODES)
    return Genotype(normal, concat, reduce, concat)


def discretise(alphas: Iterable[Tensor], betas: Iterable[Tensor]) -> Cell:
    """The cell that the architecture parameters prefer (paper section 3.2).

    Per node: ``p = softmax(alpha) * softmax(beta)``, without the column of ``none``; the best operation of each edge;
    the two best edges, best first. ``alphas[i]``: [i + 2, 8]; ``betas[i]``: [i + 2].
    """
    cell = []
    for alpha, beta in zip(alphas, betas, strict=True):
        p = alpha.softmax(dim=-1) * beta.softmax(dim=-1)[:, None]
        strength, operation = torch.topk(p[:, : len(CHOOSABLE)], 1)
        edges = torch.topk(strength.flatten(), 2).indices.tolist()
        cell.append([(CHOOSABLE[int(operation[edge])], edge) for edge in edges])
    return cell


def random_genotype(generator: torch.Generator) -> Genotype:
    """A cell drawn uniformly: two different sources a node, any operation but ``none`` on each."""

    def edge(source: int) -> Edge:
        return CHOOSABLE[int(torch.randint(len(CHOOSABLE), (), generator=generator))], source

    def cell() -> Cell:
        pairs = (torch.randperm(node + 2, generator=generator)[:2].tolist() for node in range(NODES))
        return [[edge(source) for source in pair] for pair in pairs]

    return make_genotype(cell(), cell())


def count_operations(genotypes: Sequence[Genotype]) -> dict[str, int]:
    """How often each operation stands in the given cells, those that are absent included."""
    counts = Counter(op for g in genotypes for cell in (g.normal, g.reduce) for node in cell for op, _ in node)
    return {op: counts[op] for op in CHOOSABLE}


def parse_genotype(text: str) -> Genotype:
    """Read ``Genotype(normal=[...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))``.

    A cell is a list of four nodes with two pairs each, as CDARTS writes it, or the flat list of these eight pairs, as
    DARTS does: ``[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ...]``. The parts have names or come in this order.
    Nothing in the text is ever executed. Raises :class:`GenotypeError` naming the place that is wrong.
    """
    if not isinstance(text, str):
        raise GenotypeError(f"a genotype is a string, not {type(text).__name__}")
    if len(text) > MAX_LENGTH:
        raise GenotypeError(f"{len(text)} characters are no genotype (at most {MAX_LENGTH})")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise GenotypeError(f"not a genotype: {error}") from None
    if not is_genotype_call(node):
        raise GenotypeError("not of the form Genotype(normal=..., normal_concat=..., reduce=..., reduce_concat=...)")
    if len(node.args) > len(Genotype._fields) or (node.args and node.keywords):
        raise GenotypeError("the four parts of a genotype are given by name, or all of them in order")
    names: Sequence[str | None] = Genotype._fields[: len(node.args)] or [keyword.arg for keyword in node.keywords]
    values = node.args or [keyword.value for keyword in node.keywords]
    if len(set(names)) < len(names):
        raise GenotypeError("the four parts of a genotype are given by name, each of them once")
    return make_from_parts(dict(zip(names, map(_value, values), strict=True)))


def is_genotype_call(node: ast.AST) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"


def _value(node: ast.expr) -> Any:
    """The plain value that is written there, or :data:`EXPRESSION`; a range of two numbers is one."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        arguments = [_value(argument) for argument in node.args]
        if node.func.id == "range" and [type(argument) for argument in arguments] == [int, int]:
            return range(*arguments)
        if node.func.id in ("list", "tuple") and len(arguments) == 1 and isinstance(arguments[0], list | range):
            return arguments[0]
    return EXPRESSION


def make_from_parts(parts: dict[Any, Any]) -> Genotype:
    """The genotype of four plain values. Raises :class:`GenotypeError` naming the place that is wrong."""
    if set(parts) != set(Genotype._fields):
        given = ", ".join(map(str, parts))
        raise GenotypeError(f"a genotype has the parts {', '.join(Genotype._fields)}; here: {given[:200]}")
    nodes = {name: _nodes(parts[name], name) for name in ("normal", "reduce")}
    _check_nodes(nodes)
    normal, reduce = (
        [_node(n, f"{name}, node {i}", i + 2) for i, n in enumerate(entries)] for name, entries in nodes.items()
    )
    normal_concat, reduce_concat = (_concat(parts[f"{name}_concat"], f"{name}_concat") for name in nodes)
    return Genotype(normal, normal_concat, reduce, reduce_concat)


def _nodes(cell: Any, name: str) -> list[Any]:
    """A cell's nodes, each with what stands in it; the flat form is cut into pairs of pairs."""
    if not isinstance(cell, list | tuple):
        raise GenotypeError(f"{name}: a list is expected")
    flat = [entry for entry in cell if isinstance(entry, list | tuple) and entry and isinstance(entry[0], str)]
    if not flat:
        return list(cell)
    if any(len(entry) == 3 for entry in flat):
        raise GenotypeError(f"{name}: {_about_triples(flat)}")
    if len(cell) % 2:
        raise GenotypeError(f"{name}: {2 * NODES} pairs, two for each of {NODES} nodes, are expected, not {len(cell)}")
    return [list(cell[start : start + 2]) for start in range(0, len(cell), 2)]


def _about_triples(edges: Sequence[Any]) -> str:
    """Why (operation, node, source) is not read: it is how cells are written whose nodes differ in their edges."""
    degrees = Counter(edge[1] for edge in edges if len(edge) == 3 and type(edge[1]) is int)
    counted = ", ".join(f"{degrees[node]} into node {node}" for node in range(2, 2 + NODES))
    return (
        f"edges as triples (operation, node, source), the form of FairDARTS, here {counted}: "
        "each node of CyDAS's cells has two edges, written as pairs (operation, source)"
    )


def _check_nodes(cells: dict[str, list[Any]]) -> None:
    """Raise :class:`GenotypeError` where a cell has another number of nodes, naming also its unknown operations."""
    for name, nodes in cells.items():
        if len(nodes) != NODES:
            edges = [edge for cell in cells.values() for node in cell if isinstance(node, list) for edge in node]
            named = {e[0]: None for e in edges if isinstance(e, list | tuple) and e and isinstance(e[0], str)}
            unknown = ", ".join(operation[:40] for operation in named if operation not in CHOOSABLE)
            raise GenotypeError(
                f"{name}: {NODES} entries are expected, not {len(nodes)}: CyDAS's cells have "
                f"{_NUMBERS[NODES]} nodes, this one {_NUMBERS.get(len(nodes), len(nodes))}"
                + (f"; nor are there operations {unknown[:200]}" if unknown else "")
            )


_NUMBERS = {0: "none", 1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 6: "six", 7: "seven"}


def _items(value: Any, where: str, count: int) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise GenotypeError(f"{where}: a list is expected")
    if len(value) != count:
        raise GenotypeError(f"{where}: {count} entries are expected, not {len(value)}")
    return value


def _node(value: Any, where: str, states: int) -> list[Edge]:
    edges = []
    for index, entry in enumerate(_items(value, where, 2)):
        operation, source = _items(entry, f"{where}, edge {index}", 2)
        edges.append(make_edge(operation, source, f"{where}, edge {index}", states))
    return edges


def make_edge(operation: Any, source: Any, place: str, states: int) -> Edge:
    """The edge of an operation and one of the ``states`` before its node. Raises :class:`GenotypeError`."""
    if not (isinstance(operation, str) and operation in CHOOSABLE):
        given = "an expression" if operation is EXPRESSION else repr(operation)[:60]
        raise GenotypeError(f"{place}: {given} is not one of {', '.join(CHOOSABLE)}")
    if type(source) is not int:
        raise GenotypeError(f"{place}: a whole number is expected")
    if not 0 <= source < states:
        raise GenotypeError(f"{place}: state {source} does not exist before this node (0 to {states - 1} do)")
    return operation, source


def _concat(value: Any, name: str) -> Sequence[int]:
    """``range(2, 6)`` or ``[2, 3, 4, 5]``: a cell always concatenates all of its nodes."""
    whole = range(2, 2 + NODES)
    given = list(value[: NODES + 1]) if isinstance(value, range | list | tuple) else []
    if given != list(whole) or not all(type(node) is int for node in given):
        raise GenotypeError(f"{name}: a cell concatenates its nodes 2 to {1 + NODES}, in this order")
    return whole
