"""What happens to a step whose loss or gradient is not finite."""

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from CyDAS.runs.logs import RunLog
from CyDAS.runs.meters import not_finite
from CyDAS.utils.distributed import all_sum

logger = logging.getLogger(__name__)

#: So many bad steps in a row are no accident.
LIMIT = 10


class StepGuard:
    """``stop``: the figures are looked at when they are printed. ``skip``: a bad step is left out and counted.

    float16's loss scaling leaves out updates of a gradient that is not finite by itself, and halves its scale: some of
    them are its way to find the scale, but more than :data:`LIMIT` in a row, or a scale below 1, mean that the gradient
    itself is not finite; then the run stops either way.

    A step moves parameters (see ``optim.update``, which leaves those of a bad gradient alone) and the buffers of batch
    norms, which are put back here.
    """

    def __init__(self, on_nan: str):
        self.skips = on_nan == "skip"
        self.skipped = 0  #: in all
        self.log: RunLog | None = None  #: knows the last checkpoint
        self._in_a_row = 0

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]

    def step(
        self, network: nn.Module, take: Callable[[], dict[str, Tensor]], scaler: torch.amp.GradScaler | None = None
    ) -> dict[str, Tensor] | None:
        """Take one update and return its figures; None for one that was left out and is not to be counted.

        ``scaler``: the update's. Raises :class:`CydasError` after too many left out in a row.
        """
        scaling = scaler if scaler is not None and scaler.is_enabled() else None
        if not (self.skips or scaling):
            return take()
        scale = scaling.get_scale() if scaling else math.inf
        before = [buffer.clone() for buffer in network.buffers()] if self.skips else []
        figures = take()
        overflowed = scaling is not None and scaling.get_scale() < scale  # alike in all processes, as the gradient is
        if not overflowed and not (self.skips and _is_bad(figures)):
            self._in_a_row = 0
            return figures
        if self.skips:
            with torch.no_grad():
                for buffer, value in zip(network.buffers(), before, strict=True):
                    buffer.copy_(value)
        self.skipped += 1
        self._in_a_row += 1
        self._judge(figures, scaling if overflowed else None)
        return None if self.skips else figures

    def _judge(self, figures: dict[str, Tensor], scaler: torch.amp.GradScaler | None) -> None:
        """Say that a step was left out, or stop. ``scaler``: the one that left it out, if one did."""
        # an update that the scaler leaves out has no gradient's norm
        names = [name for name in figures if scaler is None or not name.endswith("gradient_norm")]
        texts = ", ".join(f"{name} {float(figures[name].detach()):.4g}" for name in names)
        if scaler is not None:
            texts += f"; float16's loss scale is now {scaler.get_scale():g}"
        if self._in_a_row > LIMIT:
            raise not_finite(f"more than {LIMIT} steps in a row were not finite ({texts})", self.log)
        if scaler is not None and scaler.get_scale() < 1:
            raise not_finite(f"the gradient is not finite, whatever the loss scale ({texts})", self.log)
        logger.warning("a step was not finite and is left out, number %d of this run: %s", self.skipped, texts)


def _is_bad(figures: dict[str, Tensor]) -> bool:
    """Whether a figure is not finite in any process."""
    bad = ~torch.stack([torch.isfinite(value.detach()).all() for value in figures.values()]).all()
    return float(all_sum(bad.double())) > 0
