"""The topology space of NATS-Bench: what the cyclic search needs to know of it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from CyDAS.config import CommonConfig
from CyDAS.data import LabelledImages
from CyDAS.models.heads import DistillationHead, MeanClassifier
from CyDAS.models.joint import JOINT_OPTIONS, JointNetwork
from CyDAS.models.nats.architecture import EDGES, OPERATIONS, Architecture, parse_architecture
from CyDAS.models.nats.networks import (
    STAGES,
    ArchitectureParameters,
    EvaluationCell,
    NatsLayout,
    NatsNetwork,
    SearchCell,
    Stem,
    make_stages,
)
from CyDAS.runs.weights import check_finite
from CyDAS.spaces.base import SearchSpace
from CyDAS.spaces.nats_table import Entry, NatsTable, summarise
from CyDAS.spaces.penalty import Progress, falling_penalty, strength_at
from CyDAS.utils.errors import CydasError, GenotypeError
from CyDAS.utils.flags import some_of
from CyDAS.utils.plot import draw_graph

#: The two networks of a search in this space.
Joint = JointNetwork[ArchitectureParameters]
#: Flags of the DARTS cells that mean nothing here.
FOREIGN = ("use_beta", "repeat_cell", "res_stem")


class NatsSpace(SearchSpace):
    """Cells of four nodes, every pair of them joined by one of five operations; 15,625 architectures."""

    def __init__(
        self,
        layout: NatsLayout,
        *,
        bn_affine: bool = False,
        grad_checkpointing: bool = False,
        table: NatsTable | None = None,
        evaluation_cells: int | None = None,
        **joint_options: bool,
    ):
        """``table``: what the benchmark knows; ``evaluation_cells``: cells of a stage of the evaluation network, where
        the search network has others; ``joint_options``: flags of :class:`JointNetwork`.
        """
        self.layout = layout
        self.evaluation_layout = replace(layout, cells_per_stage=evaluation_cells or layout.cells_per_stage)
        self.table = table
        self.bn_affine = bn_affine
        self.grad_checkpointing = grad_checkpointing
        self.joint_options = {"grad_checkpointing": grad_checkpointing, **joint_options}

    @classmethod
    def from_config(cls, config: CommonConfig, data: LabelledImages) -> "NatsSpace":
        """The space for the flags of any program. Raises :class:`CydasError` where they make none."""
        for name in FOREIGN:
            if getattr(config, name, False):
                raise CydasError(f"--{name} belongs to the DARTS cells: leave it out with --space nats")
        if config.layer_num != STAGES or config.model_type == "imagenet":
            raise CydasError(f"--space nats has {STAGES} stages of the CIFAR kind: no other --layer_num, --model_type")
        try:
            layout = NatsLayout(
                init_channels=config.init_channels,
                cells_per_stage=config.cells_per_stage,
                n_classes=data.n_classes,
                input_channels=data.input_channels,
                image_size=data.image_size,
            )
        except ValueError as error:
            raise CydasError(str(error)) from None
        path = getattr(config, "nats_table", None)
        table = NatsTable.read(path, complete=True) if path else None
        return cls(layout, table=table, **some_of(config, "bn_affine", "evaluation_cells", *JOINT_OPTIONS))

    def build(self) -> Joint:
        """Both networks; the evaluation network has no cells until :meth:`set_evaluation`."""
        layout = self.layout
        return JointNetwork(
            Stem(layout),
            make_stages(layout, SearchCell, self.bn_affine),
            ArchitectureParameters(),
            {
                stage: DistillationHead(*layout.stage_output(stage), layout.n_classes, self.bn_affine)
                for stage in range(STAGES - 1)
            },
            partial(MeanClassifier, layout.channels(STAGES - 1), layout.n_classes),
            **self.joint_options,
        )

    @torch.no_grad()
    def discretise(self, joint: Joint) -> Architecture:
        """The architecture that the search network now prefers: each edge's best operation, ``none`` included.

        Raises :class:`CydasError` for alphas that are not finite.
        """
        check_finite(joint.super_layers_arch.state_dict(), "no cell can be read off the architecture parameters")
        return best_operations(joint.super_layers_arch.alpha)

    def set_evaluation(self, joint: Joint, architecture: Architecture) -> None:
        """Give the joint network a freshly initialised evaluation network of this architecture."""
        joint.set_evaluation(make_stages(self.evaluation_layout, EvaluationCell, architecture, True))

    def retrain_network(self, architecture: Architecture, auxiliary: bool) -> NatsNetwork:
        """The benchmark's network of an architecture. Raises :class:`CydasError` for an auxiliary head."""
        if auxiliary:
            raise CydasError("the networks of NATS-Bench have no auxiliary head")
        return NatsNetwork(self.evaluation_layout, architecture, self.grad_checkpointing)

    def penalty(self, joint: Joint, progress: Progress) -> Tensor:
        """:meth:`regulariser`, falling to nothing over the first cycles."""
        return falling_penalty(joint, progress, self.regulariser)

    @staticmethod
    def penalty_constants(progress: Progress) -> float:
        """What the penalty computes with beside tensors."""
        return strength_at(progress)

    def regulariser(self, joint: Joint) -> Tensor:
        """Mean of the absolute raw alphas of ``none``."""
        return joint.super_layers_arch.alpha[:, OPERATIONS.index("none")].abs().mean()

    @torch.no_grad()
    def alpha_entropy(self, joint: Joint) -> float:
        """Mean entropy of the edges' softmax(alpha) as a share of its maximum: 1 undecided, 0 decided."""
        p = joint.super_layers_arch.alpha.softmax(dim=-1)
        return float(torch.special.entr(p).sum(dim=-1).mean() / math.log(p.shape[-1]))

    @staticmethod
    def describe(architecture: Architecture) -> dict[str, int]:
        """How often each operation stands in the cell."""
        counts = Counter(architecture.operations)
        return {name: counts[name] for name in OPERATIONS}

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
    def to_strings(architecture: Architecture) -> dict[str, str]:
        """The benchmark's form; all stages have one cell."""
        return {"0": str(architecture)}

    @staticmethod
    def brief(architecture: Architecture) -> str:
        """The benchmark's form."""
        return str(architecture)

    def known(self, architecture: Architecture) -> Entry | None:
        """What the benchmark says of it; None without a table."""
        return self.table.find(architecture) if self.table else None

    @staticmethod
    def summarise(results: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
        """Mean and deviation of the accuracies of several searches' results, if they know them."""
        known = [result["benchmark"]["accuracies"] for result in results if "benchmark" in result]
        return summarise(known) if known else {}

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

    @staticmethod
    def preferred(alphas: dict[str, Tensor], state: dict[str, Any] | None = None) -> Architecture:
        """What the state dict of a search's architecture parameters prefers. Raises ``RuntimeError`` for another."""
        own = ArchitectureParameters()
        own.load_state_dict(alphas)
        return best_operations(own.alpha)


def best_operations(alpha: Tensor) -> Architecture:
    """Each edge's best operation. ``alpha``: [6, 5]."""
    return Architecture(tuple(OPERATIONS[column] for column in alpha.argmax(dim=1).tolist()))
