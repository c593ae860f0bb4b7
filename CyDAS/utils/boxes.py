"""Boxes drawn into pictures."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

from CyDAS.utils.files import write_atomically

#: From one class to the next on the circle of hues: classes with near numbers get colours far apart.
GOLDEN = 0.618034


def draw_boxes(picture: Tensor, boxes: Tensor, labels: Sequence[int], words: Sequence[str]) -> Tensor:
    """A copy of ``picture``, uint8 [3, H, W], with ``boxes`` [B, 4] in the colours of ``labels``, each with its word.

    What of a box is beyond the picture is not drawn.
    """
    height, width = picture.shape[1:]
    boxes = boxes.clamp(torch.zeros(4), torch.tensor([width, height] * 2) - 1.0)
    if not len(boxes):
        return picture.clone()
    colours = [colour_of(label) for label in labels]
    thickness = 1 + max(height, width) // 500
    return draw_bounding_boxes(picture, boxes, list(words), colours, width=thickness)


def colour_of(label: int) -> tuple[int, int, int]:
    """Red, green and blue of a class, 0 to 255, the same in every picture."""
    red, green, blue = (int(255 * part) for part in colorsys.hsv_to_rgb(label * GOLDEN % 1, 0.9, 1.0))
    return red, green, blue


def write_picture(path: Path, picture: Tensor) -> None:
    """Write uint8 [3, H, W] as a JPEG file. Raises :class:`CydasError` where it cannot be written."""
    image = Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy())
    write_atomically(path, lambda beside: image.save(beside, "JPEG", quality=90))
