"""Spies: loaders that note what they are asked for, and a record of every step that any optimiser takes."""

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from CyDAS.config import RetrainConfig, SearchConfig
from CyDAS.data.loaders import Batches
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision
from CyDAS.engine.training import Extent, Training
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.retrain import main as retrain
from CyDAS.runs.logs import RunLog
from CyDAS.search import main as search
from CyDAS.spaces import NatsSpace
from CyDAS.tasks.classification import Classification
from CyDAS.utils.distributed import Process

CPU = torch.device("cpu")
ONE = Process(0, 1, CPU)
TINY = "--space nats --cells_per_stage 1 --init_channels 2 --image_size 8 --batch_size 32 --device cpu".split()
SEARCH = "--sample_ratio 0.05 --pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --nasnet_warmup 1".split()
CELL = '"|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"'


class SpyBatches(Batches):
    """Random images of one part of a data set, whose first pixel says which part; notes every epoch it is asked for."""

    def __init__(self, part: float, steps: int, batch_size: int = 4, size: int = 8):
        super().__init__(steps * batch_size, batch_size, ONE, 0, 0, train=True)
        self.part, self.image_size, self.asked = part, size, []

    def epoch(self, epoch=0, steps=None, start=0):
        self.asked.append(SimpleNamespace(epoch=epoch, steps=steps, start=start))
        for step in range(start, steps or len(self)):
            generator = torch.Generator().manual_seed(1000 * epoch + step)
            images = torch.randn(self.batch_size, 3, self.image_size, self.image_size, generator=generator)
            images[:, 0, 0, 0] = self.part
            yield images, torch.arange(self.batch_size) % 10


def make_training(network, optimiser=None, precision=None, guard=None, rate=0.01, **flags):
    """A training as ``retrain.py`` makes it, whose learning rate stays."""
    config = RetrainConfig(**flags)
    return Training(
        network,
        Classification(10, config.label_smooth, config.aux_weight, config.mixup_alpha),
        optimiser or torch.optim.SGD(network.parameters(), lr=rate),
        lambda step: rate,
        Extent(config.epochs, config.accum_steps, config.grad_clip, config.print_freq, config.ema_decay),
        precision or Precision(CPU, config.use_amp, config.amp_dtype),
        guard or StepGuard(config.on_nan),
    )


class Nobody:
    """Whom a search tells of its progress, where nobody listens."""

    def end_step(self, search): ...
    def end_phase(self, search): ...
    def end_round(self, search): ...


def make_search(space_options=(), **flags):
    """A tiny search on NATS-Bench's cells, as ``search.py`` makes it."""
    torch.manual_seed(0)
    flags = {"pretrain_epochs": 1, "search_iter": 3, "search_iter_epochs": 1, "nasnet_warmup": 1, **flags}
    config = SearchConfig(**{"sample_ratio": 1.0, "print_freq": 1000, **flags})
    layout = NatsLayout(init_channels=2, cells_per_stage=1, image_size=8)
    space = NatsSpace(layout, **dict(space_options))
    joint = space.build()
    return CyclicSearch(space, joint, config, Precision(CPU, config.use_amp, config.amp_dtype))


def run(search, train, val, progress=None):
    search.run(train, val, RunLog(None), progress or Nobody())


@contextmanager
def steps_of_optimisers():
    """A list that grows by one entry with every step: the optimiser, its options and its gradients at that time."""
    steps = []

    def note(optimiser, *_):
        (group,) = optimiser.param_groups
        steps.append(
            SimpleNamespace(
                optimiser=optimiser,  # kept, so that no later one has its identity
                is_new=not optimiser.state,
                options={key: value for key, value in group.items() if key != "params"},
                parameters=list(group["params"]),
                gradients=[None if p.grad is None else p.grad.clone() for p in group["params"]],
                seed=torch.initial_seed(),
            )
        )

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield steps
    finally:
        handle.remove()


class Enough(Exception):
    """Ends a program whose first steps say all that a test wants to know."""


@contextmanager
def first_step():
    """The record of the first step that any optimiser takes in the context, which ends there."""
    found = SimpleNamespace()
    with steps_of_optimisers() as steps:

        def stop(*_):
            found.__dict__.update(vars(steps[0]))
            raise Enough

        handle = register_optimizer_step_pre_hook(stop)
        try:
            yield found
        except Enough:
            pass
        finally:
            handle.remove()


def run_search(folder, *flags):
    search([*TINY, *SEARCH, "--output_dir", str(folder), "--name", "run", *flags])
    return folder / "search/run"


def run_retrain(folder, *flags, cutout_length=2):
    folder.mkdir(exist_ok=True)
    (folder / "cell.json").write_text(CELL)
    cell = ["--cell_file", str(folder / "cell.json"), "--aux_weight", "0", "--batch_size", "500"]
    cell += [] if cutout_length is None else ["--cutout_length", str(cutout_length)]
    retrain([*TINY, *cell, "--output_dir", str(folder), "--name", "run", *flags])
    return folder / "retrain/run"


class Lines(RunLog):
    """A log that keeps what it is told."""

    def __init__(self):
        super().__init__(None)
        self.lines, self.figures, self.total, self.advanced = [], [], None, 0

    def info(self, message, *values):
        self.lines.append(message % values)

    warning = info

    def scalars(self, figures, step):
        self.figures.append((step, dict(figures)))

    def start_progress(self, total, unit="step"):
        self.total = total

    def advance(self):
        self.advanced += 1


class FakeCifar:
    """CIFAR's arrays, of pixels that say where they stand: row and column from 1, and the image's number."""

    base_folder, filename = "cifar", "cifar.tar.gz"
    classes = [f"class {number}" for number in range(10)]

    def __init__(self, root, train, download=False):
        number, row, column = np.meshgrid(np.arange(40 if train else 20), np.arange(32), np.arange(32), indexing="ij")
        self.data = np.stack([row + 1, column + 1, number + 1], axis=3).astype(np.uint8)
        self.targets = [index % 10 for index in range(len(self.data))]


class FakeCifar100(FakeCifar):
    classes = [f"class {number}" for number in range(100)]
