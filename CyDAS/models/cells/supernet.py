"""The search network's cells and the architecture parameters that weigh their operations."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from CyDAS.models.cells.cell_plan import Operation, plan_cell
from CyDAS.models.cells.layout import NODES, CellShape, Layout, State
from CyDAS.models.cells.mixed import run_cell
from CyDAS.models.cells.operations import OPERATIONS, make_operation, make_preprocessing
from CyDAS.models.joint import Alphas
from CyDAS.models.modules import Modules, Stages
from CyDAS.models.total import total


class StageAlphas(Modules[nn.ParameterList]):
    """The architecture parameters of one stage: alpha normal, alpha reduce, beta normal, beta reduce.

    ``alpha[i]``: [i + 2, 8], ``beta[i]``: [i + 2] for node i. A stage without a reduction cell has no use for its
    reduction alphas: they are frozen. Without ``use_beta`` the betas are equal constants, and their softmax scales
    every edge of node i by 1 / (i + 2).
    """

    def __init__(self, use_beta: bool, has_reduction: bool):
        def alphas(trained: bool) -> nn.ParameterList:
            return nn.ParameterList(
                nn.Parameter(1e-3 * torch.randn(i + 2, len(OPERATIONS)), requires_grad=trained) for i in range(NODES)
            )

        def betas(trained: bool) -> nn.ParameterList:
            initial = (1e-3 * torch.randn(i + 2) if use_beta else torch.full((i + 2,), 0.1) for i in range(NODES))
            return nn.ParameterList(nn.Parameter(beta, requires_grad=use_beta and trained) for beta in initial)

        super().__init__([alphas(True), alphas(has_reduction), betas(True), betas(has_reduction)])

    def cell(self, reduction: bool) -> tuple[nn.ParameterList, nn.ParameterList]:
        """(alphas, betas) of the stage's normal or reduction cells."""
        return self[1 if reduction else 0], self[3 if reduction else 2]


class Mixture(NamedTuple):
    """What multiplies each operation: per node a [i + 2, 8] tensor."""

    normal: list[Tensor]
    reduce: list[Tensor]


class ArchitectureParameters(Modules[StageAlphas], Alphas):
    """All architecture parameters: one :class:`StageAlphas` a stage, or one for all with ``repeat_cell``."""

    def __init__(self, layout: Layout, repeat_cell: bool, use_beta: bool):
        sets = 1 if repeat_cell else layout.layer_num
        super().__init__(StageAlphas(use_beta, repeat_cell or layout.has_reduction(stage)) for stage in range(sets))
        self.repeat_cell = repeat_cell
        self.layer_num = layout.layer_num

    def stages(self) -> list[StageAlphas]:
        """The set that each of the layer_num stages uses (the same one, repeated, with ``repeat_cell``)."""
        return [self[0 if self.repeat_cell else stage] for stage in range(self.layer_num)]

    def mixtures(self) -> list[Mixture]:
        """``softmax(alpha) * softmax(beta)`` per stage, computed once for shared sets."""
        own = [Mixture(*(edge_weights(*alphas.cell(reduction)) for reduction in (False, True))) for alphas in self]
        return own * self.layer_num if self.repeat_cell else own


def edge_weights(alphas: Iterable[Tensor], betas: Iterable[Tensor]) -> list[Tensor]:
    """Per node ``softmax(alpha)_o * softmax(beta)_j``: [i + 2, 8]. In float32 at least, also under autocast."""
    return [alpha.softmax(dim=-1) * beta.softmax(dim=-1)[:, None] for alpha, beta in zip(alphas, betas, strict=True)]


class MixedOp(nn.Module):
    """One edge of a search cell: the weighted sum of all operations on one state."""

    def __init__(self, channels: int, stride: int, affine: bool):
        super().__init__()
        self._ops = nn.ModuleList(make_operation(name, channels, stride, affine) for name in OPERATIONS)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """``weights``: [8]. The last operation, ``none``, adds zero and is not computed."""
        return total(weights[index] * op(x) for index, op in enumerate(self._ops[:-1]))


class SearchCell(nn.Module):
    """A cell whose every edge is a mixture of all operations (paper eq. 1)."""

    def __init__(self, shape: CellShape, affine: bool):
        super().__init__()
        self.reduction = shape.reduction
        self.preproc0 = make_preprocessing(shape.c_pp, shape.channels, shape.halve_input0, affine)
        self.preproc1 = make_preprocessing(shape.c_p, shape.channels, False, affine)
        self.dag = Modules(
            Modules(
                MixedOp(shape.channels, 2 if shape.reduction and source < 2 else 1, affine) for source in range(i + 2)
            )
            for i in range(NODES)
        )
        operations = [
            Operation(source, node, operation)
            for node, edges in enumerate(self.dag)
            for source, edge in enumerate(edges)
            for operation in edge._ops
        ]
        self._plan = plan_cell(operations, shape.channels, shape.reduction, holder=self, name="dag")

    def forward(self, state: State, mixture: Mixture) -> State:
        states = [self.preproc0(state[0]), self.preproc1(state[1])]
        own = mixture.reduce if self.reduction else mixture.normal
        if not (self._plan.applies(states, self.training, own) and self._fits(own)):
            return state[1], self._formula(states, own)
        weights = torch.cat([weights.flatten() for weights in own])
        return state[1], run_cell(self._plan, states, weights, self.training)

    def _fits(self, mixture: list[Tensor]) -> bool:
        """Whether there is one factor for each operation of each edge."""
        return [weights.shape for weights in mixture] == [(len(edges), len(OPERATIONS)) for edges in self.dag]

    def _formula(self, states: list[Tensor], mixture: list[Tensor]) -> Tensor:
        """The nodes, as the paper writes them; where the native step does not apply."""
        for edges, weights in zip(self.dag, mixture, strict=True):
            states.append(total(edge(s, w) for edge, s, w in zip(edges, states, weights, strict=True)))
        return torch.cat(states[2:], dim=1)


def make_search_stages(layout: Layout, affine: bool) -> Stages:
    """The cells of the search network: a list of stages, each a list of :class:`SearchCell`."""
    shapes = layout.shapes(layout.search_cells)
    return Modules(Modules(SearchCell(shape, affine) for shape in stage) for stage in shapes)
