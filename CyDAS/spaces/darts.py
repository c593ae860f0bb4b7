"""The DARTS cell space: what the cyclic search needs to know of it."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from CyDAS.config import FOLDER_PIXELS, CommonConfig
from CyDAS.data import LabelledImages
from CyDAS.models.cells.genotype import (
    CHOOSABLE,
    Cell,
    Genotype,
    count_operations,
    discretise,
    make_genotype,
)
from CyDAS.models.cells.genotype_forms import is_cell, read_cell
from CyDAS.models.cells.layout import NODES, Layout, make_stem
from CyDAS.models.cells.nasnet import RetrainNetwork, make_evaluation_stages
from CyDAS.models.cells.operations import PARAMETER_FREE
from CyDAS.models.cells.supernet import ArchitectureParameters, StageAlphas, make_search_stages
from CyDAS.models.heads import DistillationHead, MeanClassifier
from CyDAS.models.joint import JOINT_OPTIONS, JointNetwork
from CyDAS.models.modules import Modules
from CyDAS.models.total import total
from CyDAS.runs.weights import check_finite
from CyDAS.spaces.base import SearchSpace, least_decided_first
from CyDAS.utils.errors import CydasError, GenotypeError
from CyDAS.utils.flags import some_of
from CyDAS.utils.plot import draw_graph

#: An architecture of this space: the genotype of each stage.
Architecture = list[Genotype]
#: A chosen edge: (stage, 1 for the reduction cell, node, which of the node's two).
Place = tuple[int, int, int, int]
#: The two networks of a search in it.
Joint = JointNetwork[ArchitectureParameters]


def make_layout(config: CommonConfig, data: LabelledImages) -> Layout:
    """The networks' shape for the flags and the data set. Raises :class:`CydasError` where there is none.

    Where no ``model_type`` was given, the one that is taken is put into ``config``: records and checkpoints hold it.
    """
    if config.model_type is None:
        config.model_type = "imagenet" if data.image_size == FOLDER_PIXELS else "cifar"

    def layout(model_type: str) -> Layout:
        return Layout(
            model_type=model_type,
            init_channels=config.init_channels,
            stem_multiplier=config.stem_multiplier,
            layer_num=config.layer_num,
            n_classes=data.n_classes,
            input_channels=data.input_channels,
            image_size=data.image_size,
            res_stem=config.res_stem,
        )

    try:
        return layout(config.model_type)
    except ValueError as error:
        raise CydasError(f"{error}{_other_type(layout, config.model_type)}") from None


def _other_type(layout: Callable[[str], Layout], model_type: str) -> str:
    """Advice where the other macro-structure would do."""
    other = "cifar" if model_type == "imagenet" else "imagenet"
    try:
        layout(other)
    except ValueError:
        return ""
    return f"; or --model_type {other}, which can be built"


class DartsSpace(SearchSpace):
    """Cells of four nodes with two chosen operations each (Liu et al. 2019; paper section 4.1)."""

    sizes = ("model_type", "init_channels", "stem_multiplier", "layer_num", "res_stem")
    shortcut = CHOOSABLE.index("skip_connect")

    def __init__(
        self,
        layout: Layout,
        *,
        repeat_cell: bool = False,
        use_beta: bool = False,
        bn_affine: bool = False,
        grad_checkpointing: bool = False,
        **joint_options: bool,
    ):
        """``joint_options``: flags of :class:`JointNetwork`."""
        self.layout = layout
        self.repeat_cell = repeat_cell
        self.use_beta = use_beta
        self.bn_affine = bn_affine
        self.grad_checkpointing = grad_checkpointing
        self.joint_options = {"grad_checkpointing": grad_checkpointing, **joint_options}

    @classmethod
    def from_config(cls, config: CommonConfig, data: LabelledImages) -> "DartsSpace":
        """The space for the flags of any program. Raises :class:`CydasError` where they make none."""
        return cls(make_layout(config, data), **some_of(config, "repeat_cell", "use_beta", "bn_affine", *JOINT_OPTIONS))

    def build(self) -> Joint:
        """Both networks; the evaluation network has no cells until :meth:`set_evaluation`."""
        layout = self.layout
        inner_stages = (layout.layer_num - 3, layout.layer_num - 2)
        return JointNetwork(
            make_stem(layout),
            make_search_stages(layout, affine=False),
            ArchitectureParameters(layout, self.repeat_cell, self.use_beta),
            {stage: DistillationHead(*layout.stage_output(stage), layout.n_classes) for stage in inner_stages},
            partial(MeanClassifier, layout.stage_output(layout.layer_num - 1)[0], layout.n_classes),
            **self.joint_options,
        )

    @torch.no_grad()
    def discretise(self, joint: Joint) -> Architecture:
        """The architecture that the search network now prefers. Raises :class:`CydasError` for alphas not finite."""
        check_finite(joint.super_layers_arch.state_dict(), "no cell can be read off the architecture parameters")
        own = discretise_stages(joint.super_layers_arch)
        return own * self.layout.layer_num if self.repeat_cell else own

    def changes(self, joint: Joint) -> list[tuple[Place, int]]:
        """The places are the edges that are chosen: they stay, and only their operations change.

        Those of the cell that a network has most of come first, as most depends on them.
        """
        rows = []
        stages = joint.super_layers_arch  # with repeat_cell there is one, for all of them
        for stage, (alphas, genotype) in enumerate(zip(stages, discretise_stages(stages), strict=True)):
            for reduction, cell in enumerate((genotype.normal, genotype.reduce)):
                for node, (edges, alpha) in enumerate(zip(cell, alphas.cell(bool(reduction))[0], strict=True)):
                    if alpha.requires_grad:  # the cell is there
                        weights = alpha.double().softmax(dim=1)[:, : len(CHOOSABLE)]
                        rows += [((stage, reduction, node, i), weights[source]) for i, (_, source) in enumerate(edges)]
        often = self._cells_of()
        return sorted(least_decided_first(rows), key=lambda change: -often[change[0][:2]])

    def _cells_of(self) -> Counter[tuple[int, int]]:
        """How many cells of a network are made of each (stage, reduction) that is searched."""
        shapes = self.layout.shapes(self.layout.evaluation_cells)
        return Counter(
            (0 if self.repeat_cell else stage, int(shape.reduction))
            for stage, own in enumerate(shapes)
            for shape in own
        )

    def changed(self, architecture: Architecture, place: Place, operation: int) -> Architecture:
        at, reduction, node, position = place
        own = []
        for stage, genotype in enumerate(architecture):
            cells: list[Cell] = [[list(edges) for edges in cell] for cell in (genotype.normal, genotype.reduce)]
            if stage == at or self.repeat_cell:
                source = cells[reduction][node][position][1]
                cells[reduction][node][position] = CHOOSABLE[operation], source
            own.append(make_genotype(*cells))
        return own

    def set_evaluation(self, joint: Joint, architecture: Architecture) -> None:
        """Give the joint network a freshly initialised evaluation network of this architecture."""
        joint.set_evaluation(make_evaluation_stages(self.layout, architecture, self.bn_affine))

    def retrain_network(self, architecture: Architecture, auxiliary: bool) -> RetrainNetwork:
        """The network of an architecture as it is trained by itself."""
        return RetrainNetwork(self.layout, architecture, auxiliary, self.grad_checkpointing)

    def regulariser(self, joint: Joint) -> Tensor:
        """L1 norm of the raw alphas of the operations without weights, over all edges of all stages' cells."""
        first = len(PARAMETER_FREE)  # they are the first columns; a list of columns would have to go to the device
        return total(
            alpha[:, :first].abs().sum()
            for stage in joint.super_layers_arch.stages()
            for reduction in (False, True)
            for alpha in stage.cell(reduction)[0]
        )

    @torch.no_grad()
    def alpha_entropy(self, joint: Joint) -> float:
        """Mean entropy of the edges' softmax(alpha) as a share of its maximum: 1 undecided, 0 decided."""
        alphas = [a for stage in joint.super_layers_arch for r in (False, True) for a in stage.cell(r)[0]]
        p = torch.cat([alpha.softmax(dim=-1) for alpha in alphas])
        return float(torch.special.entr(p).sum(dim=-1).mean() / math.log(p.shape[-1]))

    @staticmethod
    def describe(architecture: Architecture) -> dict[str, int]:
        """How often each operation stands in the cells; identical stages count once."""
        return count_operations(distinct_stages(architecture))

    @staticmethod
    def draw(architecture: Architecture, folder: Path, name: str) -> list[Path]:
        """A picture of the normal and the reduction cell, of each stage where stages differ. Returns their paths."""
        return draw_cells(architecture, folder, name)

    @staticmethod
    def to_strings(architecture: Sequence[Genotype]) -> dict[str, str]:
        """The published form, one string a stage."""
        return {str(stage): repr(genotype) for stage, genotype in enumerate(architecture)}

    @staticmethod
    def brief(architecture: Architecture) -> str:
        """The first stage's cell, on one line."""
        return repr(architecture[0])

    @staticmethod
    def parse(entries: object, stages: int | None, source: str) -> Architecture:
        """Read :meth:`to_strings`'s form, or one genotype for all stages in any form that :func:`read_cell` reads.

        Raises :class:`CydasError` naming ``source`` and the stage that is wrong.
        """
        return parse_architecture(entries, stages, source)

    @staticmethod
    def preferred(alphas: dict[str, Tensor], state: dict[str, Any] | None = None) -> Architecture:
        """What the state dict of a search's architecture parameters prefers. Raises ``RuntimeError`` for another."""
        own = Modules(StageAlphas(True, True) for _ in {key.partition(".")[0] for key in alphas})
        own.load_state_dict(alphas)
        return discretise_stages(own)


@torch.no_grad()
def discretise_stages(stages: Iterable[StageAlphas]) -> Architecture:
    """The genotype that each stage's alphas prefer."""
    return [make_genotype(discretise(*alphas.cell(False)), discretise(*alphas.cell(True))) for alphas in stages]


def parse_architecture(entries: object, stages: int | None, source: str) -> Architecture:
    """Read ``{"0": "Genotype(...)", ...}``. Cells that are alike in all stages fit networks of any number of stages.

    ``stages``: of the network; None takes those that there are. Raises :class:`CydasError` naming ``source`` and the
    stage that is wrong.
    """
    if is_cell(entries):
        try:
            return [read_cell(entries)] * (stages or 1)
        except GenotypeError as error:
            raise CydasError(f"{source}: {error}") from None
    if not isinstance(entries, dict) or not entries:
        raise CydasError(f'{source}: one genotype per stage is expected, {{"0": "Genotype(...)", ...}}')
    if set(entries) != {str(stage) for stage in range(len(entries))}:
        raise CydasError(f"{source}: stages must be numbered from 0, not {', '.join(map(repr, list(entries)[:8]))}")
    architecture = []
    for stage in range(len(entries)):
        try:
            architecture.append(read_cell(entries[str(stage)]))
        except GenotypeError as error:
            raise CydasError(f"{source}, stage {stage}: {error}") from None
    if stages is None or len(architecture) == stages:
        return architecture
    if all(genotype == architecture[0] for genotype in architecture):
        return architecture[:1] * stages
    raise CydasError(f"{source}: it has {len(architecture)} different stages, the network has {stages} (--layer_num)")


def distinct_stages(architecture: Architecture) -> Architecture:
    """One genotype where all stages are alike."""
    return architecture[:1] if all(genotype == architecture[0] for genotype in architecture) else architecture


def draw_cells(architecture: Architecture, folder: Path, name: str) -> list[Path]:
    """``folder/name_normal.png`` and ``folder/name_reduce.png``, with the stage's number where stages differ."""
    distinct, written = distinct_stages(architecture), []
    for stage, genotype in enumerate(distinct):
        where = f"{name}_stage{stage}" if len(distinct) > 1 else name
        written.append(draw_cell(genotype.normal, folder / f"{where}_normal"))
        written.append(draw_cell(genotype.reduce, folder / f"{where}_reduce"))
    return written


def draw_cell(cell: Cell, path: Path) -> Path:
    names = ["c_{k-2}", "c_{k-1}", *map(str, range(NODES))]
    edges = [(names[source], str(node), op) for node, chosen in enumerate(cell) for op, source in chosen]
    edges += [(str(node), "c_{k}", "") for node in range(NODES)]
    return draw_graph(path, edges, inputs=names[:2], output="c_{k}")
