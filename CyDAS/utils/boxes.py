"""Boxes drawn into pictures."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from CyDAS.utils.overlays import colours


def draw_boxes(
    picture: Tensor, boxes: Tensor, labels: Sequence[int], classes: Sequence[str], scores: Sequence[float] = ()
) -> np.ndarray:
    """``picture``, uint8 [3, H, W], with ``boxes`` [B, 4] in the colours of their classes, with names and any scores.

    Returns uint8 [H, W, 3]. What of a box is beyond the picture is not drawn.
    """
    height, width = picture.shape[1:]
    if len(boxes):
        boxes = boxes.clamp(torch.zeros(4), torch.tensor([width, height] * 2) - 1.0)
        words = [classes[label] for label in labels]
        if scores:
            words = [f"{word} {score:.2f}" for word, score in zip(words, scores, strict=True)]
        table = colours(len(classes))
        own = [tuple(table[label].tolist()) for label in labels]
        picture = draw_bounding_boxes(picture, boxes, words, own, width=1 + max(height, width) // 500)
    return picture.permute(1, 2, 0).numpy()
