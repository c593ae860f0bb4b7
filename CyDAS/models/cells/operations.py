"""The eight candidate operations of the DARTS cell and the two preprocessings of a cell's inputs.

All of them map ``[N, C_in, H, W]`` to ``[N, C, H / stride, W / stride]``; none of the convolutions has a bias.
Module names follow the layout of the published checkpoints, so that those load as they are.
"""

import torch
from torch import Tensor, nn

from CyDAS.models.fuse import fold_into
from CyDAS.models.projection import ProjectionPlan, project

#: The columns of alpha, in order.
OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
    "none",
)
#: Operations that a discretised cell may contain.
CHOOSABLE = OPERATIONS[:-1]
#: Operations without weights at stride 1; the search is pulled away from them (paper section 3.3).
PARAMETER_FREE = OPERATIONS[:3]


class Zero(nn.Module):
    """The operation ``none``: zeros of the output's shape. Search cells skip it, since it adds nothing."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


class StdConv(nn.Module):
    """ReLU, 1x1 convolution, batch norm: brings a cell's input to the cell's width."""

    def __init__(self, c_in: int, c_out: int, affine: bool):
        super().__init__()
        convolution = nn.Conv2d(c_in, c_out, 1, bias=False)
        norm = nn.BatchNorm2d(c_out, affine=affine)
        self.net = nn.Sequential(nn.ReLU(), convolution, norm)
        self._plan = ProjectionPlan([convolution], norm, self, [self.net])

    def forward(self, x: Tensor) -> Tensor:
        native = project(x, self._plan)
        return self.net(x) if native is None else native


class ConvUnit(nn.Module):
    """ReLU, convolution, batch norm: the ``nor_conv`` operations of NATS-Bench."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.op = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(c_out, affine=affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.op(x)


class FactorizedReduce(nn.Module):
    """Halve the resolution with two 1x1 convolutions, one on the even and one on the odd pixels.

    Raises ``ValueError`` for an odd ``c_out``. Height and width must be even.
    """

    def __init__(self, c_in: int, c_out: int, affine: bool):
        super().__init__()
        if c_out % 2:
            raise ValueError(f"FactorizedReduce splits its output channels in two: {c_out} is odd")
        self.relu = nn.ReLU()
        self.conv1 = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.conv2 = nn.Conv2d(c_in, c_out // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(c_out, affine=affine)
        modules = [self.relu, self.conv1, self.conv2, self.bn]
        self._plan = ProjectionPlan([self.conv1, self.conv2], self.bn, self, modules)

    def forward(self, x: Tensor) -> Tensor:
        native = project(x, self._plan)
        if native is not None:
            return native
        x = self.relu(x)
        # The stride is taken before the convolutions: oneDNN's strided 1x1 kernel writes out of bounds in the backward
        # of channels-last tensors with fewer than 8 channels (uxlfoundation/oneDNN issue 6035).
        return self.bn(torch.cat([self.conv1(x[:, :, ::2, ::2]), self.conv2(x[:, :, 1::2, 1::2])], dim=1))

    def fold_batch_norm(self) -> None:
        """Fold the batch norm into both convolutions, for evaluation only."""
        fold_into((self.conv1, self.conv2), self.bn)
        self.bn = nn.Identity()  # type: ignore[assignment]  # the plan notices and no longer applies


class DilConv(nn.Module):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

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
    """Two undilated :class:`DilConv` in a row, the stride in the first."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool):
        super().__init__()
        self.net = nn.Sequential(
            DilConv(channels, kernel, stride, 1, affine),
            DilConv(channels, kernel, 1, 1, affine),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def make_operation(name: str, channels: int, stride: int, affine: bool) -> nn.Module:
    """Build the operation ``name`` of :data:`OPERATIONS` on ``channels`` channels.

    Raises ``ValueError`` for a name that is not one of them.
    """
    match name:
        case "none":
            return Zero(stride)
        case "max_pool_3x3":
            return nn.MaxPool2d(3, stride, padding=1)
        case "avg_pool_3x3":
            return nn.AvgPool2d(3, stride, padding=1, count_include_pad=False)
        case "skip_connect":
            return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
        case "sep_conv_3x3":
            return SepConv(channels, 3, stride, affine)
        case "sep_conv_5x5":
            return SepConv(channels, 5, stride, affine)
        case "dil_conv_3x3":
            return DilConv(channels, 3, stride, 2, affine)
        case "dil_conv_5x5":
            return DilConv(channels, 5, stride, 2, affine)
    raise ValueError(f"unknown operation {name!r}; known: {', '.join(OPERATIONS)}")


def make_preprocessing(c_in: int, c_out: int, halve: bool, affine: bool) -> nn.Module:
    """What brings a cell's input to the cell's width and, with ``halve``, to half its resolution."""
    return (FactorizedReduce if halve else StdConv)(c_in, c_out, affine)
