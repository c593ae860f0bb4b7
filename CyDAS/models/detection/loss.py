"""What a detector learns by: focal loss of the classes, smooth L1 of the boxes (Lin et al. 2017)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from CyDAS.models.detection.anchors import LevelAnchors
from CyDAS.models.detection.assignment import IGNORED, BestForEachBox, assign
from CyDAS.models.detection.boxes import BoxCoder
from CyDAS.models.detection.retinanet import DetectorOutput

#: Of the focal loss: how little sure anchors count, and the weight of the class, the others' being one minus that.
GAMMA, ALPHA = 2.0, 0.25
#: Where smooth L1 goes over from a square to a line.
BETA = 0.11
ANCHORS, MATCHER, CODER = LevelAnchors(), BestForEachBox(), BoxCoder()


class Sums(NamedTuple):
    """Sums over the anchors of a batch, and what a loss divides them by."""

    classes: Tensor
    boxes: Tensor
    positives: Tensor  #: anchors with a box, of an image without any: 1; summed over the images


def focal_loss(logits: Tensor, labels: Tensor, gamma: float = GAMMA, alpha: float = ALPHA) -> Tensor:
    """Sum of the focal loss of ``logits`` [A, classes]; ``labels``: int64 [A], -1 for nothing."""
    return sigmoid_focal_loss(logits, one_hot(labels, logits), alpha, gamma, reduction="sum")


def one_hot(labels: Tensor, logits: Tensor) -> Tensor:
    """1 where the label is the class, as large and as precise as ``logits``."""
    return (labels[:, None] == torch.arange(logits.shape[1], device=labels.device)).to(logits.dtype)


def box_loss(deltas: Tensor, wanted: Tensor, beta: float = BETA) -> Tensor:
    """Sum of smooth L1 over [A, 4]."""
    return F.smooth_l1_loss(deltas, wanted, reduction="sum", beta=beta)


def loss_sums(output: DetectorOutput, targets: Sequence[dict[str, Any]]) -> Sums:
    """Both losses of a batch, over all images and levels.

    A target has ``boxes`` [M, 4] in the pixels of its image, ``labels`` int64 [M] and ``padded``, height and width of
    the image with what makes them multiples of 32.
    """
    anchors = torch.cat(output.anchors)
    sums = []
    for logits, deltas, target in zip(output.class_logits, output.deltas, targets, strict=True):
        inside = torch.cat(ANCHORS.inside(output.grids, target["padded"], anchors.device))
        matches = assign(MATCHER, anchors, inside, target["boxes"])
        counts, positive = matches != IGNORED, matches >= 0
        labels = torch.full_like(matches, -1)
        labels[positive] = target["labels"][matches[positive]]
        wanted = CODER.encode_single(target["boxes"][matches[positive]].to(anchors.dtype), anchors[positive])
        sums.append(
            torch.stack(
                [
                    focal_loss(logits[counts], labels[counts]),
                    box_loss(deltas[positive], wanted),
                    positive.sum().clamp(min=1).to(logits.dtype),
                ]
            )
        )
    return Sums(*torch.stack(sums).sum(dim=0))
