"""The search network of the chain space: blocks that mix the six operations.

The plain way is six modules a block, added up behind their batch norms. Here one block of the largest size, 7x7 with
expansion 6, holds all six, and they are mixed where mixing is linear, so that there is one activation and not six. With
p(k, e) a block's weights of kernel k and expansion e, of those that the identity leaves:

- kernels are superposed: ``conv(h, sum_k p(k) w_k)``, each ``w_k`` in the middle of 7x7, is exactly
  ``sum_k p(k) conv(h, w_k)`` before the second batch norm;
- expansion 4 is the first 4 C of the 6 C channels. The projection is linear, so that weighing its input's channels by
  ``p(e=4) gate_4 + p(e=6) gate_6`` is exactly the mixture of both expansions' projections before the third batch norm;
- the identity is exact beside a residual: ``sum_o p_o (x + f_o(x)) + p_id x = x + (1 - p_id) f(x)``.

For weights that are p(k) p(e) the block so is exactly the mixture of all six branches, each with these shared weights,
over k before the second and over e before the third batch norm, with its gradients by p(k) and p(e). For one-hot
weights it is exactly that operation. For other weights it is an approximation, as are gradients that lead away from
p(k) p(e): the channels that both expansions share have one kernel for both, weighed by p(k) = p(k, 4) + p(k, 6). Six
modules with weights and norms of their own are another network, which it does not approximate.
"""

from math import sqrt

import torch
import torch.nn.functional as F
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn

from CyDAS.models.chain.architecture import SEARCHED
from CyDAS.models.chain.blocks import State, block_squeeze_excite
from CyDAS.models.chain.layout import BlockShape, ChainLayout
from CyDAS.models.chain.recomputed import convolve
from CyDAS.models.modules import Modules, Stages
from CyDAS.models.total import total

KERNELS = (3, 5, 7)
NARROW, WIDE = 4, 6  #: the expansions


class MixedBlock(nn.Module):
    """All six operations, and the identity where the block may be left out, in the cost of the largest one."""

    def __init__(self, shape: BlockShape, index: int, affine: bool):
        super().__init__()
        wide = WIDE * shape.c_in
        self.index, self.stride, self.has_skip = index, shape.stride, shape.may_be_left_out
        self.narrow = NARROW * shape.c_in
        self.conv_pw = nn.Conv2d(shape.c_in, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, affine=affine)
        self.kernels = nn.ParameterList(torch.randn(wide, 1, k, k) * sqrt(2 / k**2) for k in KERNELS)
        self.bn2 = nn.BatchNorm2d(wide, affine=affine)
        self.se: Modules[SqueezeExcite] = Modules([block_squeeze_excite(self.narrow), block_squeeze_excite(wide)])
        self.conv_pwl = nn.Conv2d(wide, shape.c_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(shape.c_out, affine=affine)
        for convolution in (self.conv_pw, self.conv_pwl):
            nn.init.normal_(convolution.weight, std=sqrt(2 / convolution.out_channels))

    def forward(self, state: State, mixture: Tensor) -> State:
        """``mixture``: [blocks, 7], the stage's; the block's own row counts."""
        x, weights = state[0], mixture[self.index]
        used = weights[:-1].sum()
        p = (weights[:-1] / used.clamp_min(torch.finfo(weights.dtype).tiny)).view(len(KERNELS), 2)
        h = self.bn1(self.conv_pw(x))
        kernel = self.superposed(p)
        h = self.bn2(convolve(F.silu, [h], kernel, self.stride, KERNELS[-1] // 2, groups=len(kernel)))
        y = self.bn3(convolve(_gated, [h, self._gates(h, p)], self.conv_pwl.weight))
        return (x + used.to(y.dtype) * y if self.has_skip else y,)

    def superposed(self, p: Tensor) -> Tensor:
        """``sum_k p(k) w_k``, [6 C, 1, 7, 7]. ``p``: [3, 2], p(k, e) of kernels and expansions.

        The channels that expansion 6 has for itself are weighed by p(k | 6).
        """
        of_wide = p[:, 1] / p[:, 1].sum().clamp_min(torch.finfo(p.dtype).tiny)
        shares = p.sum(dim=1, keepdim=True), of_wide[:, None]
        widths = self.narrow, self.conv_pw.out_channels - self.narrow
        spread = torch.cat([share.expand(-1, width) for share, width in zip(shares, widths, strict=True)], dim=1)
        largest = KERNELS[-1]
        return total(
            share[:, None, None, None] * F.pad(kernel, [(largest - size) // 2] * 4)
            for size, kernel, share in zip(KERNELS, self.kernels, spread, strict=True)
        )

    def _gates(self, h: Tensor, p: Tensor) -> Tensor:
        """``p(e=4) gate_4 + p(e=6) gate_6``, [N, 6 C, 1, 1]. ``h``: before the activation."""
        of_narrow, of_wide = p.sum(dim=0).to(h.dtype)
        mean = F.silu(h).mean(dim=(2, 3), keepdim=True)
        narrow = of_narrow * _gate(self.se[0], mean[:, : self.narrow])
        return of_wide * _gate(self.se[1], mean) + F.pad(narrow, (0, 0, 0, 0, 0, h.shape[1] - self.narrow))


def _gated(h: Tensor, gates: Tensor) -> Tensor:
    return F.silu(h) * gates


def _gate(se: SqueezeExcite, mean: Tensor) -> Tensor:
    """What squeeze-and-excitation multiplies its input with, from its input's mean."""
    return se.gate(se.conv_expand(se.act1(se.conv_reduce(mean))))


def make_search_stages(layout: ChainLayout, affine: bool = False) -> Stages:
    """The search network's stages 1 to 5, each a list of :class:`MixedBlock`; its list index is one less."""
    return Modules(
        Modules(MixedBlock(layout.block(stage, index), index, affine) for index in range(layout.depth))
        for stage in SEARCHED
    )
