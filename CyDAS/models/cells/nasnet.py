"""The evaluation network's cells, and the network that is retrained from a genotype."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from CyDAS.models import checkpointing
from CyDAS.models.cells.cell_plan import Operation, plan_cell
from CyDAS.models.cells.genotype import Cell, Genotype
from CyDAS.models.cells.layout import CellShape, Layout, State, make_stem
from CyDAS.models.cells.mixed import run_cell
from CyDAS.models.cells.operations import make_operation, make_preprocessing
from CyDAS.models.heads import AuxiliaryHead, RetrainedNetwork, RetrainOutput
from CyDAS.models.modules import Modules, Stages
from CyDAS.models.total import total


class DropPath(nn.Module):
    """While training, zero the whole path of a sample with probability ``p`` and scale the others by 1 / (1 - p).

    What is kept is a tensor, so that a compiled network holds for every ``p``: only whether there is any is part of it.
    """

    def __init__(self):
        super().__init__()
        self._p = 0.0
        self._keep = torch.ones((), dtype=torch.float64)  # no buffer: checkpoints and casts do not concern it
        self.is_active = False  #: p > 0

    @property
    def p(self) -> float:
        return self._p

    @p.setter
    def p(self, probability: float) -> None:
        self._p = probability
        self._keep.fill_(1.0 - probability)
        self.is_active = probability > 0.0

    def _apply(self, fn: Callable, recurse: bool = True) -> "DropPath":
        """To another device with the rest of the network, but never to another type."""
        self._keep = torch.tensor(1.0 - self._p, dtype=torch.float64, device=fn(self._keep).device)
        return super()._apply(fn, recurse)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors(x)[:, None, None, None] if self.training and self.is_active else x

    def factors(self, x: Tensor) -> Tensor:
        """What multiplies each sample of ``x`` ([N, ...]) in training: [N], zeros and 1 / (1 - p)."""
        return torch.empty(len(x), dtype=x.dtype, device=x.device).bernoulli_(self._keep) / self._keep


class EvaluationCell(nn.Module):
    """A cell of chosen operations: every node is the plain sum of its two edges."""

    def __init__(self, shape: CellShape, cell: Cell, affine: bool):
        super().__init__()
        self.genotype = cell
        self.preproc0 = make_preprocessing(shape.c_pp, shape.channels, shape.halve_input0, affine)
        self.preproc1 = make_preprocessing(shape.c_p, shape.channels, False, affine)
        self.dag = Modules(
            Modules(
                self._edge(name, shape.channels, 2 if shape.reduction and source < 2 else 1, affine)
                for name, source in node
            )
            for node in cell
        )
        operations = [
            Operation(source, node, edge[0])
            for node, (chosen, edges) in enumerate(zip(cell, self.dag, strict=True))
            for (_, source), edge in zip(chosen, edges, strict=True)
        ]
        self._plan = plan_cell(operations, shape.channels, shape.reduction, holder=self, name="dag")

    @staticmethod
    def _edge(name: str, channels: int, stride: int, affine: bool) -> nn.Sequential:
        operation = make_operation(name, channels, stride, affine)
        return nn.Sequential(operation, *([] if isinstance(operation, nn.Identity) else [DropPath()]))

    def named_operations(self) -> Iterator[tuple[str, nn.Module]]:
        """Everything with a place in the weight pool: (key within the cell, module)."""
        yield "preproc0", self.preproc0
        yield "preproc1", self.preproc1
        for node, (chosen, edges) in enumerate(zip(self.genotype, self.dag, strict=True)):
            for (name, source), edge in zip(chosen, edges, strict=True):
                yield f"dag.{node}.{source}.{name}", edge[0]

    def forward(self, state: State) -> State:
        states = [self.preproc0(state[0]), self.preproc1(state[1])]
        if not self._plan.applies(states, self.training):
            return state[1], self._formula(states)
        weights = states[0].new_ones(self._plan.n_operations)
        return state[1], run_cell(self._plan, states, weights, self.training, self._drop_path(states[0]))

    def _formula(self, states: list[Tensor]) -> Tensor:
        """The nodes, edge by edge; where the native step does not apply."""
        for chosen, edges in zip(self.genotype, self.dag, strict=True):
            states.append(total(edge(states[source]) for (_, source), edge in zip(chosen, edges, strict=True)))
        return torch.cat(states[2:], dim=1)

    def _drop_path(self, x: Tensor) -> Tensor | None:
        """What multiplies each edge's samples, [edges, N], drawn in the formula's order; None without drop path."""
        drops = [last if isinstance(last := edge[-1], DropPath) else None for edges in self.dag for edge in edges]
        if not self.training or not any(drop and drop.is_active for drop in drops):
            return None
        return torch.stack([drop.factors(x) if drop and drop.is_active else x.new_ones(len(x)) for drop in drops])


def make_evaluation_stages(layout: Layout, genotypes: Sequence[Genotype], affine: bool) -> Stages:
    """The cells of the evaluation network: a list of stages, each a list of :class:`EvaluationCell`."""
    return Modules(
        Modules(
            EvaluationCell(shape, genotype.reduce if shape.reduction else genotype.normal, affine) for shape in stage
        )
        for stage, genotype in zip(layout.shapes(layout.evaluation_cells), genotypes, strict=True)
    )


class RetrainNetwork(RetrainedNetwork):
    """The network of a genotype (one a stage) as it is retrained: affine batch norms, drop path, auxiliary head.

    Its state dict has the layout of the published checkpoints.
    """

    def __init__(
        self, layout: Layout, genotypes: Sequence[Genotype], auxiliary: bool, grad_checkpointing: bool = False
    ):
        super().__init__()
        self.grad_checkpointing = grad_checkpointing
        self.feature_extractor = make_stem(layout)
        self.nas_layers = make_evaluation_stages(layout, genotypes, affine=True)
        self.fc: nn.Module = nn.Linear(layout.stage_output(layout.layer_num - 1)[0], layout.n_classes)
        self.aux_head: AuxiliaryHead | None = None
        if auxiliary:
            features = layout.stage_output(layout.layer_num - 2)
            self.aux_head = AuxiliaryHead(*features, layout.n_classes, layout.model_type)

    def count_parameters(self) -> int:
        """Parameters of the network that is used in the end: without the auxiliary head."""
        return sum(p.numel() for name, p in self.named_parameters() if not name.startswith("aux_head."))

    def set_drop_path(self, p: float) -> None:
        """Probability with which every chosen operation but a stride-1 skip is dropped, per sample."""
        for module in self.modules():
            if isinstance(module, DropPath):
                module.p = p

    def forward(self, x: Tensor) -> RetrainOutput:
        """``x``: [N, C, H, W]."""
        state = self.feature_extractor(x)
        auxiliary = None
        for stage, cells in enumerate(self.nas_layers):
            for cell in cells:
                state = checkpointing.run(cell, self.grad_checkpointing, state)
            if stage == len(self.nas_layers) - 2 and self.aux_head is not None and self.training:
                auxiliary = self.aux_head(state[1])
        return RetrainOutput(self.fc(state[1].mean(dim=(2, 3))), auxiliary)
