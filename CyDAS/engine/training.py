"""Training a network on the targets of a task: one loop for all of them."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from CyDAS.data.batch import images_in
from CyDAS.data.loaders import Batches
from CyDAS.engine.averaging import Weights
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Figures, Precision, learn
from CyDAS.engine.schedules import Schedule
from CyDAS.runs.checkpoint import process_states, refusing, save_checkpoint, set_process_state
from CyDAS.runs.keeper import Keeper
from CyDAS.runs.logs import RunLog
from CyDAS.runs.meters import Averages
from CyDAS.runs.weights import PLAIN_KEY
from CyDAS.tasks import Result, Task
from CyDAS.utils.distributed import Process, copy_from_main

Measured = TypeVar("Measured", bound=Result)


class Extent(NamedTuple):
    """How long a training is, and how it steps."""

    epochs: int
    accum_steps: int = 1  #: parts of a batch, one after the other
    grad_clip: float = 0.0  #: largest gradient norm of an update; 0 for no limit
    print_freq: int = 50  #: steps between two lines of the log
    ema_decay: float = 0.0  #: what an update leaves of the weights' running mean; 0 for no mean


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


class Training(Generic[Measured]):
    """A network in training: its optimiser, finished epochs and steps, last and best result."""

    def __init__(
        self,
        network: nn.Module,
        task: Task[Measured],
        optimiser: Optimizer,
        schedule: Schedule,
        extent: Extent,
        precision: Precision,
        guard: StepGuard,
        begin_epoch: Callable[[int], None] = lambda epoch: None,
        weights_name: str = PLAIN_KEY,
        end_epoch: Callable[["Training", RunLog], None] = lambda training, log: None,
    ):
        """``begin_epoch``: what else an epoch, counted from 0, starts with; ``end_epoch``: what the main process does
        after the test of one, for people to look at, leaving the training as it is. ``weights_name``: under which name
        checkpoints hold the network's weights.
        """
        self.network = network
        self.weights = Weights(network, extent.ema_decay, weights_name)
        self.task = task
        self.optimiser = optimiser
        self.schedule = schedule
        self.extent = extent
        self.precision = precision
        self.guard = guard
        self.begin_epoch = begin_epoch
        self.end_epoch = end_epoch
        self.epoch = 0  #: finished epochs
        self.rate = 0.0  #: the last step's learning rate
        self.state = EpochState(precision.device)  #: of the epoch that has begun
        self.last = self.best = task.result()  #: of the averaged weights where there are any
        self.last_plain = self.last

    # -- the whole training --------------------------------------------------------------------------------------

    def run(self, train: Batches, test: Batches, keeper: Keeper, content: dict[str, Any]) -> None:
        """All epochs that are left, each tested. ``content``: what checkpoints hold beside the training."""
        epochs, log = self.extent.epochs, keeper.log
        log.start_progress((epochs - self.epoch) * len(train) - self.state.index)
        while self.epoch < epochs:
            self.begin_epoch(self.epoch)
            means = self.train_epoch(train, log, partial(self._end_step, keeper, content))
            plain, *averaged = self.test(test)
            self.finish_epoch(averaged[0] if averaged else plain, plain)
            self._show(means, len(train), log)
            if keeper.process.is_main:  # before the checkpoint, after which this epoch is not trained again
                keeper.try_to("the epoch's pictures are not kept", self.end_epoch, self, log)
                keeper.try_to("the epoch's weights are not kept", self.save_weights, keeper.path.parent, content)
            self.save(keeper, content)
            if self.epoch < epochs and keeper.must_stop():
                keeper.stop()

    def train_epoch(self, batches: Batches, log: RunLog, end_step: Callable[[], None]) -> dict[str, float]:
        """What is left of an epoch; returns its mean loss, figures and gradient norm.

        ``end_step`` is called after every step but the last. Raises :class:`CydasError` for a loss or a gradient that
        is not finite.
        """
        self.network.train()
        self.guard.log = log
        state, steps = self.state, len(batches)
        for batch in batches.epoch(self.epoch, start=state.index):
            self._set_rate(self.schedule(self.epoch * steps + state.index))
            figures = self.guard.step(self.network, partial(self._update, batch), self.precision.scaler)
            if figures is not None:
                self.weights.update()
                state.printed.add(figures, images_in(batch))
                state.whole.add(figures, images_in(batch))
            state.index += 1
            log.advance()
            if state.index % self.extent.print_freq == 0 or state.index == steps:
                name = f"epoch {self.epoch + 1}/{self.extent.epochs} [{state.index}/{steps}]"
                state.printed.report(log, name, self.epoch * steps + state.index)
            if state.index < steps:
                end_step()
        return state.whole.means()

    def _set_rate(self, rate: float) -> None:
        self.rate = rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def _update(self, batch: Any) -> Figures:
        clip = self.extent.grad_clip or math.inf
        figures, norm = learn(
            self._loss_of, batch, self.extent.accum_steps, [self.optimiser], clip, self.precision.scaler,
            skip_bad=self.guard.skips,
        )  # fmt: skip
        return figures | {"train/gradient_norm": norm}

    def _loss_of(self, batch: Any) -> tuple[Tensor, Figures]:
        images, own_targets = batch
        images, targets = self.task.prepare(images, own_targets)
        with self.precision.autocast():
            output = self.network(images)
        loss = self.task.loss(output, targets)
        return loss, {"train/loss": loss} | self.task.figures(output, own_targets)

    def _end_step(self, keeper: Keeper, content: dict[str, Any]) -> None:
        save, stop = keeper.wants()
        if save:
            self.save(keeper, content)
        if stop:
            keeper.stop()

    def test(self, batches: Batches) -> list[Measured]:
        """The result of the plain weights and, where there are any, of the averaged ones."""
        results = []
        for network in self.weights.networks().values():
            copy_from_main(network)  # batch norm statistics differ between processes
            results.append(evaluate(network, self.task, batches, self.precision))
        return results

    def finish_epoch(self, result: Measured, plain: Measured) -> None:
        self.epoch += 1
        self.state = EpochState(self.precision.device)
        self.last, self.last_plain = result, plain
        if result.is_better_than(self.best) or self.epoch == 1:
            self.best = result

    def _show(self, means: dict[str, float], steps: int, log: RunLog) -> None:
        """A finished epoch, to the log and TensorBoard."""
        log.info("epoch %d/%d: test %s (best %s); train %s, lr %.4g", self.epoch, self.extent.epochs,
                 self.last.brief(), self.best.headline(), self.task.training_words(means), self.rate)  # fmt: skip
        figures = means | self.last.scalars() | {"lr": self.rate}
        if self.extent.ema_decay:
            log.info("epoch %d/%d: without averaging %s", self.epoch, self.extent.epochs, self.last_plain.brief())
            figures |= {f"{name}_plain": value for name, value in self.last_plain.scalars().items()}
        log.scalars(figures, self.epoch * steps)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, keeper: Keeper, content: dict[str, Any]) -> None:
        """Write the checkpoint to go on from. Every process must call it."""
        if not self.state.printed.is_finite_everywhere():  # which the report says, and ends the run
            self.state.printed.report(keeper.log, f"epoch {self.epoch + 1}", self.state.index)
        state = {
            **self.weights.state_dicts(),
            "epoch": self.epoch,
            **content,
            "optimizer": self.optimiser.state_dict(),
            # rates follow from the step; the published layout has this key
            "lr_scheduler": {"last_epoch": self.epoch},
            "scaler": self.precision.scaler.state_dict(),
            **self.best.record(),
            "last": list(self.last),
            "last_plain": list(self.last_plain),
            "best": list(self.best),
            "sta_epoch": self.epoch,
            "guard": self.guard.state_dict(),
            "processes": process_states(**self.weights.buffers(), epoch=self.state.state_dict()),
        }
        keeper.save(state)

    def save_weights(self, folder: Path, content: dict[str, Any]) -> None:
        """Write ``last`` and, after the best epoch so far, ``best``: weights and what they are of."""
        weights = {**self.weights.state_dicts(), "epoch": self.epoch, **content}
        save_checkpoint(folder / "last.pth.tar", weights, keep=False)
        if self.best is self.last:
            save_checkpoint(folder / "best.pth.tar", weights, keep=False)

    def resume(self, state: dict, path: Path, process: Process) -> None:
        """Go on from a checkpoint's content. Raises :class:`CydasError` where it is none, or of another training."""
        with refusing(f"checkpoint {path} is not one to resume a training from"):
            self.weights.load(state, path)
            self.optimiser.load_state_dict(state["optimizer"])
            self.precision.scaler.load_state_dict(state["scaler"])
            results = {"last_plain": state["last"]} | state  # which was added later
            self.last, self.last_plain, self.best = (
                self.task.result(*results[name]) for name in ("last", "last_plain", "best")
            )
            self.epoch = int(state["sta_epoch"])
            self.guard.load_state_dict(state["guard"])
            own = set_process_state(state["processes"], process)
            self.weights.set_buffers(own)
            self.state.load_state_dict(own["epoch"])
