"""The feature pyramid (Lin et al. 2017): five levels of one width from features at strides 8, 16 and 32."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, FeaturePyramidNetwork

from CyDAS.utils.present import present


class LevelsBeyond(ExtraFPNBlock):
    """Strides 64 and 128 from the backbone's last feature, without an activation between the two."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, p: list[Tensor], c: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(c[-1])
        return [*p, p6, self.p7(p6)], [*names, "p6", "p7"]


class Pyramid(FeaturePyramidNetwork):
    """torchvision's, initialised as published (Xavier uniform) and with :class:`LevelsBeyond`."""

    def __init__(self, in_channels: Sequence[int], out_channels: int):
        super().__init__(list(in_channels), out_channels, LevelsBeyond(in_channels[-1], out_channels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(present(module.bias))

    def levels(self, features: Sequence[Tensor]) -> list[Tensor]:
        """From features at strides 8, 16, 32, each [N, C, H, W], to levels at 8, 16, 32, 64, 128."""
        return list(self(OrderedDict((str(index), feature) for index, feature in enumerate(features))).values())
