"""Forms of DARTS-like cells that other programs write: files of Python, JSON of parts, exports of NNI."""

import ast
import re
import warnings
from typing import Any

from CyDAS.models.cells.genotype import (
    Cell,
    Genotype,
    is_genotype_call,
    make_edge,
    make_from_parts,
    make_genotype,
    parse_genotype,
)
from CyDAS.models.cells.layout import NODES
from CyDAS.models.cells.operations import CHOOSABLE, OPERATIONS
from CyDAS.utils.errors import GenotypeError

#: NNI's own names of the operations, in its order, which is also that of :data:`CHOOSABLE`.
NNI_NAMES = ("maxpool", "avgpool", "skipconnect", "sepconv3x3", "sepconv5x5", "dilconv3x3", "dilconv5x5")
#: Keys of NNI 1 and 2: an operation for each edge, and which edges of a node are chosen.
_EDGE_KEY = re.compile(r"(normal|reduce)_n(\d+)_(p\d+|switch)", re.ASCII)
#: Keys of NNI's space of DARTS in versions 2.8 to 3: operation and input of each of a node's two edges.
_PAIR_KEY = re.compile(r"(normal|reduce)/(op|input)_(\d+)_(\d+)", re.ASCII)
#: What else NNI's spaces say: sizes of the network, which are flags here.
_SIZES = {"width", "depth", "num_cells"}


def is_cell(value: Any) -> bool:
    """Whether a plain value is meant as one genotype, whatever its form and however wrong it may be."""
    if isinstance(value, dict):
        keys = [key for key in value if isinstance(key, str)]
        return any(key in Genotype._fields or _EDGE_KEY.fullmatch(key) or _PAIR_KEY.fullmatch(key) for key in keys)
    return _is_dumped(value) or isinstance(value, str)


def _is_dumped(value: Any) -> bool:
    """Whether it is the list that JSON makes of a named tuple."""
    return isinstance(value, list) and len(value) == len(Genotype._fields) and all(isinstance(v, list) for v in value)


def read_cell(value: Any) -> Genotype:
    """The genotype that a string, or a value of a JSON file, stands for. Raises :class:`GenotypeError`."""
    if _is_dumped(value):
        return make_from_parts(dict(zip(Genotype._fields, value, strict=True)))
    if not isinstance(value, dict):
        return parse_genotype(value)
    if not all(isinstance(key, str) for key in value):
        raise GenotypeError("the keys of a genotype are strings")
    if any(key in Genotype._fields for key in value):
        return make_from_parts(value)
    if any(_PAIR_KEY.fullmatch(key) for key in value):
        return _read_pairs({key: entry for key, entry in value.items() if key not in _SIZES})
    return _read_edges(value)


# -- exports of NNI ----------------------------------------------------------------------------------------------------


def _read_pairs(entries: dict[str, Any]) -> Genotype:
    """NNI 2.8 to 3: ``{"normal/op_2_0": "sep_conv_3x3", "normal/input_2_0": 1 or [1], ...}`` for nodes 2 to 5."""
    nodes = range(2, 2 + NODES)
    pairs = [f"{what}_{node}_{number}" for what in ("op", "input") for node in nodes for number in (0, 1)]
    expected = {f"{cell}/{pair}" for cell in ("normal", "reduce") for pair in pairs}
    _check_keys(entries, expected, _PAIR_KEY, 3)

    def edge(cell: str, node: int, number: int):
        place, source = f"{cell}, node {node - 2}, edge {number}", entries[f"{cell}/input_{node}_{number}"]
        if isinstance(source, list):
            if len(source) != 1:
                raise GenotypeError(f"{place}: one input is expected, not {len(source)}")
            source = source[0]
        return make_edge(_operation(entries[f"{cell}/op_{node}_{number}"]), source, place, node)

    cells = ([[edge(cell, node, number) for number in (0, 1)] for node in nodes] for cell in ("normal", "reduce"))
    return make_genotype(*cells)


def _read_edges(entries: dict[str, Any]) -> Genotype:
    """NNI 1 and 2: ``{"normal_n2_p0": "sepconv3x3", "normal_n2_p1": [], ..., "normal_n2_switch": [...], ...}``."""
    nodes = range(2, 2 + NODES)
    places = {node: [*(f"p{source}" for source in range(node)), "switch"] for node in nodes}
    expected = {f"{cell}_n{n}_{place}" for cell in ("normal", "reduce") for n in nodes for place in places[n]}
    _check_keys(entries, expected, _EDGE_KEY, 2)
    return make_genotype(*(_read_edges_of(cell, entries) for cell in ("normal", "reduce")))


def _read_edges_of(name: str, entries: dict[str, Any]) -> Cell:
    cell = []
    for node in range(2, 2 + NODES):
        sources = _chosen(entries[f"{name}_n{node}_switch"], f"{name}_n{node}", node)
        edges = []
        for number, source in enumerate(sources):
            operation = _operation(entries[f"{name}_n{node}_p{source}"])
            edges.append(make_edge(operation, source, f"{name}, node {node - 2}, edge {number}", node))
        cell.append(edges)
    return cell


def _check_keys(entries: dict[str, Any], expected: set[str], form: re.Pattern, node: int) -> None:
    """Raise :class:`GenotypeError` for a missing or further key; group ``node`` of ``form`` is the node's number."""
    for key in entries:
        found = form.fullmatch(key)
        if found and int(found[node][:6]) >= 2 + NODES:
            raise GenotypeError(f"{key}: CyDAS's cells have {NODES} nodes, 2 to {1 + NODES}")
    for what, keys in (("is missing", expected - entries.keys()), ("has no place here", entries.keys() - expected)):
        if keys:
            raise GenotypeError(f"{min(keys)[:80]} {what}: it is no export of cells of DARTS")


def _chosen(switch: Any, key: str, states: int) -> list[int]:
    """A node's chosen edges: their keys, their numbers, or a list of truth values over all of them."""
    if not isinstance(switch, list):
        raise GenotypeError(f"{key}_switch: a list is expected")
    if switch and all(type(entry) is bool for entry in switch) and len(switch) == states:
        sources = [source for source, chosen in enumerate(switch) if chosen]
    else:
        keys: dict[str, Any] = {f"{key}_p{source}": source for source in range(states)}
        sources = [keys.get(entry, entry) if isinstance(entry, str) else entry for entry in switch]
    for source in sources:
        if type(source) is not int or not 0 <= source < states:
            raise GenotypeError(f"{key}_switch: {str(source)[:60]!r} is no edge of this node")
    if len(sources) != 2 or len(set(sources)) != 2:
        raise GenotypeError(f"{key}_switch: two different edges are expected, not {sources}: CyDAS's nodes have two")
    return sources


def _operation(value: Any) -> Any:
    """CyDAS's name of an operation: of NNI's name, of its number, or of a list that is 1 or true at this number."""
    if isinstance(value, list) and len(value) in (len(CHOOSABLE), len(OPERATIONS)):
        if all(type(entry) in (bool, int) and entry in (0, 1) for entry in value) and sum(value) == 1:
            return OPERATIONS[value.index(1)]
    if type(value) is int and 0 <= value < len(CHOOSABLE):
        return CHOOSABLE[value]
    return dict(zip(NNI_NAMES, CHOOSABLE, strict=True)).get(value, value) if isinstance(value, str) else value


# -- files of Python ---------------------------------------------------------------------------------------------------


def find_genotypes(source: str) -> dict[str, str]:
    """The genotypes at the top level of a Python source, as strings by their names; "" for one without a name.

    ``NAME = Genotype(...)``, ``OTHER = NAME``, ``NAMES = {"name": Genotype(...)}``, or ``Genotype(...)`` alone. The
    source is taken apart, not run. Raises :class:`GenotypeError` where it is no Python, or has several without names.
    """
    found: dict[str, str] = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Python about escapes in strings
            statements = ast.parse(source.strip()).body
        for statement in statements:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    _assign(found, target, statement.value)
            elif isinstance(statement, ast.AnnAssign) and statement.value:
                _assign(found, statement.target, statement.value)
            elif isinstance(statement, ast.Expr) and (text := _text_of(statement.value)):
                if "" in found:
                    raise GenotypeError("several genotypes without names: NAME = Genotype(...) is expected")
                found[""] = text
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise GenotypeError(f"not Python ({error})") from None
    except ValueError as error:  # a null character
        raise error if isinstance(error, GenotypeError) else GenotypeError(f"not Python ({error})") from None
    return found


def _assign(found: dict[str, str], target: ast.expr, value: ast.expr) -> None:
    """Do in ``found`` what an assignment does: a name may stand for another, and a later value replaces one."""
    if not isinstance(target, ast.Name):
        return
    text = found.get(value.id) if isinstance(value, ast.Name) else _text_of(value)
    found.pop(target.id, None)
    if text:
        found[target.id] = text
    if isinstance(value, ast.Dict):
        for key, entry in zip(value.keys, value.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and (text := _text_of(entry)):
                found[key.value] = text


def _text_of(node: ast.expr) -> str | None:
    """A genotype as a string: of a call, or of a string that holds one."""
    if is_genotype_call(node):
        return ast.unparse(node)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lstrip().startswith("Genotype("):
        return node.value
    return None
