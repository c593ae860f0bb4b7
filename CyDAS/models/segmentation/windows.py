"""Sliding evaluation: an image is cut into overlapping windows, and what they say of a pixel is averaged."""

from collections.abc import Callable

import torch
from torch import Tensor

from CyDAS.utils.present import present


def slide(network: Callable[[Tensor], Tensor], x: Tensor, window: tuple[int, int], multiple: int) -> Tensor:
    """The mean probability of every class at every pixel, as logarithm: ``x`` [N, 3, H, W] to [N, classes, H, W].

    ``network`` gives logits [N, classes, h, w] of a window. Windows overlap by at least a third; where the image is
    smaller than a window, the window is as large as the image. H, W and ``window`` are multiples of ``multiple``.
    """
    sizes = [min(side, whole) for side, whole in zip(window, x.shape[-2:], strict=True)]
    total: Tensor | None = None
    times = x.new_zeros(x.shape[-2:])
    for top in _starts(x.shape[-2], sizes[0], multiple):
        for left in _starts(x.shape[-1], sizes[1], multiple):
            rows, columns = slice(top, top + sizes[0]), slice(left, left + sizes[1])
            probabilities = network(x[..., rows, columns]).softmax(dim=1)
            if total is None:
                total = probabilities.new_zeros(*probabilities.shape[:2], *x.shape[-2:])
            total[..., rows, columns] += probabilities
            times[rows, columns] += 1
    return torch.log(present(total) / times)


def _starts(whole: int, size: int, multiple: int) -> list[int]:
    """Where windows begin: evenly spread, at multiples of ``multiple``, overlapping by a third or more."""
    step = max(multiple, size * 2 // 3 // multiple * multiple)
    return [*range(0, whole - size, step), whole - size]
