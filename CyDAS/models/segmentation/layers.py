"""What the decoder is made of: convolutions with batch norm, and position attention in a block at half resolution."""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """Convolution without bias, batch norm, ReLU, by these names."""
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out), relu=nn.ReLU()))


def nested_conv_norm(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    """:func:`conv_norm` as other parts of the published state dict name it: ``conv.0``, ``conv.1``."""
    return nn.Sequential(OrderedDict(conv=nn.Sequential(*conv_norm(c_in, c_out, kernel))))


def resize(x: Tensor, size: tuple[int, ...], align_corners: bool = False) -> Tensor:
    """``x``: [N, C, h, w], bilinearly to ``size``, (height, width)."""
    return F.interpolate(x, size, mode="bilinear", align_corners=align_corners)


class PositionAttention(nn.Module):
    """Every pixel sees all others: ``x + gamma * softmax(q k) v``, [N, C, H, W] to the same.

    No 1 / sqrt(d) scales the scores (Fu et al. 2019, DANet). Gamma starts at 0, so that the block starts without it.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 8)
        self.query_conv = nn.Conv2d(channels, inner, 1)
        self.key_conv = nn.Conv2d(channels, inner, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (_tokens(conv(x)) for conv in (self.query_conv, self.key_conv, self.value_conv))
        # Zeros change no score, and with one width for all PyTorch's kernels need no matrix of all pairs of pixels.
        query, key = (F.pad(part, (0, value.shape[-1] - part.shape[-1])) for part in (query, key))
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return self.gamma * attended[:, 0].transpose(1, 2).reshape(x.shape) + x


def _tokens(x: Tensor) -> Tensor:
    """[N, C, H, W] to one head's [N, 1, H * W, C]."""
    return x.flatten(2).transpose(1, 2)[:, None]


class AttentionBlock(nn.Module):
    """A residual block whose inner part works at half the resolution: [N, C_in, H, W] to [N, C_out, H, W].

    Height and width are at least 2.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.shortcut = nn.Identity() if c_in == c_out else nn.Sequential(*conv_norm(c_in, c_out, 1))
        self.net = nn.Sequential(
            OrderedDict(
                {
                    "0": nn.Conv2d(c_in, c_out, 1, bias=False),
                    "1": nn.BatchNorm2d(c_out),
                    "2": nn.ReLU(),
                    "3": PositionAttention(c_out),
                    "5": nn.BatchNorm2d(c_out),  # there is no 4, as in the published state dict
                    "6": nn.ReLU(),
                    "7": nn.Conv2d(c_out, c_out, 1, bias=False),
                    "8": nn.BatchNorm2d(c_out),
                }
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        inner = self.net(resize(x, (height // 2, width // 2), align_corners=True))
        return F.relu(resize(inner, (height, width), align_corners=True) + self.shortcut(x))
