"""Spaces whose choices are one table: a row for each place of a cell, a column for each operation."""

import math
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from CyDAS.config import CommonConfig
from CyDAS.data import LabelledImages
from CyDAS.models.heads import DistillationHead, MeanClassifier
from CyDAS.models.joint import JOINT_OPTIONS, JointNetwork
from CyDAS.models.nats.networks import STAGES, ArchitectureParameters, NatsLayout, NatsNetwork, Stem, make_stages
from CyDAS.runs.weights import check_finite
from CyDAS.spaces.base import SearchSpace, least_decided_first
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import some_of
from CyDAS.utils.plot import draw_graph

#: Flags of the DARTS cells that mean nothing here.
FOREIGN = ("use_beta", "repeat_cell", "res_stem")


class TableSpace(SearchSpace):
    """Networks of three stages of one cell, whose every place has one of several operations.

    A subclass says which places and operations there are and gives two kinds of cells; stem, stages with residual
    blocks between them, distillation heads and classifiers are those of NATS-Bench. A state is a tuple of one tensor,
    [N, C, H, W], which a cell maps to another of its shape. An architecture is each place's operation, in order.
    """

    places: tuple[str, ...]  #: what the rows of alpha are called
    operations: tuple[str, ...]  #: what its columns are called
    #: Of the operations, those whose alphas ``--regular`` holds down.
    penalised: tuple[str, ...] = ()
    #: Made with (channels, affine); called with a state and the mixture [places, operations].
    search_cell: type[nn.Module]
    #: Made with (channels, architecture, affine); called with a state. Its ``named_operations()`` gives (key, module)
    #: of all that the weight pool keeps.
    evaluation_cell: type[nn.Module]

    def __init__(
        self, layout: NatsLayout, *, bn_affine: bool = False, grad_checkpointing: bool = False, **joint_options: bool
    ):
        """``joint_options``: flags of :class:`JointNetwork`."""
        self.layout = self.evaluation_layout = self.retrain_layout = layout
        self.bn_affine = bn_affine
        self.grad_checkpointing = grad_checkpointing
        self.joint_options = {"grad_checkpointing": grad_checkpointing, **joint_options}

    @classmethod
    def from_config(cls, config: CommonConfig, data: LabelledImages) -> "TableSpace":
        """The space for the flags of any program. Raises :class:`CydasError` where they make none."""
        for name in FOREIGN:
            if getattr(config, name, False):
                raise CydasError(f"--{name} belongs to the DARTS cells: leave it out with --space {config.space}")
        if config.layer_num != STAGES or config.model_type == "imagenet":
            raise CydasError(
                f"--space {config.space} has {STAGES} stages of the CIFAR kind: no other --layer_num, --model_type"
            )
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
        return cls(layout, **some_of(config, "bn_affine", *JOINT_OPTIONS), **cls.own_options(config))

    @classmethod
    def own_options(cls, config: CommonConfig) -> dict[str, Any]:
        """What a subclass takes beside that."""
        return {}

    def build(self) -> JointNetwork:
        """Both networks; the evaluation network has no cells until :meth:`set_evaluation`."""
        layout = self.layout
        return JointNetwork(
            Stem(layout),
            make_stages(layout, self.search_cell, self.bn_affine),
            ArchitectureParameters(len(self.places), len(self.operations)),
            {
                stage: DistillationHead(*layout.stage_output(stage), layout.n_classes, self.bn_affine)
                for stage in range(STAGES - 1)
            },
            partial(MeanClassifier, layout.channels(STAGES - 1), layout.n_classes),
            **self.joint_options,
        )

    @torch.no_grad()
    def discretise(self, joint: JointNetwork) -> Any:
        """The architecture that the search network now prefers: each place's best operation.

        Raises :class:`CydasError` for alphas that are not finite.
        """
        check_finite(joint.super_layers_arch.state_dict(), "no cell can be read off the architecture parameters")
        return self.best_operations(joint.super_layers_arch.alpha)

    @classmethod
    def best_operations(cls, alpha: Tensor) -> Any:
        """Each place's best operation. ``alpha``: [places, operations]."""
        return tuple(cls.operations[column] for column in alpha.argmax(dim=1).tolist())

    def changes(self, joint: JointNetwork) -> list[tuple[int, int]]:
        return least_decided_first(enumerate(joint.super_layers_arch.alpha.double().softmax(dim=1)))

    def changed(self, architecture: Any, place: int, operation: int) -> Any:
        columns = torch.tensor([self.operations.index(name) for name in self.names(architecture)])
        columns[place] = operation
        return self.best_operations(F.one_hot(columns, len(self.operations)))

    @classmethod
    def preferred(cls, alphas: dict[str, Tensor], state: dict[str, Any] | None = None) -> Any:
        """What the state dict of a search's architecture parameters prefers. Raises ``RuntimeError`` for another."""
        own = ArchitectureParameters(len(cls.places), len(cls.operations))
        own.load_state_dict(alphas)
        return cls.best_operations(own.alpha)

    def set_evaluation(self, joint: JointNetwork, architecture: Any) -> None:
        """Give the joint network a freshly initialised evaluation network of this architecture."""
        joint.set_evaluation(make_stages(self.evaluation_layout, self.evaluation_cell, architecture, True))

    def retrain_network(self, architecture: Any, auxiliary: bool) -> NatsNetwork:
        """The network of an architecture. Raises :class:`CydasError` for an auxiliary head."""
        if auxiliary:
            raise CydasError("networks of this space have no auxiliary head: --aux_weight 0")
        return NatsNetwork(self.retrain_layout, architecture, self.grad_checkpointing, self.evaluation_cell)

    def regulariser(self, joint: JointNetwork) -> Tensor:
        """Mean of the absolute raw alphas of :attr:`penalised`."""
        alpha = joint.super_layers_arch.alpha
        columns = [alpha[:, self.operations.index(name)].abs().mean() for name in self.penalised]
        return torch.stack(columns).mean() if columns else alpha.new_zeros(())

    @torch.no_grad()
    def alpha_entropy(self, joint: JointNetwork) -> float:
        """Mean entropy of the places' softmax(alpha) as a share of its maximum: 1 undecided, 0 decided."""
        p = joint.super_layers_arch.alpha.softmax(dim=-1)
        return float(torch.special.entr(p).sum(dim=-1).mean() / math.log(p.shape[-1]))

    @classmethod
    def describe(cls, architecture: Any) -> dict[str, int]:
        """How often each operation stands in the cell."""
        counts = Counter(cls.names(architecture))
        return {name: counts[name] for name in cls.operations}

    @staticmethod
    def names(architecture: Any) -> Sequence[str]:
        """The operations of an architecture, in the order of the places."""
        return architecture

    @classmethod
    def draw(cls, architecture: Any, folder: Path, name: str) -> list[Path]:
        """A picture of the cell as a chain of its places, which is for a subclass to better. Returns its path."""
        chain = [*cls.places, "out"]
        edges = [(a, b, operation) for a, b, operation in zip(chain, chain[1:], cls.names(architecture), strict=False)]
        return [draw_graph(folder / name, edges, inputs=chain[:1], output="out")]

    @classmethod
    def to_strings(cls, architecture: Any) -> dict[str, str]:
        """What files hold; all stages have one cell."""
        return {"0": cls.brief(architecture)}

    @classmethod
    def brief(cls, architecture: Any) -> str:
        """The operations' names."""
        return " ".join(architecture)

    @classmethod
    def parse(cls, entries: object, stages: int | None, source: str) -> Any:
        """Read :meth:`to_strings`'s form or :meth:`brief`'s. Raises :class:`CydasError` naming ``source``."""
        text = entries.get("0") if isinstance(entries, dict) and len(entries) == 1 else entries
        names = tuple(text.split()) if isinstance(text, str) else ()
        if len(names) != len(cls.places) or not set(names) <= set(cls.operations):
            raise CydasError(f"{source}: {len(cls.places)} of {', '.join(cls.operations)} are expected")
        return names
