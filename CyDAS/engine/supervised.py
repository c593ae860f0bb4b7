"""Training a found network on labels, and evaluating it."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from CyDAS.config import RetrainConfig
from CyDAS.data.loaders import Batches
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.losses import classification_loss, mixup
from CyDAS.engine.optim import Figures, Precision, learn
from CyDAS.models.cells.nasnet import RetrainOutput
from CyDAS.runs.checkpoint import (
    buffers_of,
    process_states,
    refusing,
    save_checkpoint,
    set_buffers,
    set_process_state,
)
from CyDAS.runs.keeper import Keeper
from CyDAS.runs.logs import RunLog
from CyDAS.runs.meters import Averages, top1
from CyDAS.runs.weights import load_weights
from CyDAS.utils.distributed import Process, all_sum
from CyDAS.utils.errors import CydasError


class Accuracy(NamedTuple):
    """Shares of the test images, percent, every image counted once."""

    top1: float
    top5: float  #: with fewer than 5 classes: among all of them
    loss: float
    images: int


def retrain_loss(output: RetrainOutput, targets: Tensor, label_smooth: float, aux_weight: float) -> Tensor:
    """Label-smoothed cross-entropy, plus ``aux_weight`` times the same on the auxiliary logits."""
    loss = classification_loss(output.logits, targets, label_smooth)
    if output.auxiliary is not None:
        loss = loss + aux_weight * classification_loss(output.auxiliary, targets, label_smooth)
    return loss


class EpochState:
    """How far an epoch has come, and its figures so far."""

    def __init__(self, device: torch.device):
        self.index = 0  #: finished steps
        self.printed = Averages(device)  #: since the last report
        self.whole = Averages(device)

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index, "printed": self.printed.state_dict(), "whole": self.whole.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.index = int(state["index"])
        self.printed.load_state_dict(state["printed"])
        self.whole.load_state_dict(state["whole"])


def train_epoch(
    network: nn.Module,
    batches: Batches,
    optimiser: Optimizer,
    config: RetrainConfig,
    n_classes: int,
    precision: Precision,
    epoch: int,
    log: RunLog,
    state: EpochState,
    guard: StepGuard,
    end_step: Callable[[], None],
) -> dict[str, float]:
    """What is left of one epoch of supervised training; returns the epoch's mean loss, accuracy and gradient norm.

    ``end_step`` is called after every step but the last. Raises :class:`CydasError` for a loss or a gradient that is
    not finite.
    """
    network.train()
    guard.log = log
    steps = len(batches)

    def loss_of(images: Tensor, labels: Tensor) -> tuple[Tensor, Figures]:
        targets = labels
        if config.mixup_alpha:
            images, targets = mixup(images, labels, n_classes, config.mixup_alpha)
        with precision.autocast():
            output = network(images)
        loss = retrain_loss(output, targets, config.label_smooth, config.aux_weight)
        return loss, {"train/loss": loss, "train/top1": top1(output.logits, labels)}

    def take(images: Tensor, labels: Tensor) -> Figures:
        clip = config.grad_clip or math.inf
        figures, norm = learn(
            loss_of, images, labels, config.accum_steps, [optimiser], clip, precision.scaler, skip_bad=guard.skips
        )
        return figures | {"train/gradient_norm": norm}

    for images, labels in batches.epoch(epoch, start=state.index):
        figures = guard.step(network, lambda images=images, labels=labels: take(images, labels), precision.scaler)
        if figures is not None:
            state.printed.add(figures, len(labels))
            state.whole.add(figures, len(labels))
        state.index += 1
        log.advance()
        if state.index % config.print_freq == 0 or state.index == steps:
            name = f"epoch {epoch + 1}/{config.epochs} [{state.index}/{steps}]"
            state.printed.report(log, name, epoch * steps + state.index)
        if state.index < steps:
            end_step()
    return state.whole.means()


@torch.no_grad()
def evaluate(network: nn.Module, batches: Batches, precision: Precision) -> Accuracy:
    """Top-1 and top-5 on all images of ``batches``, over all processes.

    Raises :class:`CydasError`, in all of them, where there is none, or where logits are not finite: no class can be
    read off such an image.
    """
    network.eval()
    averages = Averages(precision.device)
    # Every process must know the figures' names, also one that has no image.
    averages.add(dict.fromkeys(("top1", "top5", "loss"), torch.zeros((), device=precision.device)), weight=0)
    images_seen, bad = 0, torch.zeros((), dtype=torch.float64, device=precision.device)
    for images, labels in batches.epoch():
        with precision.autocast():
            logits = network(images).logits
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        figures = {
            "top1": best[:, 0].double().mean() * 100,
            "top5": best.any(dim=1).double().mean() * 100,
            "loss": classification_loss(logits, labels),
        }
        averages.add(figures, len(labels))
        images_seen += len(labels)
        bad += (~torch.isfinite(logits)).any(dim=1).sum()
    seen, bad = (int(count) for count in all_sum(torch.stack([torch.full_like(bad, images_seen), bad])))
    if not seen:
        raise CydasError("there is no test image that can be read: nothing can be said of the network's accuracy")
    if bad:
        raise CydasError(
            f"the network's answers to {bad} of {seen} test images are not finite (NaN or infinity), so that they have "
            "no class: its weights or batch norm statistics have diverged, or are too large for --use_amp"
        )
    means = averages.means()
    return Accuracy(means["top1"], means["top5"], means["loss"], seen)


class Training:
    """The state of a retraining: network, optimiser, finished epochs and steps, last and best accuracy."""

    def __init__(self, network: nn.Module, optimiser: Optimizer, precision: Precision, guard: StepGuard):
        self.network = network
        self.optimiser = optimiser
        self.precision = precision
        self.guard = guard
        self.epoch = 0
        self.state = EpochState(precision.device)  #: of the epoch that has begun
        self.last = self.best = Accuracy(0.0, 0.0, 0.0, 0)

    def finish_epoch(self, accuracy: Accuracy) -> None:
        self.epoch += 1
        self.state = EpochState(self.precision.device)
        self.last = accuracy
        if accuracy.top1 > self.best.top1 or self.epoch == 1:
            self.best = accuracy

    def save(self, keeper: Keeper, content: dict[str, Any]) -> None:
        """Write the checkpoint to go on from. Every process must call it."""
        if not self.state.printed.is_finite_everywhere():  # which the report says, and ends the run
            self.state.printed.report(keeper.log, f"epoch {self.epoch + 1}", self.state.index)
        state = {
            "model_main": self.network.state_dict(),
            "epoch": self.epoch,
            **content,
            "optimizer": self.optimiser.state_dict(),
            # rates follow from the epoch; the published layout has this key
            "lr_scheduler": {"last_epoch": self.epoch},
            "scaler": self.precision.scaler.state_dict(),
            "best_top1": self.best.top1,
            "best_top5": self.best.top5,
            "last": list(self.last),
            "best": list(self.best),
            "sta_epoch": self.epoch,
            "guard": self.guard.state_dict(),
            "processes": process_states(buffers=buffers_of(self.network), epoch=self.state.state_dict()),
        }
        keeper.save(state)

    def save_weights(self, folder: Path, content: dict[str, Any]) -> None:
        """Write ``last`` and, after the best epoch so far, ``best``: weights and what they are of."""
        weights = {"model_main": self.network.state_dict(), "epoch": self.epoch, **content}
        save_checkpoint(folder / "last.pth.tar", weights, keep=False)
        if self.best is self.last:
            save_checkpoint(folder / "best.pth.tar", weights, keep=False)

    def resume(self, state: dict, path: Path, process: Process) -> None:
        """Go on from a checkpoint's content. Raises :class:`CydasError` where it is none, or of another training."""
        with refusing(f"checkpoint {path} is not one to resume a training from"):
            load_weights(self.network, state["model_main"], path)
            self.optimiser.load_state_dict(state["optimizer"])
            self.precision.scaler.load_state_dict(state["scaler"])
            self.last, self.best = Accuracy(*state["last"]), Accuracy(*state["best"])
            self.epoch = int(state["sta_epoch"])
            self.guard.load_state_dict(state["guard"])
            own = set_process_state(state["processes"], process)
            set_buffers(self.network, own["buffers"])
            self.state.load_state_dict(own["epoch"])
