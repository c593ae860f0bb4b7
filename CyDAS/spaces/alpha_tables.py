"""What a search's architecture parameters say, as tables: a row an edge or a block, a column an operation."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from CyDAS.models.cells.layout import NODES
from CyDAS.models.cells.operations import OPERATIONS as CELL_OPERATIONS
from CyDAS.models.chain.alphas import ArchitectureParameters as ChainParameters
from CyDAS.models.chain.architecture import OPERATIONS as CHAIN_OPERATIONS
from CyDAS.models.chain.architecture import SEARCHED, operation_name
from CyDAS.spaces.choice import SPACES
from CyDAS.spaces.table import TableSpace


class AlphaTable(NamedTuple):
    """The weights of some choices."""

    title: str
    rows: list[str]
    columns: list[str]
    shares: Tensor  #: [rows, columns], softmax(alpha); NaN where there is no such choice


def alpha_tables(space: str, alphas: dict[str, Any]) -> list[AlphaTable]:
    """The tables of a space: none of one that is neither of ours nor a :class:`TableSpace`.

    ``alphas``: a state dict of its parameters, as lists. Raises ``ValueError``, ``KeyError`` or ``RuntimeError`` for
    another's.
    """
    tensors = {name: torch.tensor(values) for name, values in alphas.items()}
    if space in (own := {"darts": _darts, "chain": _chain}):
        return own[space](tensors)
    kind = SPACES[space]
    return _table(kind, tensors) if issubclass(kind, TableSpace) else []


def _table(space: type[TableSpace], alphas: dict[str, Tensor]) -> list[AlphaTable]:
    return [AlphaTable("operations", list(space.places), list(space.operations), alphas["alpha"].softmax(dim=1))]


def _chain(alphas: dict[str, Tensor]) -> list[AlphaTable]:
    own = ChainParameters(depth=len(alphas["0"]))
    own.load_state_dict(alphas)
    columns = [*(operation_name(operation) for operation in range(len(CHAIN_OPERATIONS))), "none"]
    shares = torch.cat(own.mixtures()).detach()
    shares[:: len(alphas["0"]), -1] = torch.nan  # a stage's first block
    rows = [f"stage {stage}, block {block}" for stage in SEARCHED for block in range(len(alphas["0"]))]
    return [AlphaTable("blocks", rows, columns, shares)]


def _darts(alphas: dict[str, Tensor]) -> list[AlphaTable]:
    """The parameters' names are stage, kind (0 normal, 1 reduction, 2 and 3 their edges' weights), node."""
    stages = sorted({int(name.split(".")[0]) for name in alphas})
    tables = []
    for stage in stages:
        for kind, title in enumerate(("normal cell", "reduction cell")):
            nodes = [alphas[f"{stage}.{kind}.{node}"] for node in range(NODES)]
            names = ["c_{k-2}", "c_{k-1}", "0", "1", "2"]
            rows = [f"{names[source]} → {node}" for node, alpha in enumerate(nodes) for source in range(len(alpha))]
            where = f"stage {stage}, {title}" if len(stages) > 1 else title
            tables.append(AlphaTable(where, rows, list(CELL_OPERATIONS), torch.cat(nodes).softmax(dim=1)))
    return tables
