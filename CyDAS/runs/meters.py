"""Averages of what happens in a step, kept on the device so that no step waits for the host."""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from CyDAS.runs.logs import RunLog
from CyDAS.utils.distributed import all_sum, least
from CyDAS.utils.errors import CydasError


class Sum(NamedTuple):
    """A figure over all steps, of all processes."""

    total: float  #: of the figure times its weight
    weight: float
    mean: float  #: NaN without any weight


class Averages:
    """Weighted means of named figures, and the first step at which one of them was not finite."""

    def __init__(self, device: torch.device):
        self.device = device
        self.reset()

    def reset(self) -> None:
        self._names: list[str] = []
        self._sums = torch.zeros(0, dtype=torch.float64, device=self.device)  # in the order of the names
        self._weights: dict[str, float] = {}
        self._steps = 0
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=self.device)

    def add(self, figures: dict[str, Tensor], weight: int = 1) -> None:
        """Take in one step's scalars; ``weight`` is what they count in the mean, a number of images, say.

        A handful of operations on the device, however many figures there are.
        """
        self._make_room(figures)
        for name in figures:
            self._weights[name] += weight
        if figures:
            own = (figures[name].detach() if name in figures else self._sums.new_zeros(()) for name in self._names)
            values = torch.stack(list(own)).to(torch.float64)
            self._sums = self._sums + values * weight
            bad = ~torch.isfinite(values).all()
            self._first_bad = torch.where(bad & (self._first_bad < 0), self._steps, self._first_bad)
        self._steps += 1

    def _make_room(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self._weights]
        if new:
            self._names += new
            self._weights.update(dict.fromkeys(new, 0.0))
            self._sums = torch.cat([self._sums, self._sums.new_zeros(len(new))])

    def state_dict(self) -> dict[str, Any]:
        """What has been taken in by this process since the last report."""
        sums = dict(zip(self._names, self._sums.cpu().unbind(), strict=True))
        sums = {name: value.clone() for name, value in sums.items()}
        return {"sums": sums, "weights": self._weights, "steps": self._steps, "first_bad": int(self._first_bad)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.reset()
        self._make_room(state["sums"])
        if self._names:
            self._sums = torch.stack(list(state["sums"].values())).to(self.device, torch.float64)
        self._weights.update(state["weights"])
        self._steps = state["steps"]
        self._first_bad = torch.full((), state["first_bad"], dtype=torch.int64, device=self.device)

    def is_finite_everywhere(self) -> bool:
        """Whether every figure since the last report was, on all processes; each of them must call it."""
        return not int(all_sum((self._first_bad >= 0).long()))

    def sums(self) -> dict[str, "Sum"]:
        """The sums over all processes. Waits for the device; every process must call it."""
        if not self._names:
            return {}
        weights = torch.tensor([self._weights[name] for name in self._names], dtype=torch.float64, device=self.device)
        total = all_sum(torch.stack([self._sums, weights]))
        columns = torch.stack([total[0], total[1], total[0] / total[1]], dim=1).tolist()
        return {name: Sum(*column) for name, column in zip(self._names, columns, strict=True)}

    def means(self) -> dict[str, float]:
        """The means over all processes. Waits for the device; every process must call it."""
        return {name: total.mean for name, total in self.sums().items()}

    def report(self, log: RunLog, name: str, step: int) -> dict[str, float]:
        """Log the means of the steps since the last report, return them, and start anew.

        ``step`` is the number of the last one. Where a figure was not finite, raises :class:`CydasError` that names
        the first step at which one was not, and the last good checkpoint.
        """
        means = self.means()
        text = "  ".join(f"{key} {value:.4g}" for key, value in means.items())
        log.info("%s  %s", name, text)
        if not all(map(math.isfinite, means.values())):  # in all processes, if in one: means are of all
            never = torch.full_like(self._first_bad, self._steps)
            first = int(least(torch.where(self._first_bad < 0, never, self._first_bad)))
            raise not_finite(
                f"a loss or a gradient is not finite at step {step - (self._steps - 1 - first)}, {name}: {text}", log
            )
        self.reset()
        return means


def not_finite(what: str, log: RunLog | None) -> CydasError:
    """The error of a run that cannot go on like this."""
    good = log and log.last_checkpoint or "none yet"
    return CydasError(f"{what}. Last good checkpoint: {good}. Lower the learning rate before you go on")
