"""Genotypes: the discrete cells a search ends with, and the published string form of them."""

import ast
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from CyDAS.models.layout import NODES
from CyDAS.models.operations import CHOOSABLE

Edge = tuple[str, int]  #: (operation, index of the state it is applied to)
Cell = list[list[Edge]]  #: per node its two chosen edges, best first

#: A genotype string longer than this is no genotype (a real one has about 450 characters).
MAX_LENGTH = 10_000


class GenotypeError(ValueError):
    """A genotype that cannot be a cell; the message says which place is wrong."""


class Genotype(NamedTuple):
    """One normal and one reduction cell. ``repr`` is the published string format."""

    normal: Cell
    normal_concat: Sequence[int]
    reduce: Cell
    reduce_concat: Sequence[int]


def make_genotype(normal: Cell, reduce: Cell) -> Genotype:
    concat = range(2, 2 + NODES)
    return Genotype(normal, concat, reduce, concat)


def discretise(alphas: Sequence[Tensor], betas: Sequence[Tensor]) -> Cell:
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
    """Read ``Genotype(normal=[[('sep_conv_3x3', 0), ...], ...], normal_concat=range(2, 6), reduce=..., ...)``.

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
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Genotype"):
        raise GenotypeError("not of the form Genotype(normal=..., normal_concat=..., reduce=..., reduce_concat=...)")
    if node.args:
        raise GenotypeError("the four parts of a genotype are given by name")
    parts = {keyword.arg: keyword.value for keyword in node.keywords}
    if len(node.keywords) != len(Genotype._fields) or set(parts) != set(Genotype._fields):
        given = ", ".join(str(keyword.arg) for keyword in node.keywords)
        raise GenotypeError(f"a genotype has the parts {', '.join(Genotype._fields)}; here: {given}")
    return Genotype(
        **{name: (_concat if name.endswith("_concat") else _cell)(part, name) for name, part in parts.items()}
    )


def _items(node: ast.expr, where: str, count: int) -> list[ast.expr]:
    if not isinstance(node, ast.List | ast.Tuple):
        raise GenotypeError(f"{where}: a list is expected")
    if len(node.elts) != count:
        raise GenotypeError(f"{where}: {count} entries are expected, not {len(node.elts)}")
    return node.elts


def _integer(node: ast.expr, where: str) -> int:
    if not (isinstance(node, ast.Constant) and type(node.value) is int):
        raise GenotypeError(f"{where}: a whole number is expected")
    return node.value


def _cell(part: ast.expr, name: str) -> Cell:
    return [_node(entry, f"{name}, node {index}", index + 2) for index, entry in enumerate(_items(part, name, NODES))]


def _node(part: ast.expr, where: str, states: int) -> list[Edge]:
    edges = []
    for index, entry in enumerate(_items(part, where, 2)):
        place = f"{where}, edge {index}"
        operation, source = _items(entry, place, 2)
        if not (isinstance(operation, ast.Constant) and operation.value in CHOOSABLE):
            given = repr(operation.value)[:60] if isinstance(operation, ast.Constant) else "an expression"
            raise GenotypeError(f"{place}: {given} is not one of {', '.join(CHOOSABLE)}")
        state = _integer(source, place)
        if not 0 <= state < states:
            raise GenotypeError(f"{place}: state {state} does not exist before this node (0 to {states - 1} do)")
        edges.append((operation.value, state))
    return edges


def _concat(part: ast.expr, name: str) -> Sequence[int]:
    """``range(2, 6)`` or ``[2, 3, 4, 5]``: a cell always concatenates all of its nodes."""
    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == "range":
        if part.keywords or len(part.args) != 2:
            raise GenotypeError(f"{name}: range(2, {2 + NODES}) is expected")
        first, end = (_integer(arg, name) for arg in part.args)
        complete = (first, end) == (2, 2 + NODES)
    else:
        complete = [_integer(item, name) for item in _items(part, name, NODES)] == list(range(2, 2 + NODES))
    if not complete:
        raise GenotypeError(f"{name}: a cell concatenates its nodes 2 to {1 + NODES}, in this order")
    return range(2, 2 + NODES)
