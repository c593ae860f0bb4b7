"""The fixed parts of a chain as they stand in a search: stem, blocks of one operation, classifier.

They are timm's blocks with the arguments of ``network.py``: put together they compute what the found network does.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.models._efficientnet_blocks import ConvBnAct, DepthwiseSeparableConv, InvertedResidual
from timm.models._efficientnet_builder import efficientnet_init_weights
from torch import Tensor, nn

from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED, STEM_WIDTH, WIDTHS, Architecture, operation_name
from CyDAS.models.chain.layout import BlockShape, ChainLayout
from CyDAS.models.chain.network import HEAD_WIDTH, squeeze_excite
from CyDAS.models.heads import DistillationHead
from CyDAS.models.modules import Modules, Stages

#: What a block passes on: its output, [N, C, H, W].
State = tuple[Tensor]

#: The stages whose outputs the distillation heads see, at 1/8 and 1/16 of the image.
HEAD_STAGES = (2, 4)

#: Squeeze-and-excitation to a quarter of the expanded width, as in every block of the space.
block_squeeze_excite: Any = partial(squeeze_excite, rd_ratio=0.25)  # where timm's annotations say a class


def make_operation(shape: BlockShape, operation: int, affine: bool = True) -> InvertedResidual:
    """One of :data:`OPERATIONS` at a block's place, with its residual where input and output are alike."""
    kernel, expansion = OPERATIONS[operation]
    return InvertedResidual(
        shape.c_in,
        shape.c_out,
        dw_kernel_size=kernel,
        stride=shape.stride,
        exp_ratio=expansion,
        act_layer=nn.SiLU,
        norm_layer=partial(nn.BatchNorm2d, affine=affine),
        se_layer=block_squeeze_excite,
    )


class Stem(nn.Module):
    """The first convolution and stage 0, which have no choice: ``[N, C_in, H, W]`` to the first block's state."""

    def __init__(self, input_channels: int):
        super().__init__()
        self.conv_stem = nn.Conv2d(input_channels, STEM_WIDTH, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_WIDTH)
        self.block = DepthwiseSeparableConv(
            STEM_WIDTH, WIDTHS[0], dw_kernel_size=3, act_layer=nn.SiLU, se_layer=block_squeeze_excite
        )
        efficientnet_init_weights(self)

    def forward(self, x: Tensor) -> State:
        return (self.block(F.silu(self.bn1(self.conv_stem(x)))),)


class EvaluationBlock(nn.Module):
    """A block of one chosen operation, which was ``slot`` among its stage's blocks in the search network."""

    def __init__(self, shape: BlockShape, operation: int, slot: int):
        super().__init__()
        self.operation = operation
        self.slot = slot
        self.block = make_operation(shape, operation)
        efficientnet_init_weights(self)

    def named_operations(self) -> Iterator[tuple[str, nn.Module]]:
        """Everything with a place in the weight pool: (key within the block, module).

        Behind the stage's and the block's number, which the pool adds, that is the slot (stage, block, operation).
        """
        yield operation_name(self.operation), self.block

    def forward(self, state: State) -> State:
        return (self.block(state[0]),)


class Classifier(nn.Module):
    """Stage 6 and the head, ``[N, 192, H, W]`` to ``[N, classes]``: the mean comes before the last convolution."""

    def __init__(self, layout: ChainLayout, drop_rate: float = 0.0):
        super().__init__()
        self.last = ConvBnAct(WIDTHS[-1], layout.c_last, 1, act_layer=nn.SiLU)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.conv_head = nn.Conv2d(layout.c_last, HEAD_WIDTH, 1)
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(HEAD_WIDTH, layout.n_classes)
        efficientnet_init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        hidden = F.silu(self.conv_head(self.global_pool(self.last(x))))
        return self.classifier(self.dropout(hidden.flatten(1)))


def make_heads(layout: ChainLayout) -> dict[int, DistillationHead]:
    """The distillation heads, shared by both networks, each by the list index of the stage that it is behind."""
    return {
        stage - SEARCHED.start: DistillationHead(*layout.stage_output(stage), layout.n_classes) for stage in HEAD_STAGES
    }


def make_evaluation_stages(layout: ChainLayout, architecture: Architecture) -> Stages:
    """The evaluation network's stages 1 to 5, each a list of :class:`EvaluationBlock`; its list index is one less."""
    return Modules(
        Modules(
            EvaluationBlock(layout.block(stage, index), operation, slot)
            for index, (operation, slot) in enumerate(
                zip(architecture.stages[stage], architecture.slots_of(stage), strict=True)
            )
        )
        for stage in SEARCHED
    )
