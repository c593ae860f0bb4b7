"""Testing a network on all images of a part of the data."""

from typing import TypeVar

import torch
from torch import Tensor, nn

from CyDAS.config import EvaluationConfig
from CyDAS.data.loaders import Batches
from CyDAS.engine.optim import Precision
from CyDAS.models.fuse import fold_batch_norms
from CyDAS.models.native.tensors import is_native
from CyDAS.tasks import Result, Task

Measured = TypeVar("Measured", bound=Result)


@torch.no_grad()
def evaluate(network: nn.Module, task: Task[Measured], batches: Batches, precision: Precision) -> Measured:
    """What the task measures on all images of ``batches``, over all processes: its ``result``.

    Raises :class:`CydasError`, in all of them, where nothing can be measured.
    """
    network.eval()
    metrics = task.metrics(precision.device)
    for images, targets in batches.epoch():
        with precision.autocast():
            output = network(images)
        metrics.add(output, targets)
    return metrics.result()


def make_fast(network: nn.Module, config: EvaluationConfig, images: Tensor) -> None:
    """Fold batch norms and compile, as the flags say, for ``images`` of this kind.

    Native cells apply batch norms in passing: there is nothing to fold.
    """
    native = is_native(images) and not (config.use_amp or config.compile)
    if config.fuse and not native:
        fold_batch_norms(network)
    if config.compile:
        network.compile(mode=config.compile_mode)
