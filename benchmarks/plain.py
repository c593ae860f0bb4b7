"""The same mathematics without any of CyDAS's speed: one module per edge and operation, NCHW, as the formulas read.

What ``speed.py`` compares CyDAS with. The operations are written out here, not taken from the package, so that nobody
who makes those faster moves the mark as well. Parameters have the same names, so that state dicts go over as they are,
and ``tests/test_equivalence.py`` runs the reference values over these networks too.
"""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.updates import ValLosses
from CyDAS.models.cells.genotype import Cell, Genotype
from CyDAS.models.cells.layout import CellShape, Layout, State
from CyDAS.models.cells.nasnet import DropPath, RetrainNetwork
from CyDAS.models.cells.operations import OPERATIONS
from CyDAS.models.cells.supernet import Mixture
from CyDAS.models.joint import JointNetwork
from CyDAS.models.modules import Modules, Stages
from CyDAS.models.nats import architecture as nats_architecture
from CyDAS.models.nats import networks as nats
from CyDAS.spaces import DartsSpace, NatsSpace
from CyDAS.spaces.darts import Architecture
from CyDAS.tasks.classification import retrain_loss


class Zero(nn.Module):
    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class StdConv(nn.Module):
    def __init__(self, c_in: int, c_out: int, affine: bool):
        super().__init__()
        convolution = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.net = nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(c_out, affine=affine))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class FactorizedReduce(nn.Module):
    def __init__(self, c_in: int, c_out: int, affine: bool):
        super().__init__()
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.conv2 = nn.Conv2d(c_in, c_out // 2, 1, stride=2, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        return self.bn(torch.cat([self.conv1(x), self.conv2(x[:, :, 1:, 1:])], dim=1))


class DilConv(nn.Module):
    def __init__(self, channels: int, kernel: int, stride: int, dilation: int, affine: bool):
        super().__init__()
        padding = dilation * (kernel - 1) // 2
        self.net = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class SepConv(nn.Module):
    def __init__(self, channels: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        first, second = (DilConv(channels, kernel, s, 1, affine) for s in (stride, 1))
        self.net = nn.Sequential(first, second)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def make_operation(name: str, c: int, stride: int, affine: bool) -> nn.Module:
    operations: dict[str, Callable[[], nn.Module]] = {
        "none": lambda: Zero(stride),
        "max_pool_3x3": lambda: nn.MaxPool2d(3, stride, padding=1),
        "avg_pool_3x3": lambda: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
        "skip_connect": lambda: nn.Identity() if stride == 1 else FactorizedReduce(c, c, affine),
        "sep_conv_3x3": lambda: SepConv(c, 3, stride, affine),
        "sep_conv_5x5": lambda: SepConv(c, 5, stride, affine),
        "dil_conv_3x3": lambda: DilConv(c, 3, stride, 2, affine),
        "dil_conv_5x5": lambda: DilConv(c, 5, stride, 2, affine),
    }
    return operations[name]()


class MixedOp(nn.Module):
    """sum_o weight_o * o(x), all eight operations."""

    def __init__(self, channels: int, stride: int, affine: bool):
        super().__init__()
        self._ops = nn.ModuleList(make_operation(name, channels, stride, affine) for name in OPERATIONS)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(weight * operation(x) for weight, operation in zip(weights, self._ops, strict=True))


def preprocessings(shape: CellShape, affine: bool) -> tuple[nn.Module, nn.Module]:
    first = (FactorizedReduce if shape.halve_input0 else StdConv)(shape.c_pp, shape.channels, affine)
    return first, StdConv(shape.c_p, shape.channels, affine)


class SearchCell(nn.Module):
    def __init__(self, shape: CellShape, affine: bool):
        super().__init__()
        self.reduction = shape.reduction
        self.preproc0, self.preproc1 = preprocessings(shape, affine)
        self.dag = Modules(
            Modules(
                MixedOp(shape.channels, 2 if shape.reduction and source < 2 else 1, affine) for source in range(i + 2)
            )
            for i in range(4)
        )

    def forward(self, state: State, mixture: Mixture) -> State:
        states = [self.preproc0(state[0]), self.preproc1(state[1])]
        for edges, weights in zip(self.dag, mixture.reduce if self.reduction else mixture.normal, strict=True):
            states.append(sum(edge(s, w) for edge, s, w in zip(edges, states, weights, strict=True)))
        return state[1], torch.cat(states[2:], dim=1)


class EvaluationCell(nn.Module):
    def __init__(self, shape: CellShape, cell: Cell, affine: bool):
        super().__init__()
        self.genotype = cell
        self.preproc0, self.preproc1 = preprocessings(shape, affine)
        self.dag: Stages = Modules()
        for node in cell:
            self.dag.append(Modules())
            for name, source in node:
                stride = 2 if shape.reduction and source < 2 else 1
                operation = make_operation(name, shape.channels, stride, affine)
                dropped = [] if isinstance(operation, nn.Identity) else [DropPath()]
                self.dag[-1].append(nn.Sequential(operation, *dropped))

    def forward(self, state: State) -> State:
        states = [self.preproc0(state[0]), self.preproc1(state[1])]
        for chosen, edges in zip(self.genotype, self.dag, strict=True):
            states.append(sum(edge(states[source]) for (_, source), edge in zip(chosen, edges, strict=True)))
        return state[1], torch.cat(states[2:], dim=1)


def evaluation_stages(layout: Layout, architecture: Sequence[Genotype], affine: bool) -> Stages:
    shapes = layout.shapes(layout.evaluation_cells)
    return Modules(
        Modules(EvaluationCell(s, g.reduce if s.reduction else g.normal, affine) for s in stage)
        for stage, g in zip(shapes, architecture, strict=True)
    )


class PlainSpace(DartsSpace):
    """The DARTS space with plain cells in both networks."""

    def build(self) -> JointNetwork:
        joint = super().build()
        shapes = self.layout.shapes(self.layout.search_cells)
        joint.super_layers = Modules(Modules(SearchCell(shape, affine=False) for shape in stage) for stage in shapes)
        return joint

    def set_evaluation(self, joint: JointNetwork, architecture: Architecture) -> None:
        joint.set_evaluation(evaluation_stages(self.layout, architecture, self.bn_affine))


class NorConv(nn.Module):
    """ReLU, convolution, batch norm."""

    def __init__(self, channels: int, kernel: int, affine: bool):
        super().__init__()
        convolution = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False)
        self.op = nn.Sequential(nn.ReLU(), convolution, nn.BatchNorm2d(channels, affine=affine))

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


def make_nats_operation(name: str, channels: int, affine: bool) -> nn.Module:
    operations: dict[str, Callable[[], nn.Module]] = {
        "none": lambda: Zero(1),
        "skip_connect": nn.Identity,
        "nor_conv_1x1": lambda: NorConv(channels, 1, affine),
        "nor_conv_3x3": lambda: NorConv(channels, 3, affine),
        "avg_pool_3x3": lambda: nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    }
    return operations[name]()


class NatsSearchCell(nn.Module):
    def __init__(self, channels: int, affine: bool):
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                edge: nn.ModuleList(
                    make_nats_operation(name, channels, affine) for name in nats_architecture.OPERATIONS
                )
                for edge in nats_architecture.EDGE_NAMES
            }
        )

    def forward(self, state: tuple[Tensor], mixture: Tensor) -> tuple[Tensor]:
        nodes = [state[0]]
        rows = iter(mixture)
        for target in range(1, 4):
            total: Any = 0.0
            for source in range(target):
                weights, operations = next(rows), cast(nn.ModuleList, self.edges[f"{target}<-{source}"])
                total = total + sum(w * o(nodes[source]) for w, o in zip(weights, operations, strict=True))
            nodes.append(total)
        return (nodes[3],)


class NatsEvaluationCell(nn.Module):
    def __init__(self, channels: int, architecture: nats_architecture.Architecture, affine: bool):
        super().__init__()
        self.architecture = architecture
        self.layers = nn.ModuleList(make_nats_operation(name, channels, affine) for name in architecture.operations)

    def forward(self, state: tuple[Tensor]) -> tuple[Tensor]:
        nodes = [state[0]]
        layers = iter(self.layers)
        for target in range(1, 4):
            nodes.append(sum(next(layers)(nodes[source]) for source in range(target)))
        return (nodes[3],)


class PlainNatsSpace(NatsSpace):
    """The NATS-Bench space with plain cells in both networks."""

    def build(self) -> JointNetwork:
        joint = super().build()
        joint.super_layers = nats.make_stages(self.layout, NatsSearchCell, self.bn_affine)
        return joint

    def set_evaluation(self, joint: JointNetwork, architecture: nats_architecture.Architecture) -> None:
        joint.set_evaluation(nats.make_stages(self.layout, NatsEvaluationCell, architecture, True))


class PlainRetrainNetwork(RetrainNetwork):
    """The network of a genotype, of plain cells."""

    def __init__(self, layout: Layout, genotypes: Sequence[Genotype], auxiliary: bool):
        super().__init__(layout, genotypes, auxiliary)
        self.nas_layers = evaluation_stages(layout, genotypes, affine=True)


class PlainSearch(CyclicSearch):
    """Search steps with a backward pass through everything, as they are usually written."""

    def val_update(self, x: Tensor, y: Tensor, epoch: int) -> tuple[ValLosses, dict[str, Tensor]]:
        losses, figures = self.val_losses(x, y, epoch)
        norm = self._step(losses.total, ("evaluation", "alphas"), (self.optimisers.nas, self.optimisers.alpha))
        return losses, figures | {"val/gradient_norm": norm}

    def train_update(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        loss = nn.functional.cross_entropy(self.joint(x, evaluation=False, heads=False).search.logits, y)
        norm = self._step(loss, ("search",), (self.optimisers.w,))
        return {"train/loss_search": loss, "train/gradient_norm": norm}

    def _step(self, loss: Tensor, roles: Sequence[str], optimisers: Sequence[torch.optim.Optimizer]) -> Tensor:
        self.joint.zero_grad()
        loss.backward()
        parameters = [p for role in roles for p in self.joint.parameters_of(role)]
        norm = clip_grad_norm_(parameters, self.config.w_grad_clip)
        for optimiser in optimisers:
            optimiser.step()
        return norm


def retrain_step(network: nn.Module, optimiser: torch.optim.Optimizer, x: Tensor, y: Tensor, clip: float) -> Tensor:
    """One update of a retrained network: auxiliary head 0.4, no label smoothing. Returns the loss."""
    optimiser.zero_grad()
    loss = retrain_loss(network(x), y, 0.0, 0.4)
    loss.backward()
    clip_grad_norm_(network.parameters(), clip)
    optimiser.step()
    return loss
