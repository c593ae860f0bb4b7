"""What happens to a step whose loss or gradient is not finite."""

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from CyDAS.utils.distributed import all_sum
from CyDAS.utils.errors import CydasError

logger = logging.getLogger(__name__)

#: So many bad steps in a row are no accident.
LIMIT = 10


class StepGuard:
    """``stop``: the figures are looked at when they are printed. ``skip``: a bad step is left out and counted.

    A step moves parameters (see ``optim.update``, which leaves those of a bad gradient alone) and the buffers of batch
    norms, which are put back here.
    """

    def __init__(self, on_nan: str):
        self.skips = on_nan == "skip"
        self.skipped = 0  #: in all
        self._in_a_row = 0

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.skipped, self._in_a_row = state["skipped"], state["in_a_row"]

    def step(self, network: nn.Module, take: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor] | None:
        """Take one update and return its figures; None for one that was left out.

        Raises :class:`CydasError` after too many of those in a row.
        """
        if not self.skips:
            return take()
        before = [buffer.clone() for buffer in network.buffers()]
        figures = take()
        bad = ~torch.stack([torch.isfinite(value.detach()).all() for value in figures.values()]).all()
        if not float(all_sum(bad.double())):
            self._in_a_row = 0
            return figures
        with torch.no_grad():
            for buffer, value in zip(network.buffers(), before, strict=True):
                buffer.copy_(value)
        self.skipped += 1
        self._in_a_row += 1
        texts = ", ".join(f"{name} {float(value.detach()):.4g}" for name, value in figures.items())
        if self._in_a_row > LIMIT:
            raise CydasError(f"more than {LIMIT} steps in a row were not finite ({texts}): lower the learning rate")
        logger.warning("a step was not finite and is left out, number %d of this run: %s", self.skipped, texts)
        return None
