"""Boxes: their differences from anchors as a network learns them, and what of them lies in an image."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import BoxCoder as _BoxCoder


class BoxCoder(_BoxCoder):
    """Shifts in units of the anchor's size and logarithms of the ratio of sizes, as torchvision has them.

    A decoded box is at most 1000/16 times larger than its anchor and, unlike torchvision's, not smaller than 16/1000.
    """

    def __init__(self):
        super().__init__(weights=(1.0, 1.0, 1.0, 1.0))

    def decode_single(self, rel_codes: Tensor, boxes: Tensor) -> Tensor:
        """``rel_codes`` [A, 4] around the anchors ``boxes`` [A, 4]: boxes [A, 4]."""
        shifts, ratios = rel_codes.split(2, dim=1)
        ratios = ratios.clamp(-self.bbox_xform_clip, self.bbox_xform_clip)
        return super().decode_single(torch.cat([shifts, ratios], dim=1), boxes)


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [B, 4] cut off at the borders of an image, ``size`` its height and width; at least a pixel is left."""
    height, width = size
    least = boxes.new_tensor([0, 0, 1, 1])
    most = boxes.new_tensor([width - 1, height - 1, width, height])
    return boxes.clamp(least, most)
