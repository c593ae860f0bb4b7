"""The detector: backbone, pyramid, and a head for classes and one for boxes that all levels share."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead

from CyDAS.models.backbone import Backbone
from CyDAS.models.detection.anchors import PER_PLACE, Grid, LevelAnchors
from CyDAS.models.detection.pyramid import Pyramid

#: Features of the backbone that are used: strides 8, 16, 32.
FEATURES = slice(1, None)
#: Channels of the published pyramid and heads.
WIDTH = 256


class DetectorOutput(NamedTuple):
    """What the network says of a batch of N images; A: anchors of all levels, one level after the other."""

    class_logits: Tensor  #: [N, A, classes]
    deltas: Tensor  #: [N, A, 4], of boxes from anchors
    anchors: list[Tensor]  #: of each level, [A of the level, 4]
    grids: list[Grid]  #: height and width of each level


@torch.no_grad()
def _fit_to_width(head: nn.Module, width: int) -> None:
    """Initialise narrow heads so that signals fade as in one of :data:`WIDTH` channels, where a standard deviation of
    0.01 is published: each of a head's convolutions would weaken them by the root of the width, and nothing be learned.
    """
    for parameter in head.parameters():
        if parameter.dim() > 1:
            parameter.mul_((WIDTH / width) ** 0.5)


class RetinaNet(nn.Module):
    """Detects objects of ``n_classes`` classes.

    ``width``: channels of the pyramid and both heads. Batch norms of the backbone are not frozen.
    """

    def __init__(self, backbone: Backbone, n_classes: int, width: int = WIDTH):
        super().__init__()
        self.n_classes = n_classes
        self.backbone = backbone
        self.fpn = Pyramid(backbone.channels[FEATURES], width)
        self.head = RetinaNetHead(width, PER_PLACE, n_classes)
        _fit_to_width(self.head, width)
        self.anchors = LevelAnchors()

    def forward(self, images: Tensor) -> DetectorOutput:
        """``images``: [N, 3, H, W], H and W multiples of 32."""
        return self.detect(self.fpn.levels(self.backbone.features(images)[FEATURES]))

    def detect(self, levels: list[Tensor]) -> DetectorOutput:
        """What the heads say of a pyramid's levels."""
        said = self.head(levels)
        grids = [(level.shape[-2], level.shape[-1]) for level in levels]
        return DetectorOutput(said["cls_logits"], said["bbox_regression"], self.anchors(levels), grids)
