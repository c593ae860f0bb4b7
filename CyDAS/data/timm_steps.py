"""timm's own RandAugment and random erasing, whose random choices follow PyTorch's generator here.

timm draws from the generators of Python and NumPy. All augmentation of a run follows from (seed, stream, epoch, place)
by way of PyTorch's, so each call here seeds the two from that, and puts them back.
"""

import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from CyDAS.data.device import send
from CyDAS.utils.errors import CydasError

#: What timm reads, section by section; it passes over what it does not know.
SECTIONS = r"rand(-(m\d+|n\d+|mmax\d+|inc[01]|p(0(\.\d+)?|1(\.0+)?)|mstd\d+(\.\d+)?|t(weights|3aw?)))*"

HOW = (
    "it starts with rand, and goes on with any of -mN (magnitude), -nN (operations), -pX (probability), -mstdX, "
    "-mmaxN, -inc1, -tweights, as rand-m9-mstd0.5"
)


@contextmanager
def following_torch() -> Iterator[None]:
    """Within it Python and NumPy draw as PyTorch's generator says; afterwards they go on where they were."""
    python, numpy = random.getstate(), np.random.get_state()
    seed = int(torch.randint(2**32, ()))
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


class RandAugment:
    """timm's RandAugment of one image, Pillow's RGB or float32 [3, H, W] in 0 to 1; the result is Pillow's.

    Operations work on 8 bits; an image of more has no more than these afterwards. Raises :class:`CydasError` for a
    ``policy`` that timm cannot read, or would read otherwise than it looks.
    """

    def __init__(self, policy: str, size: int, mean: tuple[float, ...], interpolation: str = "random"):
        """``size``: the images', of which translations reach 45 %; ``mean``: 0 to 1, what they leave behind."""
        from timm.data.auto_augment import rand_augment_transform  # late: timm takes seconds to import

        if not re.fullmatch(SECTIONS, policy, re.ASCII):
            raise CydasError(f"--rand_augment {policy} is none of timm's: {HOW}")
        options: dict[str, Any] = {"translate_const": int(size * 0.45), "img_mean": tuple(round(255 * m) for m in mean)}
        if interpolation != "random":
            options["interpolation"] = Image.Resampling[interpolation.upper()]
        self._augment = rand_augment_transform(policy, options)
        if self._augment.choice_weights is not None and self._augment.num_layers > len(self._augment.ops):
            raise CydasError(f"--rand_augment {policy}: there are {len(self._augment.ops)} operations, each used once")

    def __call__(self, image: Image.Image | Tensor) -> Image.Image:
        if isinstance(image, Tensor):
            image = F.to_pil_image((image * 255).round().byte())
        with following_torch():
            return self._augment(image)

    def of_batch(self, images: Tensor) -> Tensor:
        """Of each of ``images``, uint8 [N, 3, H, W] on any device, where the result lies, too."""
        arrays = images.cpu().permute(0, 2, 3, 1).contiguous().numpy()
        with following_torch():
            changed = np.stack([np.asarray(self._augment(Image.fromarray(array))) for array in arrays])
        return send(torch.from_numpy(changed).permute(0, 3, 1, 2).contiguous(), images.device)


def random_erasing(probability: float) -> Callable[[Tensor], Tensor]:
    """timm's random erasing, mode pixel: of normalised images [C, H, W] or [N, C, H, W], which it changes.

    The noise is drawn on the CPU, wherever the images lie: GPUs have generators of their own.
    """
    from timm.data.random_erasing import RandomErasing  # late, as above

    erase = RandomErasing(probability, mode="pixel", device="cpu")

    def step(images: Tensor) -> Tensor:
        with following_torch():
            return erase(images)

    return step
