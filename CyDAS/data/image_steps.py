"""What is done to the images of a folder data set, step by step: for a training, and for a test."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torchvision.transforms import v2

from CyDAS.data.images import growth_limit
from CyDAS.data.timm_steps import RandAugment, random_erasing
from CyDAS.utils.flags import some_of
from CyDAS.utils.normalisation import IMAGENET_MEAN, IMAGENET_STD


class ImageOptions(NamedTuple):
    """The flags of augmentation and of tests, at their defaults where a program does not have them."""

    use_aa: bool = False
    rand_augment: str | None = None
    random_erase: float = 0.0
    interpolation: str = "bilinear"
    crop_pct: float = 0.875
    test_interpolation: str = "bilinear"


def image_options(config: Any) -> ImageOptions:
    return ImageOptions(**some_of(config, *ImageOptions._fields))


def training_steps(options: ImageOptions, size: int) -> Callable:
    """From an RGB image, Pillow's or float32 in 0 to 1, to an augmented and normalised one, float32 [3, size, size]."""
    steps = [_crop(options.interpolation, size), v2.RandomHorizontalFlip(), _colours(options, size), *_to_tensor()]
    steps += [random_erasing(options.random_erase)] if options.random_erase else []
    return v2.Compose(steps)


def _crop(interpolation: str, size: int) -> Callable:
    """A window of 8 to 100 % of the area, resized; ``random``: each time by one of the two kernels, as timm does."""
    kernels = ("bilinear", "bicubic") if interpolation == "random" else (interpolation,)
    crops = [v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode(kernel)) for kernel in kernels]
    return v2.RandomChoice(crops) if len(crops) > 1 else crops[0]


def _colours(options: ImageOptions, size: int) -> Callable:
    """The published jitter, or the policy that takes its place."""
    if options.use_aa:
        return v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET)
    if options.rand_augment is not None:
        return RandAugment(options.rand_augment, size, IMAGENET_MEAN, options.interpolation)
    return v2.ColorJitter(0.4, 0.4, 0.4, 0.2)


def test_steps(options: ImageOptions, size: int) -> Callable:
    """From an RGB image to its centre, normalised, float32 [3, size, size].

    The published proportion of the sides, 256 to 224, is kept at other sizes; it is ``crop_pct`` 0.875.
    """
    side = round(size / options.crop_pct)
    resize = v2.Resize(side, interpolation=v2.InterpolationMode(options.test_interpolation))
    return v2.Compose([growth_limit(side), resize, v2.CenterCrop(size), *_to_tensor()])


def _to_tensor() -> list:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
