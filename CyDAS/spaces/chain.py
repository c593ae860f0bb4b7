"""The chain space: what the cyclic search needs to know of it; files, names, pictures of its architectures."""

import math
from collections import Counter
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from CyDAS.config import CommonConfig, SearchConfig
from CyDAS.data import LabelledImages
from CyDAS.models.chain.alphas import COLUMNS, ArchitectureParameters, preferred
from CyDAS.models.chain.architecture import (
    MAX_BLOCKS,
    OPERATIONS,
    SEARCHED,
    STRIDES,
    WIDTHS,
    Architecture,
    operation_name,
    parse_architecture,
)
from CyDAS.models.chain.layout import SMALLEST_IMAGE, ChainLayout
from CyDAS.models.joint import JOINT_OPTIONS, JointNetwork
from CyDAS.runs.weights import check_finite
from CyDAS.spaces.base import SearchSpace
from CyDAS.spaces.penalty import Progress
from CyDAS.utils.drawing import OUTPUT, Drawing, Node
from CyDAS.utils.errors import CydasError, GenotypeError
from CyDAS.utils.flags import some_of
from CyDAS.utils.plot import render
from CyDAS.utils.texts import few

if TYPE_CHECKING:
    from CyDAS.models.chain.network import RetrainedChain
    from CyDAS.spaces.chain_cost import CostAim

#: Colours of the kernels in pictures.
COLOURS = {3: "lightblue", 5: "lightgoldenrod", 7: "lightcoral"}
#: Inches of a block's width for each unit of its expansion.
INCHES = 0.2


#: The two networks of a search in this space.
Joint = JointNetwork[ArchitectureParameters]


class ChainSpace(SearchSpace):
    """Chains of inverted residual blocks, kernel 3, 5 or 7 and expansion 4 or 6, one to six in each of five stages."""

    weights_name = "state_dict"
    sizes = ("c_last",)

    def __init__(
        self,
        layout: ChainLayout,
        aim: "CostAim | None" = None,
        *,
        bn_affine: bool = False,
        grad_checkpointing: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        **joint_options: bool,
    ):
        """``aim``: what a search may find (default: anything). The two rates are of a retrained network.
        ``joint_options``: flags of :class:`JointNetwork`.
        """
        self.layout = layout
        self.aim = aim
        self.bn_affine = bn_affine
        self.grad_checkpointing = grad_checkpointing
        self.rates = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
        self.joint_options = {"grad_checkpointing": grad_checkpointing, **joint_options}

    @classmethod
    def from_config(cls, config: CommonConfig, data: LabelledImages) -> "ChainSpace":
        """The space for the flags of any program. Raises :class:`CydasError` where they make none."""
        try:
            layout = ChainLayout(
                depth=getattr(config, "blocks_per_stage", MAX_BLOCKS),
                c_last=config.c_last,
                n_classes=data.n_classes,
                input_channels=data.input_channels,
                image_size=data.image_size,
            )
        except ValueError as error:
            raise CydasError(str(error)) from None
        aim = None
        if isinstance(config, SearchConfig):
            if layout.image_size < SMALLEST_IMAGE:
                raise CydasError(
                    f"a search of chains needs images of {SMALLEST_IMAGE} pixels at least, not {layout.image_size}: "
                    f"--image_size {SMALLEST_IMAGE}"
                )
            from CyDAS.spaces.chain_cost import make_aim  # late, as all that needs timm, which takes seconds to import

            aim = make_aim(config, layout)
        return cls(layout, aim, **some_of(config, "bn_affine", "drop_rate", "drop_path_rate", *JOINT_OPTIONS))

    def build(self) -> Joint:
        """Both networks; the evaluation network has no blocks until :meth:`set_evaluation`."""
        from CyDAS.models.chain.blocks import Classifier, Stem, make_heads
        from CyDAS.models.chain.supernet import make_search_stages

        layout, alphas = self.layout, ArchitectureParameters(self.layout.depth)
        if self.aim and self.aim.constraint:
            self.aim.constraint.start_from(alphas)
        return JointNetwork(
            Stem(layout.input_channels),
            make_search_stages(layout, self.bn_affine),
            alphas,
            make_heads(layout),
            partial(Classifier, layout),
            **self.joint_options,
        )

    @torch.no_grad()
    def discretise(self, joint: Joint) -> Architecture:
        """The most probable architecture of those that cost what they shall; of all where nothing is said of that.

        Raises :class:`CydasError` for alphas that are not finite.
        """
        check_finite(joint.super_layers_arch.state_dict(), "no chain can be read off the architecture parameters")
        mixtures = joint.super_layers_arch.mixtures()
        return self.aim.choose(mixtures) if self.aim else preferred(mixtures)

    def set_evaluation(self, joint: Joint, architecture: Architecture) -> None:
        """Give the joint network a freshly initialised evaluation network of this architecture."""
        from CyDAS.models.chain.blocks import make_evaluation_stages

        joint.set_evaluation(make_evaluation_stages(self.layout, architecture))

    def retrain_network(self, architecture: Architecture, auxiliary: bool) -> "RetrainedChain":
        """timm's network of an architecture. Raises :class:`CydasError` for an auxiliary head."""
        from CyDAS.models.chain.network import RetrainedChain, chain_network

        if auxiliary:
            raise CydasError("chains have no auxiliary head")
        layout = self.layout
        shape = {"c_last": layout.c_last, "num_classes": layout.n_classes, "in_chans": layout.input_channels}
        network = chain_network(architecture, kind=RetrainedChain, **shape, **self.rates)
        network.set_grad_checkpointing(self.grad_checkpointing)
        return network

    def penalty(self, joint: Joint, progress: Progress) -> Tensor:
        """The cost term, which does not depend on the progress but on what its multiplier has come to."""
        if self.aim is None or self.aim.constraint is None:
            return torch.zeros((), device=joint.ensemble_param.device)
        return self.aim.constraint.penalty(joint.super_layers_arch.mixtures())

    @staticmethod
    def penalty_constants(progress: Progress) -> None:
        """The multiplier is a tensor that stays in place."""

    @torch.no_grad()
    def after_alphas(self, joint: Joint) -> None:
        if self.aim and self.aim.constraint:
            self.aim.constraint.adapt(joint.super_layers_arch.mixtures())

    @torch.no_grad()
    def figures(self, joint: Joint, architecture: Architecture) -> dict[str, float]:
        return self.aim.figures(joint.super_layers_arch.mixtures(), architecture) if self.aim else {}

    def costs(self, architecture: Architecture) -> dict[str, Any]:
        if not self.aim:
            return {}
        table = self.aim.table
        return {"cost": table.in_units(table.of(architecture)), "unit_of_cost": table.unit}

    @torch.no_grad()
    def alpha_entropy(self, joint: Joint) -> float:
        """Mean entropy of the blocks' mixtures as a share of its maximum: 1 undecided, 0 decided."""
        shares = []
        for mixture in joint.super_layers_arch.mixtures():
            entropy = torch.special.entr(mixture).sum(dim=1)
            shares += [entropy[:1] / math.log(COLUMNS - 1), entropy[1:] / math.log(COLUMNS)]
        return float(torch.cat(shares).mean())

    def state_dict(self) -> dict[str, Any]:
        return self.aim.state_dict() if self.aim else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.aim:
            self.aim.load_state_dict(state)

    @staticmethod
    def to_state(architecture: Architecture) -> dict[str, str]:
        """With the places that its blocks have in the search: the weight pool knows them by these."""
        return {"0": architecture.with_gaps()}

    @staticmethod
    def brief(architecture: Architecture) -> str:
        """The published form."""
        return str(architecture)

    @staticmethod
    def describe(architecture: Architecture) -> dict[str, int]:
        """How often each operation stands in the stages with a choice."""
        counts = Counter(operation for stage in SEARCHED for operation in architecture.stages[stage])
        return {operation_name(operation): counts[operation] for operation in range(len(OPERATIONS))}

    @staticmethod
    def draw(architecture: Architecture, folder: Path, name: str) -> list[Path]:
        """A picture of the chain, first block to last. Returns its path."""
        return [draw_chain(architecture, folder / name)]

    @staticmethod
    def to_strings(architecture: Architecture) -> dict[str, str]:
        """The published form, which is of the whole network."""
        return {"0": str(architecture)}

    @staticmethod
    def parse(entries: object, stages: int | None, source: str) -> Architecture:
        """Read :meth:`to_strings`'s form, or the bare lists, or a file's only named ones.

        ``stages`` is another space's number. Raises :class:`CydasError` naming ``source``.
        """
        if isinstance(entries, dict):
            if len(entries) != 1:
                names = few([str(name)[:40] for name in entries]) or "none"
                raise CydasError(f"{source}: one architecture is expected; there are {names}: choose one as FILE::NAME")
            (entries,) = entries.values()
        try:
            return parse_architecture(entries)
        except GenotypeError as error:
            raise CydasError(f"{source}: {error}") from None

    @staticmethod
    def preferred(alphas: dict[str, Tensor], state: dict[str, Any] | None = None) -> Architecture:
        """What the state dict of a search's architecture parameters prefers, with the :meth:`state_dict` of its space.

        Raises ``RuntimeError`` for another.
        """
        own = ArchitectureParameters(depth=len(next(iter(alphas.values()), ())))
        own.load_state_dict(alphas)
        if not state:
            return preferred(own.mixtures())
        from CyDAS.spaces.chain_cost import CostAim

        return CostAim.from_state(state).choose(own.mixtures())


def draw_chain(architecture: Architecture, path: Path) -> Path:
    """``path``.png: each block as wide as its expansion, in its kernel's colour; stages framed with their channels."""
    ends, drawing, stride = 1.1, Drawing(), 2
    drawing.nodes["stem"] = Node("stem\n3x3", OUTPUT, ends)
    for stage, blocks in enumerate(architecture.stages[:-1]):
        stride *= STRIDES[stage]
        group = f"stage {stage}: {WIDTHS[stage]} channels, 1/{stride}"
        for block, operation in enumerate(blocks):
            kernel, expansion = OPERATIONS[operation] if stage in SEARCHED else (3, 1)
            label, width = f"{kernel}x{kernel}\ne{expansion}", max(0.4, INCHES * expansion)
            drawing.nodes[f"{stage}.{block}"] = Node(label, COLOURS[kernel], width, group)
    drawing.nodes["head"] = Node("1x1, mean,\n1x1, linear", OUTPUT, ends)
    drawing.edges = [(start, end, "") for start, end in pairwise(drawing.nodes)]
    return render(drawing, path)
