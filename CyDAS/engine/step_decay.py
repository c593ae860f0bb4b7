"""The learning rate of detectors: a linear start, then a tenth at given epochs."""

from collections.abc import Sequence

from CyDAS.engine.optim import Schedule

#: What the rate is multiplied by at each of the epochs.
FACTOR = 0.1
#: What it starts with.
WARMUP_RATIO = 1 / 3


def step_decay(
    lr: float, epochs: Sequence[int], warmup_steps: int, steps: int, warmup_ratio: float = WARMUP_RATIO
) -> Schedule:
    """``lr``, a tenth of it after so many ``epochs``, a hundredth after the second number, and so on.

    Over the first ``warmup_steps`` steps the rate rises from ``warmup_ratio`` of that to all of it. ``steps``: of an
    epoch.
    """

    def rate(step: int) -> float:
        fallen = lr * FACTOR ** sum(step // steps >= epoch for epoch in epochs)
        if step >= warmup_steps:
            return fallen
        return fallen * (1 - (1 - step / warmup_steps) * (1 - warmup_ratio))

    return rate
