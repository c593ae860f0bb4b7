"""Anchors: boxes of nine shapes around every place of five levels, and which of them count for an image."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

#: Pixels between two places of a level.
STRIDES = (8, 16, 32, 64, 128)
#: Square root of an anchor's area, in strides.
SCALES = tuple(4 * 2 ** (third / 3) for third in range(3))
#: Height over width.
RATIOS = (0.5, 1.0, 2.0)
PER_PLACE = len(SCALES) * len(RATIOS)

#: Height and width of a level.
Grid = tuple[int, int]


class LevelAnchors(AnchorGenerator):
    """Anchors around the centres of the places, with strides that do not follow from the image's size.

    torchvision's lie around the places' corners, and its strides of the last levels are those of the padded image
    divided by the level's size, which is rounded up.
    """

    def __init__(self, strides: Sequence[int] = STRIDES):
        self.strides = tuple(strides)
        super().__init__(
            tuple(tuple(scale * stride for scale in SCALES) for stride in strides), (RATIOS,) * len(strides)
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """One [H * W * 9, 4] for each of ``features`` [N, C, H, W]: places row by row, ratios, scales.

        At least in float32: bfloat16 has no odd numbers above 256.
        """
        first = features[0]
        self.set_cell_anchors(torch.promote_types(first.dtype, torch.float32), first.device)
        grids = [list(feature.shape[-2:]) for feature in features]
        around_corners = self.grid_anchors(grids, [[stride, stride] for stride in self.strides])
        return [anchors + stride / 2 for anchors, stride in zip(around_corners, self.strides, strict=True)]

    def inside(self, grids: Sequence[Grid], size: Grid, device: torch.device) -> list[Tensor]:
        """Which anchors of each level have their place within ``size``, height and width of an image: bool [H * W * 9].

        Those beyond lie on what a batch's larger images have added to this one. They may reach over the border.
        """
        levels = []
        for grid, stride in zip(grids, self.strides, strict=True):
            rows, columns = (
                torch.arange(places, device=device) * stride < pixels for places, pixels in zip(grid, size, strict=True)
            )
            levels.append((rows[:, None] & columns).flatten().repeat_interleave(PER_PLACE))
        return levels
