"""From an image with its mask to a segmenter's input: resized, cut out and mirrored together.

What is random is drawn from torch's global generator, which the loaders seed for every image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from CyDAS.data.images import MAX_PIXELS, Picture, blaming
from CyDAS.data.masks import VOID
from CyDAS.data.pixel_range import ToUnit
from CyDAS.utils.normalisation import IMAGENET_MEAN, IMAGENET_STD

#: How many times its own size an image may be resized to where no sides are given.
SCALES = (0.5, 2.0)

#: An image [3, H, W] and the class of every pixel, [H, W].
Sample = tuple[tv_tensors.Image, tv_tensors.Mask]


def to_sample(pixels: Image.Image | Tensor, classes: np.ndarray) -> Sample:
    """As tensors that torchvision's transforms move alike."""
    return functional.to_image(pixels), tv_tensors.Mask(torch.from_numpy(classes))


def to_input(image: Tensor) -> Tensor:
    """uint8, or floats in 0 to 1, [3, H, W] to normalised float32."""
    unit = functional.to_dtype(image, torch.float32, scale=True)
    return functional.normalize(unit, IMAGENET_MEAN, IMAGENET_STD).as_subclass(Tensor)


def pad_to(image: Tensor, size: tuple[int, int], value: float) -> Tensor:
    """[..., H, W] to (height, width) by ``value`` below and to the right."""
    height, width = image.shape[-2:]
    return F.pad(image, (0, size[1] - width, 0, size[0] - height), value=value)


def resize_both(sample: Sample, size: tuple[int, int]) -> Sample:
    """To (height, width): the image smoothly, the mask by the nearest pixel. Raises ``ValueError`` for too many."""
    if size[0] * size[1] > MAX_PIXELS:
        height, width = sample[1].shape
        raise ValueError(f"{width} x {height} pixels are too narrow to be resized to {size[1]} x {size[0]}")
    return tuple(functional.resize(part, list(size), antialias=True) for part in sample)


def sides(height: int, width: int, factor: float) -> tuple[int, int]:
    """So many times as large, rounded, and at least a pixel."""
    return max(1, round(height * factor)), max(1, round(width * factor))


@dataclass(frozen=True)
class TrainSteps:
    """A random size, a random window of ``crop_size``, perhaps mirrored; what the image does not fill is void.

    ``short_sides``: what the shorter side is resized to; without, :data:`SCALES` times the image's own. ``long_side``:
    the longer one's limit.
    """

    to_unit: ToUnit
    crop_size: tuple[int, int]
    short_sides: Sequence[int] | None = None
    long_side: int | None = None
    flip: bool = True

    def __call__(self, pair: tuple[Picture, np.ndarray]) -> tuple[Tensor, Tensor]:
        """float32 [3, H, W] and int64 [H, W] of ``crop_size``. Raises :class:`CydasError`."""
        picture, classes = pair
        with blaming(picture.name):
            image, mask = to_sample(self.to_unit(picture), classes)
            image, mask = self._crop(resize_both((image, mask), self._size(*mask.shape)))
            if self.flip and torch.rand(()) < 0.5:
                image, mask = functional.horizontal_flip(image), functional.horizontal_flip(mask)
            filled = pad_to(to_input(image), self.crop_size, 0.0)
            return filled, pad_to(mask.as_subclass(Tensor), self.crop_size, VOID).long()

    def _size(self, height: int, width: int) -> tuple[int, int]:
        if self.short_sides:
            side = self.short_sides[int(torch.randint(len(self.short_sides), ()))]
            factor = side / min(height, width)
        else:
            factor = float(torch.empty(()).uniform_(*SCALES))
        if self.long_side:
            factor = min(factor, self.long_side / max(height, width))
        return sides(height, width, factor)

    def _crop(self, sample: Sample) -> Sample:
        sizes = zip(sample[1].shape, self.crop_size, strict=True)
        height, width = (min(whole, wanted) for whole, wanted in sizes)
        top, left = (
            int(torch.randint(whole - part + 1, ()))
            for whole, part in zip(sample[1].shape, (height, width), strict=True)
        )
        return tuple(functional.crop(part, top, left, height, width) for part in sample)


@dataclass(frozen=True)
class TestSteps:
    """The whole image at its own size, or with its mask resized to ``long_side``."""

    to_unit: ToUnit
    long_side: int | None = None

    def sample(self, pair: tuple[Picture, np.ndarray]) -> Sample:
        """The image as it is, uint8 or floats in 0 to 1, and uint8 classes. Raises :class:`CydasError`."""
        picture, classes = pair
        with blaming(picture.name):
            image, mask = to_sample(self.to_unit(picture), classes)
            if self.long_side:
                height, width = mask.shape
                image, mask = resize_both((image, mask), sides(height, width, self.long_side / max(height, width)))
            return image, mask

    def __call__(self, pair: tuple[Picture, np.ndarray]) -> tuple[Tensor, Tensor]:
        """float32 [3, H, W] and int64 [H, W]. Raises :class:`CydasError`."""
        image, mask = self.sample(pair)
        return to_input(image), mask.as_subclass(Tensor).long()


@dataclass(frozen=True)
class Padded:
    """Samples become a batch: padded to a common size of multiples, the image by 0 and the mask by void."""

    multiple: int
    least: int

    def __call__(self, whole: list[tuple[tuple[Tensor, Tensor], None]]) -> tuple[Tensor, Tensor]:
        samples = [sample for sample, _ in whole]
        height, width = (self.side(max(mask.shape[axis] for _, mask in samples)) for axis in (0, 1))
        images = torch.stack([pad_to(image, (height, width), 0.0) for image, _ in samples])
        return images, torch.stack([pad_to(mask, (height, width), VOID) for _, mask in samples])

    def side(self, length: int) -> int:
        """What a side of ``length`` pixels is padded to."""
        return max(self.least, -(-length // self.multiple) * self.multiple)
