"""From a network's output to the boxes that it detects."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from CyDAS.models.detection.boxes import BoxCoder, clip_boxes
from CyDAS.models.detection.retinanet import DetectorOutput

#: Anchors of a level that are looked at: those with the best score of any class.
PER_LEVEL = 1000
#: The least score of a detection, the IoU from which on two of a class are one, the most detections of an image.
SCORE, OVERLAP, MOST = 0.05, 0.5, 100
CODER = BoxCoder()


class Detections(NamedTuple):
    """What was found in an image."""

    boxes: Tensor  #: [D, 4]
    scores: Tensor  #: [D], 0 to 1
    labels: Tensor  #: int64 [D], class numbers from 0 on


def candidates(
    output: DetectorOutput, index: int, size: tuple[int, int], least: float = SCORE, per_level: int = PER_LEVEL
) -> Detections:
    """All detections of a score above ``least`` in image ``index`` of a batch, however much they overlap.

    ``size``: height and width of the image without padding, to which boxes are clipped.
    """
    parts = [len(anchors) for anchors in output.anchors]
    boxes, scores = [], []
    for anchors, logits, deltas in zip(
        output.anchors, output.class_logits[index].split(parts), output.deltas[index].split(parts), strict=True
    ):
        own = logits.to(anchors.dtype).sigmoid()
        best = own.max(dim=1).values.topk(min(per_level, len(own))).indices
        boxes.append(CODER.decode_single(deltas[best].to(anchors.dtype), anchors[best]))
        scores.append(own[best])
    clipped, all_scores = clip_boxes(torch.cat(boxes), size), torch.cat(scores)
    anchor, label = (all_scores > least).nonzero(as_tuple=True)
    return Detections(clipped[anchor], all_scores[anchor, label], label)


def suppress(found: Detections, overlap: float = OVERLAP, most: int = MOST) -> Detections:
    """The best ``most`` detections, the best first, without those that overlap a better one of their class by more."""
    keep = batched_nms(found.boxes, found.scores, found.labels, overlap)[:most]
    return Detections(*(value[keep] for value in found))


def detections(output: DetectorOutput, index: int, size: tuple[int, int], original: tuple[int, int]) -> Detections:
    """What is found in image ``index``, in the pixels of the image before it was resized to ``size`` from ``original``,
    heights and widths.
    """
    found = candidates(output, index, size)
    (height, width), (own_height, own_width) = size, original
    factors = found.boxes.new_tensor([own_width / width, own_height / height] * 2)
    return suppress(found._replace(boxes=found.boxes * factors))
