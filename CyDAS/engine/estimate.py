"""What a run will need and take, from a few of its own steps on its own data: ``--dry_run``."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from CyDAS.data.loaders import Batch, Batches
from CyDAS.engine.cycle import CyclicSearch, Phase, steps_per_epoch
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.finalists import finalist_steps, train_finalist
from CyDAS.engine.graphs import WARM_UP
from CyDAS.engine.training import Training
from CyDAS.runs.checkpoint import save_checkpoint
from CyDAS.runs.logs import RunLog
from CyDAS.tasks.classification import Classification
from CyDAS.utils.distributed import Process, gather
from CyDAS.utils.profile import count_macs, count_parameters, peak_memory
from CyDAS.utils.texts import say

#: Steps of a rehearsal: the first, in which buffers are made and workers start, is not timed (nor are those before a
#: CUDA graph is there).
STEPS = 3


class FirstSteps(Batches):
    """The first few batches of a loader's epoch, and how long each took from one to the next."""

    def __init__(self, batches: Batches, untimed: int = 1):
        self.batches = batches
        self.untimed = untimed
        self.seconds: list[float] = []

    def __len__(self) -> int:
        return min(self.untimed + STEPS - 1, len(self.batches))

    def epoch(self, epoch: int = 0, steps: int | None = None, start: int = 0) -> Iterator[Batch]:
        before = time.perf_counter()
        for batch in self.batches.epoch(epoch, steps=len(self)):
            yield batch
            if batch[0].is_cuda:
                torch.cuda.synchronize()
            now = time.perf_counter()
            self.seconds.append(now - before)
            before = now

    def mean(self) -> float:
        """Seconds a step, without the first ones where there are others."""
        timed = self.seconds[self.untimed :] or self.seconds
        return sum(timed) / len(timed)


class Part(NamedTuple):
    """One kind of work and how often it comes."""

    name: str
    seconds: float  #: one time
    times: int

    def __str__(self) -> str:
        return f"{self.name}: {self.seconds:.4g} s, {self.times} times: {self.seconds * self.times:.4g} s"


def estimate_search(
    search: CyclicSearch, train: Batches, val: Batches, of_finals: Callable[[], tuple[Batches, Batches]]
) -> list[str]:
    """Rehearse every phase of a search that has not begun; returns lines that say what it needs. Nothing is kept.

    ``of_finals`` makes the batches on which finalists, if there are any, are trained and judged.
    """
    config, joint = search.config, search.joint
    steps = steps_per_epoch(config.sample_ratio, min(len(train), len(val)))
    cycles = config.search_iter - config.pretrain_epochs
    rounds = {0: config.pretrain_epochs, config.pretrain_epochs: cycles}  # the first of a kind: how many there are
    parts = []
    joint.train()
    for search.round, times in rounds.items():
        phases = search.phases(search.round, train, val)
        if search.round == config.pretrain_epochs and config.method == "cdarts":
            parts.append(Part("start of a cycle", _seconds(search.start_cycle, RunLog(None)), cycles))
        for kind, phase in {phase.kind: phase for phase in phases}.items():
            epochs = times * sum(other.kind == kind for other in phases)
            parts.append(Part(f"step, {kind}", _rehearse(search, phase), steps * epochs))
        parts.append(
            Part(
                f"checkpoint, {phases[-1].kind}", _seconds(_save, {"search": search.state_dict()}), times * len(phases)
            )
        )
    if config.finalists > 1:
        parts += _finalists(search, *of_finals())
    parts.append(Part("pictures of a round", _seconds(_draw, search), config.search_iter))
    evaluated = len(joint.nas_layers) > 0  # there are no cells in it where no cycle is to come
    macs = count_macs(joint, next(train.epoch(steps=1))[0].shape[1:], True, evaluated, evaluated)
    own = [p for role in ("search", "alphas") for p in joint.parameters_of(role)]
    parameters = count_parameters(joint) if evaluated else sum(p.numel() for p in own)
    size = f"{parameters / 1e6:.3f} M parameters, {macs / 1e6:.1f} M multiply-accumulates"
    size = f"{'both networks' if evaluated else 'search network'}: {size}"
    return [size, *_summary(parts, search.precision.device)]


def _rehearse(search: CyclicSearch, phase: Phase) -> float:
    """Seconds of a step."""
    untimed = 1 + (WARM_UP if search.graphs else 0)  # with the step that is recorded
    loaders = tuple(FirstSteps(loader, untimed) for loader in phase.loaders)
    search.index = 0
    search.epoch(phase._replace(loaders=loaders), min(map(len, loaders)), RunLog(None), _Nobody())
    search.averages.reset()
    return loaders[0].mean()


def _finalists(search: CyclicSearch, train: Batches, val: Batches) -> list[Part]:
    """Their trainings and their tests."""
    config, first, first_val = search.config, FirstSteps(train), FirstSteps(val)
    network = train_finalist(search, search.preferred(), "finalist", first, len(first), RunLog(None), _Nobody())
    search.averages.reset()
    evaluate(network, Classification(n_classes=0), first_val, search.precision)  # mixup alone asks for their number
    steps = config.finalists * finalist_steps(config.finalist_epochs, train)
    again = min(config.finalist_runoff, config.finalists)
    steps += again * finalist_steps(config.finalist_runoff_epochs, train)
    tests = (config.finalists + again) * len(val)
    return [Part("step, finalist", first.mean(), steps), Part("test step, finalist", first_val.mean(), tests)]


class _Nobody:
    """Whom a rehearsal tells of its steps."""

    def end_step(self, search: CyclicSearch) -> None: ...
    def end_phase(self, search: CyclicSearch) -> None: ...
    def end_round(self, search: CyclicSearch) -> None: ...


def estimate_training(training: Training, train: Batches, test: Batches) -> list[str]:
    """The same for a training."""
    epochs = training.extent.epochs
    first, first_test = FirstSteps(train), FirstSteps(test)
    training.train_epoch(first, RunLog(None), lambda: None)
    tests = len(training.test(first_test))
    state = {"weights": training.weights.state_dicts(), "optimizer": training.optimiser.state_dict()}
    return _summary(
        [
            Part("training step", first.mean(), len(train) * epochs),
            Part("test step", first_test.mean(), len(test) * epochs * tests),
            Part("checkpoints of an epoch", 2 * _seconds(_save, state), epochs),
        ],
        training.precision.device,
    )


def _seconds(action: Callable, *arguments: Any) -> float:
    start = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - start


def _save(content: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "checkpoint", content)


def _draw(search: CyclicSearch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        search.space.draw(search.preferred(), Path(folder), "round")


def _summary(parts: list[Part], device: torch.device) -> list[str]:
    """Every part, peak memory and the time of the whole; the slowest process and the largest one count."""
    total = max(gather(sum(part.seconds * part.times for part in parts)))
    memory = max(gather(peak_memory(device)))
    where = "of the GPU" if device.type == "cuda" else "of a process"
    whole = f"the whole run: {total:.0f} s ({total / 3600:.2f} h)"
    return [*map(str, parts), f"peak memory {where}: {memory:.0f} MB", whole]


def print_estimate(lines: list[str], process: Process) -> None:
    if process.is_main:
        for line in ("dry run, no run is written:", *lines):
            say(line)
