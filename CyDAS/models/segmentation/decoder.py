"""The published decoder: features at strides 4, 8, 16 and 32 to logits of every class at stride 4.

Its fusion of features is one convolution: the published module names a channel attention and does not run it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from CyDAS.models.segmentation.layers import AttentionBlock, conv_norm, nested_conv_norm, resize

#: Channels of the features at stride 4 where they join.
LOW = 48
#: The widest auxiliary head; above, it has half as many channels as its feature.
WIDEST = 256


def filters(scale: int, width: float) -> int:
    """Channels of a layer: ``width`` is the published F, 6 for Cityscapes and 16 for ADE20K."""
    return round(scale * width)


class Fusion(nn.Module):
    """One convolution on what has been joined."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv_1x1 = conv_norm(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_1x1(x)


class MainHead(nn.Module):
    """[N, C, H/8, W/8] and the feature at stride 4 to logits [N, classes, H/4, W/4]."""

    def __init__(self, channels: int, c_low: int, n_classes: int):
        super().__init__()
        self.att_sa = AttentionBlock(channels, channels)
        self.feature_projection = nested_conv_norm(c_low, LOW, 1)
        self.conv_3x3 = conv_norm(channels + LOW, channels, 3)
        self.conv_1x1 = nn.Conv2d(channels, n_classes, 1)

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        low = self.feature_projection(low)
        x = resize(self.att_sa(x), low.shape[-2:])
        return self.conv_1x1(self.conv_3x3(torch.cat([x, low], dim=1)))


class AuxiliaryHead(nn.Module):
    """A feature [N, C, h, w] to logits [N, classes, h, w], in training alone."""

    def __init__(self, channels: int, n_classes: int):
        super().__init__()
        inner = channels if channels <= WIDEST else channels // 2
        self.att_sa = AttentionBlock(channels, inner)
        self.conv_1x1 = nn.Conv2d(inner, n_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_1x1(self.att_sa(x))


class Decoder(nn.Module):
    """Features [N, channels, H / stride, W / stride] at strides 4, 8, 16, 32, H and W at least 64, to logits."""

    def __init__(self, channels: Sequence[int], n_classes: int, width: float = 6):
        super().__init__()
        f4, f8, f16, f32 = channels
        wide, narrow = filters(16, width), filters(8, width)
        self.arms32 = nn.ModuleList([nested_conv_norm(f32, wide, 1), nested_conv_norm(wide, narrow, 1)])
        self.refines32 = nn.ModuleList(
            [nested_conv_norm(wide + f16, wide, 3), nested_conv_norm(narrow + f8, narrow, 3)]
        )
        self.ffm = Fusion(narrow, narrow)
        self.heads8 = MainHead(narrow, f4, n_classes)
        self.heads16 = AuxiliaryHead(f16, n_classes)
        self.heads32 = AuxiliaryHead(f32, n_classes)
        initialise(self)

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Logits at stride 4."""
        f4, *joined, x = features
        for arm, refine, feature in zip(self.arms32, self.refines32, reversed(joined), strict=True):
            # twice the size, exactly so where the image is a multiple of 32
            x = refine(torch.cat([resize(arm(x), feature.shape[-2:]), feature], dim=1))
        return self.heads8(self.ffm(x), f4)

    def auxiliary(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Logits at strides 16 and 32."""
        return [self.heads16(features[2]), self.heads32(features[3])]


def initialise(module: nn.Module) -> None:
    """As published: convolutions by Kaiming's normal distribution of their inputs, batch norms 1 and 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
