"""Averages of what happens in a step, kept on the device so that no step waits for the host."""

import torch
from torch import Tensor

from CyDAS.utils.distributed import all_sum


class Averages:
    """Weighted means of named figures, and the first step at which one of them was not finite."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}
        self._steps = 0
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=self.device)

    def add(self, figures: dict[str, Tensor], weight: int = 1) -> None:
        """Take in one step's scalars; ``weight`` is what they count in the mean, a number of images, say."""
        bad = torch.zeros((), dtype=torch.bool, device=self.device)
        for name, value in figures.items():
            value = value.detach().to(torch.float64)
            self._sums[name] = self._sums.get(name, 0.0) + value * weight
            self._weights[name] = self._weights.get(name, 0.0) + weight
            bad |= ~torch.isfinite(value)
        self._first_bad = torch.where(bad & (self._first_bad < 0), self._steps, self._first_bad)
        self._steps += 1

    def steps_since_bad(self) -> int | None:
        """How many steps ago a figure was not finite for the first time since the last reset; None if all were.

        Waits for the device.
        """
        first = int(self._first_bad)
        return self._steps - 1 - first if first >= 0 else None

    def means(self) -> dict[str, float]:
        """The means over all processes. Waits for the device; every process must call it."""
        names = list(self._sums)
        if not names:
            return {}
        sums = torch.stack([torch.as_tensor(self._sums[name]) for name in names])
        weights = torch.tensor([self._weights[name] for name in names], dtype=torch.float64, device=sums.device)
        total = all_sum(torch.stack([sums, weights]))
        return dict(zip(names, (total[0] / total[1]).tolist(), strict=True))


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the batch whose highest logit is the label, percent."""
    return (logits.argmax(dim=1) == labels).double().mean() * 100
