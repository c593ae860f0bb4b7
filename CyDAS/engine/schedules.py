"""Learning rates of a training: each a function of the epoch, counted from 0, and so of the step."""

from collections.abc import Callable, Sequence

from CyDAS.config import RetrainConfig
from CyDAS.engine.optim import cosine
from CyDAS.utils.errors import CydasError

#: From the number of a training's step, counted from 0, to its learning rate.
Schedule = Callable[[int], float]
#: What :func:`step_decay` multiplies the rate by at each of its epochs.
DECAY = 0.1
#: What it starts with, of the rate.
WARMUP_RATIO = 1 / 3


def retrain_schedule(config: RetrainConfig, steps: int, processes: int) -> Schedule:
    """The rate of the epoch that a step is in, by ``--lr_schedule``; ``steps``: of an epoch."""
    batch = config.global_batch(processes)

    def published(epoch: int) -> float:
        return retrain_lr(config.lr, epoch, config.epochs, config.warmup_epochs, batch)

    rate = {"cosine": published, "timm_cosine": timm_cosine(config), "timm_step": timm_step(config)}
    of_epoch = rate[config.lr_schedule]
    return lambda step: of_epoch(step // steps)


def retrain_lr(lr: float, epoch: int, epochs: int, warmup_epochs: int, global_batch: int) -> float:
    """Learning rate of an epoch of retraining: cosine to 0; a linear start over ``warmup_epochs`` for large batches.

    Published rule: the start is needed, and used, only when all processes together see more than 256 images a step.
    """
    rate = cosine(lr, 0.0, epoch / epochs)
    if global_batch > 256 and epoch < warmup_epochs:
        rate *= (epoch + 1) / warmup_epochs
    return rate


def timm_cosine(config: RetrainConfig) -> Callable[[int], float]:
    """timm's cosine: to ``min_lr`` over all epochs, of which the warm-up takes the first; then ``min_lr``."""

    def rate(epoch: int) -> float:
        return cosine(config.lr, config.min_lr, min(epoch / config.epochs, 1.0))

    return _after_warm_up(config, rate)


def timm_step(config: RetrainConfig) -> Callable[[int], float]:
    """timm's steps: times ``decay_rate`` every ``decay_epochs`` epochs, which may be a fraction."""
    return _after_warm_up(config, lambda epoch: config.lr * config.decay_rate ** (epoch // config.decay_epochs))


def _after_warm_up(config: RetrainConfig, rate: Callable[[int], float]) -> Callable[[int], float]:
    """``rate`` behind the warm-up's epochs, in which it rises from ``warmup_lr`` in equal steps."""
    start, epochs = config.warmup_lr, config.warmup_epochs
    return lambda epoch: start + epoch * (config.lr - start) / epochs if epoch < epochs else rate(epoch)


def poly_lr(lr: float, step: int, steps: int, warmup_steps: int, warmup_lr: float, power: float = 0.9) -> float:
    """Learning rate of a step of ``steps``: exponentially from ``warmup_lr`` up to ``lr``, then polynomially to 0."""
    if step < warmup_steps:
        return warmup_lr * (lr / warmup_lr) ** (step / warmup_steps)
    return lr * (1 - (step - warmup_steps) / (steps - warmup_steps)) ** power


def poly_schedule(lr: float, steps: int, warmup_steps: int, warmup_lr: float) -> Schedule:
    """:func:`poly_lr` of every step. Raises :class:`CydasError` where the whole training would be its warm-up."""
    if warmup_steps >= steps:
        raise CydasError(f"--warmup_steps {warmup_steps}: the whole training has {steps} steps; give fewer, or 0")
    return lambda step: poly_lr(lr, step, steps, warmup_steps, warmup_lr)


def step_decay(
    lr: float, epochs: Sequence[int], warmup_steps: int, steps: int, warmup_ratio: float = WARMUP_RATIO
) -> Schedule:
    """``lr``, a tenth of it after so many ``epochs``, a hundredth after the second number, and so on.

    Over the first ``warmup_steps`` steps the rate rises from ``warmup_ratio`` of that to all of it. ``steps``: of an
    epoch.
    """

    def rate(step: int) -> float:
        fallen = lr * DECAY ** sum(step // steps >= epoch for epoch in epochs)
        if step >= warmup_steps:
            return fallen
        return fallen * (1 - (1 - step / warmup_steps) * (1 - warmup_ratio))

    return rate
