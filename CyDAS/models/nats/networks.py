"""The cells and networks of NATS-Bench's topology space (Dong et al. 2021, also NAS-Bench-201).

A cell is the complete graph of four nodes; node i is the sum over j < i of one operation on node j, and the last node
is the output. Module names follow the layout of the published checkpoints.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from CyDAS.models import checkpointing
from CyDAS.models.cells.cell_plan import CellPlan, Operation, plan_cell
from CyDAS.models.cells.layout import nearest_sizes
from CyDAS.models.cells.mixed import run_cell
from CyDAS.models.cells.operations import ConvUnit, Zero
from CyDAS.models.heads import RetrainedNetwork, RetrainOutput
from CyDAS.models.joint import Alphas
from CyDAS.models.modules import Modules, Stages
from CyDAS.models.nats.architecture import EDGE_NAMES, EDGES, OPERATIONS, Architecture
from CyDAS.models.total import total

#: Stages of the networks.
STAGES = 3

#: What a cell passes on: its output, [N, C, H, W].
State = tuple[Tensor]


@dataclass(frozen=True)
class NatsLayout:
    """The macro-structure: three stages of cells with residual blocks, which halve and widen, between them.

    Raises ``ValueError`` where no network of this shape exists.
    """

    init_channels: int = 16  #: channels of the first stage
    cells_per_stage: int = 5
    n_classes: int = 10
    input_channels: int = 3
    image_size: int = 32  #: height and width of an image, pixels

    def __post_init__(self):
        for name in ("init_channels", "cells_per_stage", "n_classes", "input_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.image_size % 4 or self.image_size < 8:
            raise ValueError(
                f"image_size must be a multiple of 4 and at least 8, not {self.image_size}: "
                f"{nearest_sizes(self.image_size, 4, 8)}"
            )

    def channels(self, stage: int) -> int:
        """Channels of the stage's cells; stages count from 0."""
        return self.init_channels * 2**stage

    def stage_output(self, stage: int) -> tuple[int, int]:
        """(channels, height = width) of a stage's last block."""
        last = min(stage + 1, STAGES - 1)
        return self.channels(last), self.image_size // 2**last


def make_operation(name: str, channels: int, affine: bool) -> nn.Module:
    """Build one of :data:`OPERATIONS` on ``channels`` channels, stride 1. Raises ``ValueError`` for another name."""
    match name:
        case "none":
            return Zero(1)
        case "skip_connect":
            return nn.Identity()
        case "nor_conv_1x1":
            return ConvUnit(channels, channels, 1, 1, affine)
        case "nor_conv_3x3":
            return ConvUnit(channels, channels, 3, 1, affine)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
    raise ValueError(f"unknown operation {name!r}; known: {', '.join(OPERATIONS)}")


def _make_plan(edges: Iterable[Iterable[nn.Module]], channels: int, cell: nn.Module, name: str) -> CellPlan:
    """The plan of a cell with these operations, its child ``name``, on each of :data:`EDGES`.

    Node 1 is the native step's first node.
    """
    operations = [
        Operation(source and source + 1, target - 1, operation)
        for (target, source), choices in zip(EDGES, edges, strict=True)
        for operation in choices
    ]
    return plan_cell(operations, channels, reduction=False, outputs=1, holder=cell, name=name)


class SearchCell(nn.Module):
    """A cell whose every edge is a mixture of all operations."""

    def __init__(self, channels: int, affine: bool):
        super().__init__()
        edges = {edge: Modules(make_operation(name, channels, affine) for name in OPERATIONS) for edge in EDGE_NAMES}
        self.edges = nn.ModuleDict(edges)
        self._plan = _make_plan(edges.values(), channels, self, "edges")

    def forward(self, state: State, mixture: Tensor) -> State:
        """``mixture``: [6, 5], what multiplies each edge's operations."""
        x = state[0]
        if self._plan.applies(x, self.training, [mixture]) and mixture.shape == (len(EDGES), len(OPERATIONS)):
            return (run_cell(self._plan, [x], mixture.flatten(), self.training),)
        nodes = [x]
        for target in range(1, 4):
            edges = [(index, source) for index, (at, source) in enumerate(EDGES) if at == target]
            nodes.append(total(self._edge(index, nodes[source], mixture[index]) for index, source in edges))
        return (nodes[-1],)

    def _edge(self, index: int, x: Tensor, weights: Tensor) -> Tensor:
        """One edge, as the paper writes it; ``none`` adds zero and is not computed."""
        operations = cast(nn.ModuleList, self.edges[EDGE_NAMES[index]])
        return total(weights[column] * operations[column](x) for column in range(1, len(OPERATIONS)))


class EvaluationCell(nn.Module):
    """A cell of chosen operations."""

    def __init__(self, channels: int, architecture: Architecture, affine: bool):
        super().__init__()
        self.architecture = architecture
        self.layers = nn.ModuleList(make_operation(name, channels, affine) for name in architecture.operations)
        self._plan = _make_plan([[layer] for layer in self.layers], channels, self, "layers")

    def named_operations(self) -> Iterator[tuple[str, nn.Module]]:
        """Everything with a place in the weight pool: (key within the cell, module)."""
        for edge, name, layer in zip(EDGE_NAMES, self.architecture.operations, self.layers, strict=True):
            yield f"{edge}.{name}", layer

    def forward(self, state: State) -> State:
        x = state[0]
        if self._plan.applies(x, self.training):
            return (run_cell(self._plan, [x], x.new_ones(self._plan.n_operations), self.training),)
        nodes = [x]
        for target in range(1, 4):
            edges = [(layer, source) for layer, (at, source) in zip(self.layers, EDGES, strict=True) if at == target]
            nodes.append(total(layer(nodes[source]) for layer, source in edges))
        return (nodes[-1],)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut: halves the resolution and doubles the channels between two stages."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv_a = ConvUnit(c_in, c_out, 3, 2, affine=True)
        self.conv_b = ConvUnit(c_out, c_out, 3, 1, affine=True)
        self.downsample = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(c_in, c_out, 1, bias=False))

    def named_operations(self) -> Iterator[tuple[str, nn.Module]]:
        yield from self.named_children()

    def forward(self, state: State, mixture: Tensor | None = None) -> State:
        """Takes the stage's mixture as the search cells do, and has no use for it."""
        x = state[0]
        return (self.conv_b(self.conv_a(x)) + self.downsample(x),)


class Stem(nn.ModuleList):
    """The first convolution: ``[N, C_in, H, W]`` to the first cell's state."""

    def __init__(self, layout: NatsLayout):
        convolution = nn.Conv2d(layout.input_channels, layout.init_channels, 3, padding=1, bias=False)
        super().__init__([nn.Sequential(convolution, nn.BatchNorm2d(layout.init_channels))])

    def forward(self, x: Tensor) -> State:
        return (self[0](x),)


def make_stages(layout: NatsLayout, make_cell: type[nn.Module], *arguments: object) -> Stages:
    """Three stages of ``make_cell(channels, *arguments)``, a residual block at the end of the first two."""
    stages: Stages = Modules()
    for stage in range(STAGES):
        channels = layout.channels(stage)
        blocks = [make_cell(channels, *arguments) for _ in range(layout.cells_per_stage)]
        if stage < STAGES - 1:
            blocks.append(ResidualBlock(channels, 2 * channels))
        stages.append(Modules(blocks))
    return stages


class ArchitectureParameters(Alphas):
    """``alpha``: [edges, operations], [6, 5] in NATS-Bench, one row an edge, shared by all cells."""

    def __init__(self, edges: int = len(EDGES), operations: int = len(OPERATIONS)):
        super().__init__()
        self.alpha = nn.Parameter(1e-3 * torch.randn(edges, operations))

    def mixtures(self) -> list[Tensor]:
        """``softmax(alpha)`` for each stage. In float32 at least, also under autocast."""
        return [self.alpha.softmax(dim=-1)] * STAGES


class NatsNetwork(RetrainedNetwork):
    """The benchmark's own network of an architecture: batch norm and ReLU before the pooling, no auxiliary head."""

    def __init__(
        self, layout: NatsLayout, architecture: Any, grad_checkpointing: bool = False, make_cell: type = EvaluationCell
    ):
        """``make_cell``: of another space's ``architecture``."""
        super().__init__()
        self.grad_checkpointing = grad_checkpointing
        features = layout.channels(STAGES - 1)
        self.feature_extractor = Stem(layout)
        self.nas_layers = make_stages(layout, make_cell, architecture, True)
        self.lastact = nn.Sequential(nn.BatchNorm2d(features), nn.ReLU())
        self.fc: nn.Module = nn.Linear(features, layout.n_classes)

    def set_drop_path(self, p: float) -> None:
        """The benchmark's recipe has no drop path."""

    def forward(self, x: Tensor) -> RetrainOutput:
        """``x``: [N, C, H, W]."""
        state = self.feature_extractor(x)
        for stage in self.nas_layers:
            for block in stage:
                state = checkpointing.run(block, self.grad_checkpointing, state)
        return RetrainOutput(self.fc(self.lastact(state[0]).mean(dim=(2, 3))), None)
