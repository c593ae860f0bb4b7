"""The chain space's search network as its formula reads: six modules a block, each with weights of its own."""

from typing import Any

import torch
from torch import Tensor, nn

from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED
from CyDAS.models.chain.blocks import make_operation


class PlainMixedBlock(nn.Module):
    """``sum_o p_o op_o(x) + p_id x``."""

    def __init__(self, shape, index, affine=False):
        super().__init__()
        self.index, self.has_skip = index, shape.may_be_left_out
        self.operations = nn.ModuleList(make_operation(shape, o, affine) for o in range(len(OPERATIONS)))

    def forward(self, state: tuple[Tensor], mixture: Tensor) -> tuple[Tensor]:
        """``mixture``: [blocks, 7]."""
        (x,), weights = state, mixture[self.index]
        mixed = sum(weight * operation(x) for weight, operation in zip(weights, self.operations, strict=False))
        return (mixed + weights[-1] * x if self.has_skip else mixed,)


def make_plain_stages(layout):
    """The stages of the search network, as ``make_search_stages`` makes them."""
    return nn.ModuleList(
        nn.ModuleList(PlainMixedBlock(layout.block(stage, index), index) for index in range(layout.depth))
        for stage in SEARCHED
    )


@torch.no_grad()
def tie(plain: PlainMixedBlock, fast) -> None:
    """Give each of the six modules its part of the fast block's shared weights and statistics."""
    operation: Any  # timm's InvertedResidual, whose parts have no types
    for index, ((kernel, expansion), operation) in enumerate(zip(OPERATIONS, plain.operations, strict=True)):
        width = expansion * fast.conv_pw.in_channels
        operation.conv_pw.weight.copy_(fast.conv_pw.weight[:width])
        operation.conv_dw.weight.copy_(fast.kernels[(kernel - 3) // 2][:width])
        operation.se.load_state_dict(fast.se[index % 2].state_dict())
        operation.conv_pwl.weight.copy_(fast.conv_pwl.weight[:, :width])
        for own, shared in ((operation.bn1, fast.bn1), (operation.bn2, fast.bn2), (operation.bn3, fast.bn3)):
            for name, value in own.state_dict().items():
                value.copy_(shared.state_dict()[name][: len(value)] if value.dim() else shared.state_dict()[name])
