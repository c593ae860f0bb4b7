"""The cyclic search (paper section 3.3, algorithm 1): a search and an evaluation network teach each other.

This file knows rounds and phases, but no cell and no data set: two loaders give the batches of the training set's
halves. What a single step does is in ``updates.py``.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from CyDAS.config import SearchConfig
from CyDAS.data.batch import images_in
from CyDAS.data.loaders import Batch, Batches
from CyDAS.engine.graphs import CudaRecorder, Update, UpdateGraphs
from CyDAS.engine.optim import Figures, Precision, SearchOptimisers, cosine
from CyDAS.engine.stability import keep_moments
from CyDAS.engine.updates import SearchUpdates
from CyDAS.models.alpha_mean import AlphaMean
from CyDAS.models.joint import JointNetwork
from CyDAS.models.weight_pool import WeightPool
from CyDAS.runs.checkpoint import buffers_of, set_buffers
from CyDAS.runs.logs import RunLog
from CyDAS.runs.meters import Averages
from CyDAS.runs.weights import check_finite
from CyDAS.spaces.base import SearchSpace
from CyDAS.utils.distributed import copy_from_main, is_distributed, is_same_everywhere, place
from CyDAS.utils.errors import CydasError


class Progress(Protocol):
    """Who is told how far a search has come."""

    def end_step(self, search: "CyclicSearch") -> None: ...  # but for the last one of a phase
    def end_phase(self, search: "CyclicSearch") -> None: ...  # but for the last one of a round
    def end_round(self, search: "CyclicSearch") -> None: ...


class Phase(NamedTuple):
    """One epoch of a round."""

    kind: str  #: epochs of one kind take the same updates
    name: str
    lr_epoch: int  #: joint epochs of the round before it, for the learning rate
    loaders: tuple[Batches, ...]
    data_epoch: int  #: the epoch of the loaders
    step: Callable[[Sequence[Batch]], Figures]  #: one batch of each loader to figures


def steps_per_epoch(sample_ratio: float, steps: int) -> int:
    """Exactly ``floor(sample_ratio * steps)``, at least 1."""
    return max(1, math.floor(sample_ratio * steps + 1e-9))  # 0.2 * 35 is 7.000000000000001, 0.29 * 100 is 28.999...


class CyclicSearch(SearchUpdates):
    """The state of a search and the steps that move it.

    ``round`` counts finished rounds: first ``pretrain_epochs`` warm-up rounds, then cycles, ``search_iter`` in all. A
    round consists of phases of one epoch each.
    """

    def __init__(self, space: SearchSpace, joint: JointNetwork, config: SearchConfig, precision: Precision):
        super().__init__(space, joint, config, precision)
        self.pool = WeightPool()
        self.architecture: Any = None
        self.averages = Averages(precision.device)
        use_graphs = config.cuda_graphs and precision.device.type == "cuda" and not is_distributed()
        self.graphs = UpdateGraphs(CudaRecorder(precision.device)) if use_graphs else None
        self.alpha_mean = AlphaMean(config.average_rounds)
        self.preferences: list[dict[str, str]] = []  #: what each round preferred, where finalists are chosen
        self.judged: list[list] = []  #: finalists that have been trained
        self.phase = 0  #: finished phases of the round
        self.index = 0  #: finished steps of the phase

    # -- the whole search ----------------------------------------------------------------------------------------

    def run(self, train: Batches, val: Batches, log: RunLog, progress: "Progress") -> None:
        """All that is left of the search. ``progress`` is told of every step, phase and round, to save and to show."""
        config = self.config
        self.joint.train()
        steps = steps_per_epoch(config.sample_ratio, min(len(train), len(val)))
        warmups_left = max(0, config.pretrain_epochs - self.round)
        cycles_left = config.search_iter - self.round - warmups_left
        log.info("search: %d warm-up rounds and %d cycles left, %d steps an epoch", warmups_left, cycles_left, steps)
        log.start_progress((warmups_left + cycles_left * len(self.phases(config.pretrain_epochs, train, val))) * steps)
        while self.round < config.search_iter:
            self._round(self.phases(self.round, train, val), steps, log, progress)
            self.round, self.phase = self.round + 1, 0
            self._check_alphas()
            if self.round > config.pretrain_epochs:  # in warm-up rounds the alphas stay as they are
                self._remember()
            copy_from_main(self.joint)  # batch norm statistics differ between processes
            progress.end_round(self)

    def _remember(self) -> None:
        """What the round that has ended says, for ``--average_rounds`` and ``--finalists``."""
        self.alpha_mean.add(self.joint.super_layers_arch)
        if self.config.finalists > 1 and (self.config.finalist_sweep or not self.config.finalist_noise):
            self.preferences.append(self.space.to_state(self.preferred()))

    def _check_alphas(self) -> None:
        """Raise :class:`CydasError` where alphas are not finite, or differ between processes, which update alike."""
        check_finite(self.joint.super_layers_arch.state_dict(), f"round {self.round}: the architecture parameters")
        alphas = torch.cat([p.detach().flatten() for p in self.joint.super_layers_arch.parameters()])
        if not is_same_everywhere(alphas):
            raise CydasError(
                f"after round {self.round} the architecture parameters differ between processes: their software or "
                "hardware does; go on with --resume where they are alike"
            )

    def _round(self, phases: list["Phase"], steps: int, log: RunLog, progress: "Progress") -> None:
        """A round from its phase and step on: those of a search that goes on may lie within it."""
        cyclic = self.round >= self.config.pretrain_epochs and self.config.method == "cdarts"
        if cyclic and (self.phase, self.index) == (0, 0):
            self.start_cycle(log)
        while self.phase < len(phases):
            self.epoch(phases[self.phase], steps, log, progress)
            self.phase, self.index = self.phase + 1, 0
            if self.phase < len(phases):
                progress.end_phase(self)
        if cyclic:
            self.pool.store(self.joint.nas_layers)

    def phases(self, index: int, train: Batches, val: Batches) -> list["Phase"]:
        """The epochs of a round: one of the search network alone, or those of a cycle."""
        config = self.config
        if index < config.pretrain_epochs:
            name = f"warm-up {index + 1}/{config.pretrain_epochs}"
            step = self._step_of("train", self.train_update)
            return [Phase("warm-up", name, 0, (train,), self._data_epoch(index, 0), step)]
        name = f"cycle {index + 1 - config.pretrain_epochs}/{config.search_iter - config.pretrain_epochs}"
        phases = []
        warmups, joint = (config.nasnet_warmup if config.method == "cdarts" else 0), config.search_iter_epochs
        for epoch in range(warmups):
            part = f"{name}, evaluation warm-up {epoch + 1}/{warmups}"
            at, step = self._data_epoch(index, joint + epoch), self._step_of("warm-up", self.evaluation_update)
            phases.append(Phase("evaluation warm-up", part, 0, (val,), at, step))
        for epoch in range(joint):
            part, step = f"{name}, joint {epoch + 1}/{joint}", partial(self._joint_step, epoch=index * joint + epoch)
            phases.append(Phase("joint", part, epoch, (train, val), self._data_epoch(index, epoch), step))
        return phases

    def _step_of(self, kind: str, update: Update) -> Callable[[Sequence[Batch]], Figures]:
        """A step that is one update by one loader's batch."""
        return lambda batches: self._guarded(kind, update, batches[0])

    def start_cycle(self, log: RunLog) -> None:
        """A new evaluation network of the architecture that is now preferred, with its operations' last weights."""
        self._set_evaluation(self.preferred())
        known = self.pool.fill(self.joint.nas_layers)
        copy_from_main(self.joint)
        self._set_optimisers()
        log.info("new evaluation network, %d of its operations go on from their earlier weights", known)

    def preferred(self, alter: Callable[[nn.Module], None] = lambda alphas: None) -> Any:
        """The architecture that is read off the alphas, or with ``--average_rounds`` off their mean.

        ``alter`` may change them before; they are restored.
        """
        alphas = self.joint.super_layers_arch
        own = self.alpha_mean.apply(alphas)
        try:
            alter(alphas)
            return self.space.discretise(self.joint)
        finally:
            alphas.load_state_dict(own)

    def _set_evaluation(self, architecture: Any) -> None:
        self.architecture = architecture
        self.space.set_evaluation(self.joint, architecture)
        self.joint.nas_layers = place(self.joint.nas_layers, self.config, self.precision.device)

    def _set_optimisers(self) -> None:
        before, self.optimisers = self.optimisers, SearchOptimisers(self.joint, self.config)
        if self.config.keep_moments:
            for name, optimiser in vars(self.optimisers).items():
                keep_moments(getattr(before, name), optimiser)
        if self.graphs:
            self.graphs.reset()

    def _joint_step(self, batches: Sequence[Batch], epoch: int) -> Figures:
        train_batch, val_batch = batches
        constants = self.penalty_constants(epoch)
        if self.config.method == "darts":
            figures = self._guarded("alpha", partial(self.alpha_update, epoch=epoch), val_batch, constants)
        else:
            figures = self._guarded("val", lambda x, y: self.val_update(x, y, epoch)[1], val_batch, constants)
        if figures:  # an update that was left out moves nothing
            self.space.after_alphas(self.joint)
        return figures | self._guarded("train", self.train_update, train_batch)

    def _guarded(self, kind: str, update: Update, batch: Batch, constants: Hashable = ()) -> Figures:
        """The figures of an update; none of one that was left out. ``constants``: what it computes with beside tensors
        and learning rates.
        """

        def take() -> Figures:
            if not self.graphs:
                return update(*batch)
            return self.graphs.take(kind, (constants, self.optimisers.learning_rates()), update, *batch)

        return self.guard.step(self.joint, take, self.precision.scaler) or {}

    def _data_epoch(self, index: int, part: int) -> int:
        """A number of its own for every epoch that a loader gives: a round's joint epochs, then its warm-up epochs."""
        return index * (self.config.search_iter_epochs + self.config.nasnet_warmup) + part

    def _set_lr(self, epoch: int) -> None:
        """``epoch``: how many of its joint epochs the round has behind it."""
        config = self.config
        if config.lr_schedule == "cosine":
            progress = (self.round + epoch / config.search_iter_epochs) / config.search_iter
            self.optimisers.set_lr(*(cosine(lr, config.w_lr_min, progress) for lr in (config.w_lr, config.nasnet_lr)))
        if config.alpha_lr_schedule == "cosine":
            self.optimisers.set_alpha_lr(cosine(config.alpha_lr, 0.0, self.round / config.search_iter))

    def epoch(self, phase: "Phase", steps: int, log: RunLog, progress: "Progress") -> None:
        """Take the phase's steps that are left, reading figures from the device only when they are printed."""
        self._set_lr(phase.lr_epoch)
        self.guard.log = log
        batches = zip(*(b.epoch(phase.data_epoch, steps, start=self.index) for b in phase.loaders), strict=True)
        for batch in batches:
            self.averages.add(phase.step(batch), images_in(batch[0]))
            self.index += 1
            self.step += 1
            log.advance()
            if self.index % self.config.print_freq == 0 or self.index == steps:
                self._show(self.averages.report(log, f"{phase.name} [{self.index}/{steps}]", self.step), log)
            if self.index < steps:
                progress.end_step(self)

    def _show(self, means: dict[str, float], log: RunLog) -> None:
        """The figures and the learning rates to TensorBoard."""
        rates = {f"lr/{name}": rate for name, rate in self.optimisers.learning_rates()}
        log.scalars(means | rates, self.step)

    # -- resume --------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the search depends on, but random generators."""
        return {
            "round": self.round,
            "phase": self.phase,
            "index": self.index,
            "step": self.step,
            "architecture": self.space.to_state(self.architecture) if self.architecture else None,
            "space": self.space.state_dict(),
            "joint": self.joint.state_dict(),
            "pool": self.pool.state_dict(),
            "alpha_mean": self.alpha_mean.state_dict(),
            "preferences": self.preferences,
            "judged": self.judged,
            "optimisers": self.optimisers.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state. Raises ``KeyError`` or ``RuntimeError`` where it is of another search."""
        if state["architecture"]:
            self._set_evaluation(self.space.parse(state["architecture"], self.config.layer_num, "checkpoint"))
        self.space.load_state_dict(state.get("space", {}))
        self.joint.load_state_dict(state["joint"])
        self.pool.load_state_dict(state["pool"])
        self.alpha_mean.load_state_dict(state.get("alpha_mean", []))
        self.preferences, self.judged = (list(state.get(name, [])) for name in ("preferences", "judged"))
        self._set_optimisers()
        self.optimisers.load_state_dict(state["optimisers"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.guard.load_state_dict(state["guard"])
        for name in ("round", "phase", "index", "step"):
            setattr(self, name, int(state[name]))

    def process_state(self) -> dict[str, Any]:
        """What differs between processes: batch norm statistics within a round, and the figures not yet reported."""
        return {"buffers": buffers_of(self.joint), "averages": self.averages.state_dict()}

    def load_process_state(self, state: dict[str, Any]) -> None:
        set_buffers(self.joint, state["buffers"])
        self.averages.load_state_dict(state["averages"])
