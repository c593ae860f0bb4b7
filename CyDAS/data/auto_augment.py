"""AutoAugment (Cubuk et al. 2019) of whole batches: every image has a choice of its own, as torchvision draws it."""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

from CyDAS.data.device import send

#: An operation's name and magnitude.
Step = tuple[str, float]


class _Choices(AutoAugment):
    """torchvision's policy, which draws an image's operations as ever but notes them instead of working them out."""

    def __init__(self, policy: AutoAugmentPolicy):
        super().__init__(policy)
        self._steps: list[Step] = []

    def _apply_image_or_video_transform(self, image: Tensor, transform_id: str, magnitude: float, **_: Any) -> Tensor:
        self._steps.append((transform_id, magnitude))
        return image

    def draw(self, like: Tensor) -> list[Step]:
        """The operations of one image of this shape, drawn from torch's global generator."""
        self._steps = []
        self(like)
        return self._steps

    def work_out(self, images: Tensor, step: Step) -> Tensor:
        """The operation on a batch."""
        return super()._apply_image_or_video_transform(images, *step, interpolation=self.interpolation, fill=self._fill)


def auto_augment(images: Tensor, policy: AutoAugmentPolicy) -> Tensor:
    """Each of ``images`` (uint8 [N, C, H, W], on any device) changed as ``AutoAugment(policy)`` would change it.

    Drawn image by image from torch's global generator; worked out for all images of one operation at a time.
    """
    choices = _Choices(policy)
    like = images.new_empty(images.shape[1:], device="cpu")
    plans = [choices.draw(like) for _ in images]
    images = images.clone()
    for position in range(max(map(len, plans), default=0)):
        groups: dict[Step, list[int]] = defaultdict(list)
        for index, plan in enumerate(plans):
            if position < len(plan):
                groups[plan[position]].append(index)
        for step, members in groups.items():
            where = send(torch.tensor(members), images.device)
            images[where] = choices.work_out(images[where], step)
    return images
