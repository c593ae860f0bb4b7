"""Images and their boxes made ready for a detector: resized and flipped together, batched with padding."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import RandomHorizontalFlip, functional
from torchvision.tv_tensors import BoundingBoxes

from CyDAS.data.coco import Scene
from CyDAS.data.images import Picture, blaming
from CyDAS.data.mask_steps import to_input
from CyDAS.data.pixel_range import ToUnit

#: What heights and widths of batches are multiples of.
MULTIPLE = 32
#: Boxes that are narrower, pixels of the image as it is stored, teach nothing.
NARROWEST = 1.0

Size = tuple[int, int]  #: height and width


def resized(size: Size, short: int, long: int) -> Size:
    """The largest size of these proportions whose shorter side is at most ``short`` and whose longer one ``long``."""
    factor = min(short / min(size), long / max(size))
    height, width = (max(1, int(pixels * factor + 0.5)) for pixels in size)
    return height, width


def padded(size: Size) -> Size:
    """The size with what makes its sides multiples of :data:`MULTIPLE`."""
    height, width = (-(-pixels // MULTIPLE) * MULTIPLE for pixels in size)
    return height, width


class PrepareScene:
    """From a picture and its scene to a normalised image [3, h, w] and its target.

    ``sides``: the most pixels of the shorter and of the longer one. With ``flip`` half of the images are
    mirrored. A target has of the resized image ``boxes`` [M, 4], ``labels`` int64 [M], ``size`` and ``padded``, and of
    the stored one ``original``, its height and width, ``id`` and ``objects``. Its boxes are those that something can be
    learned from: no crowds, and at least a pixel wide and high within the image. Raises :class:`CydasError` for a
    picture of another size than the annotations say.
    """

    def __init__(self, to_unit: ToUnit, sides: tuple[int, int], flip: bool = False):
        self.to_unit = to_unit
        self.sides = sides
        self.flip = RandomHorizontalFlip() if flip else None

    def __call__(self, sample: tuple[Picture, Scene]) -> tuple[Tensor, dict[str, Any]]:
        picture, scene = sample
        with blaming(picture.name):
            image = functional.to_image(self.to_unit(picture))
            if tuple(image.shape[1:]) != (scene.height, scene.width):
                raise ValueError(
                    f"it has {image.shape[2]} x {image.shape[1]} pixels, its annotations say {scene.width} x "
                    f"{scene.height}"
                )
            size = resized((scene.height, scene.width), *self.sides)
            boxes, labels = learnable(scene)
            image, boxes = (functional.resize(part, list(size), antialias=True) for part in (image, boxes))
            if self.flip:
                image, boxes = self.flip(image, boxes)
        target = {"boxes": boxes.as_subclass(Tensor), "labels": labels, "size": size, "padded": padded(size)}
        return to_input(image), target | {
            "original": (scene.height, scene.width), "id": scene.id, "objects": list(map(tuple, scene.objects)),
        }  # fmt: skip


def learnable(scene: Scene) -> tuple[BoundingBoxes, Tensor]:
    """The boxes of a scene that something can be learned from, cut off at its borders, and their labels."""
    objects = [thing for thing in scene.objects if not thing.is_crowd]
    boxes = torch.tensor([thing.box for thing in objects], dtype=torch.float32).reshape(-1, 4)
    boxes = boxes.clamp(torch.zeros(4), torch.tensor([scene.width, scene.height] * 2, dtype=torch.float32))
    large = ((boxes[:, 2:] - boxes[:, :2]) >= NARROWEST).all(dim=1)
    labels = torch.tensor([thing.label for thing in objects], dtype=torch.int64)
    size = (scene.height, scene.width)
    return BoundingBoxes(boxes[large], format="XYXY", canvas_size=size), labels[large]


def collate(whole: Sequence[tuple[tuple[Tensor, dict[str, Any]], Any]]) -> tuple[Tensor, list[dict[str, Any]]]:
    """A batch of images [N, 3, H, W], zeros below and right of each, and their targets."""
    images, targets = zip(*(pair for pair, _ in whole), strict=True)
    height, width = (max(target["padded"][side] for target in targets) for side in (0, 1))
    grown = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in images]
    return torch.stack(grown), list(targets)
