"""Augmentation of whole batches of uint8 images, random per image, on the images' device."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import AutoAugmentPolicy

from CyDAS.data import native_augment
from CyDAS.data.auto_augment import auto_augment
from CyDAS.data.device import constant, send
from CyDAS.data.image_steps import ImageOptions
from CyDAS.data.timm_steps import RandAugment, random_erasing


def draw_windows(n: int, padding: int, generator: torch.Generator) -> Tensor:
    """Where a window begins in each padded image, [2, N, 1]: rows, then columns."""
    return torch.randint(0, 2 * padding + 1, (2, n, 1), generator=generator)


def draw_mirrored(n: int, generator: torch.Generator) -> Tensor:
    """Which images are mirrored, each with probability 1/2: [N]."""
    return torch.rand(n, generator=generator) < 0.5


def draw_squares(n: int, size: Sequence[int], length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where a square of ``length`` pixels begins whose centre is anywhere: rows and columns, [N, 1]."""
    rows, columns = (torch.randint(0, pixels, (n, 1), generator=generator) - length // 2 for pixels in size)
    return rows, columns


def batch_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad every image with zeros and cut a window of the old size from a random place. [N, C, H, W]."""
    n, _, height, width = images.shape
    device = images.device
    padded = F.pad(images, (padding,) * 4)
    offsets = send(draw_windows(n, padding, generator), device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.arange(width, device=device)
    image = torch.arange(n, device=device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def batch_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2. [N, C, H, W]."""
    flipped = send(draw_mirrored(len(images), generator), images.device)
    return torch.where(flipped[:, None, None, None], images.flip(-1), images)


def batch_cutout(images: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Set a square of ``length`` pixels, centred anywhere and clipped at the border, to 0 (DeVries 2017)."""

    def inside(start: Tensor, size: int) -> Tensor:
        start = send(start, images.device)
        position = torch.arange(size, device=images.device)
        return (position >= start) & (position < start + length)

    n, _, *size = images.shape
    rows, columns = map(inside, draw_squares(n, size, length, generator), size)
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)


@dataclass(frozen=True)
class BatchAugmentation:
    """From uint8 [N, C, H, W] to normalised float32, with the published augmentation where ``train`` is asked for."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int = 4  #: pixels around the image that random crops may reach into
    flip: bool = True
    cutout_length: int = 0
    auto_augment: bool = False
    rand_augment: RandAugment | None = None
    erase: Callable[[Tensor], Tensor] | None = None  #: what changes normalised images at last

    def normalise(self, images: Tensor) -> Tensor:
        mean, std = (constant(tuple(v), images.device).view(1, -1, 1, 1) * 255 for v in (self.mean, self.std))
        return (images.float() - mean) / std

    def train(self, images: Tensor, generator: torch.Generator) -> Tensor:
        changes_pixels = self.auto_augment or self.rand_augment
        one_pass = not changes_pixels and native_augment.applies(images)
        images = (self._in_one_pass if one_pass else self._step_by_step)(images, generator)
        if self.erase:
            with drawing(generator):
                images = self.erase(images)
        return images

    def _step_by_step(self, images: Tensor, generator: torch.Generator) -> Tensor:
        images = batch_crop(images, self.padding, generator)
        if self.flip:
            images = batch_flip(images, generator)
        if self.auto_augment:
            with drawing(generator):
                images = auto_augment(images, AutoAugmentPolicy.CIFAR10)
        if self.rand_augment:
            with drawing(generator):
                images = self.rand_augment.of_batch(images)
        images = self.normalise(images)
        return batch_cutout(images, self.cutout_length, generator) if self.cutout_length else images

    def _in_one_pass(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The same, drawn in the same order, where nothing but a native pass is needed."""
        n, channels, *size = images.shape
        window = draw_windows(n, self.padding, generator)
        mirrored = draw_mirrored(n, generator) if self.flip else None
        square = draw_squares(n, size, self.cutout_length, generator) if self.cutout_length else ()
        every = torch.arange(256).expand(channels, 256)[None, :, :, None]
        normalised = self.normalise(every)[0, :, :, 0]
        return native_augment.augment(images, self.padding, window, mirrored, square, self.cutout_length, normalised)


def batch_augmentation(options: ImageOptions, size: int, mean: tuple[float, ...]) -> dict[str, Any]:
    """What flags make of a :class:`BatchAugmentation` of images of ``size`` pixels."""
    rand, erase = options.rand_augment, options.random_erase
    return {
        "auto_augment": options.use_aa,
        "rand_augment": None if rand is None else RandAugment(rand, size, mean),
        "erase": random_erasing(erase) if erase else None,
    }


def drawing(generator: torch.Generator) -> AbstractContextManager[None]:
    """:func:`seeded` by a number of ``generator``: for what can only draw from torch's global one."""
    return seeded(int(torch.randint(2**62, (), generator=generator)))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch's global generator draws as ``seed`` says; afterwards it goes on where it was.

    The CPU's alone: ``torch.manual_seed`` would move those of GPUs, too, and ``fork_rng`` would not put them back.
    """
    generator = torch.default_generator
    before = generator.get_state()
    generator.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)
