"""The topology space of NATS-Bench: what the cyclic search needs to know of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from CyDAS.config import CommonConfig
from CyDAS.models.nats.architecture import EDGES, OPERATIONS, Architecture, parse_architecture
from CyDAS.models.nats.networks import EvaluationCell, NatsLayout, NatsNetwork, SearchCell
from CyDAS.spaces.nats_table import Entry, NatsTable
from CyDAS.spaces.table import TableSpace
from CyDAS.utils.errors import CydasError, GenotypeError
from CyDAS.utils.flags import some_of
from CyDAS.utils.plot import draw_graph

#: Flags of networks in a search that are deeper than the search network.
DEPTHS = ("evaluation_cells", "finalist_cells")


class NatsSpace(TableSpace):
    """Cells of four nodes, every pair of them joined by one of five operations; 15,625 architectures."""

    places = tuple(f"{source} → {target}" for target, source in EDGES)
    operations = OPERATIONS
    penalised = ("none",)
    search_cell = SearchCell
    evaluation_cell = EvaluationCell

    def __init__(
        self,
        layout: NatsLayout,
        *,
        table: NatsTable | None = None,
        evaluation_cells: int | None = None,
        finalist_cells: int | None = None,
        **options: bool,
    ):
        """``table``: what the benchmark knows; ``evaluation_cells``: cells of a stage of the evaluation network, where
        the search network has others; ``finalist_cells``: those of the networks that are trained by themselves, where
        the evaluation network has others; ``options``: those of :class:`TableSpace`.
        """
        super().__init__(layout, **options)
        self.evaluation_layout = replace(layout, cells_per_stage=evaluation_cells or layout.cells_per_stage)
        depth = finalist_cells or self.evaluation_layout.cells_per_stage
        self.retrain_layout = replace(layout, cells_per_stage=depth)
        self.table = table

    @classmethod
    def own_options(cls, config: CommonConfig) -> dict[str, Any]:
        path = getattr(config, "nats_table", None)
        table = NatsTable.read(path, complete=True) if path else None
        return {"table": table, **some_of(config, *DEPTHS)}

    def retrain_network(self, architecture: Architecture, auxiliary: bool) -> NatsNetwork:
        """The benchmark's network of an architecture. Raises :class:`CydasError` for an auxiliary head."""
        if auxiliary:
            raise CydasError("the networks of NATS-Bench have no auxiliary head")
        return super().retrain_network(architecture, auxiliary)

    @classmethod
    def best_operations(cls, alpha: Tensor) -> Architecture:
        """Each edge's best operation, ``none`` included. ``alpha``: [6, 5]."""
        return Architecture(super().best_operations(alpha))

    @staticmethod
    def names(architecture: Architecture) -> Sequence[str]:
        return architecture.operations

    @staticmethod
    def draw(architecture: Architecture, folder: Path, name: str) -> list[Path]:
        """A picture of the cell; edges without an operation are left out. Returns its path."""
        edges = [
            (str(source), str(target), operation)
            for (target, source), operation in zip(EDGES, architecture.operations, strict=True)
            if operation != "none"
        ]
        return [draw_graph(folder / name, edges, inputs=["0"], output="3")]

    @staticmethod
    def brief(architecture: Architecture) -> str:
        """The benchmark's form."""
        return str(architecture)

    def known(self, architecture: Architecture) -> Entry | None:
        """What the benchmark says of it; None without a table."""
        return self.table.find(architecture) if self.table else None

    @staticmethod
    def parse(entries: object, stages: int | None, source: str) -> Architecture:
        """Read ``{"0": "|op~0|+..."}`` or the bare architecture, in any form that the field writes.

        Raises :class:`CydasError` naming ``source``.
        """
        if isinstance(entries, dict):
            if list(entries) != ["0"]:
                raise CydasError(f'{source}: one architecture is expected, {{"0": "|nor_conv_3x3~0|+..."}}')
            entries = entries["0"]
        try:
            return parse_architecture(entries)
        except GenotypeError as error:
            raise CydasError(f"{source}: {error}") from None
