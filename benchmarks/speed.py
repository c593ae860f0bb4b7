"""How fast CyDAS is, against the plain implementation of the same mathematics in ``plain.py``, on this machine.

    python benchmarks/speed.py                       # everything, about half an hour on two cores
    python benchmarks/speed.py --only supernet evaluation

The plain implementation runs as it stands, in NCHW, and once more in PyTorch's channels-last format; what CyDAS is
compared with is the faster of the two. All sides of a case have the same weights and inputs and are checked to give
the same numbers; then they take turns in one process, and medians are compared. Peak memory comes from a child process
for each side. Needs a quiet machine.
"""

import argparse
import gc
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import numpy as np
import torch
import torchvision
from torch import Tensor
from torchvision import transforms

from benchmarks import plain
from CyDAS.config import SearchConfig
from CyDAS.data.augment import BatchAugmentation
from CyDAS.data.loaders import TensorBatches
from CyDAS.data.sets import CIFAR_MEAN, CIFAR_STD
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import Precision, make_optimiser, update
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.runs.checkpoint import refusing
from CyDAS.spaces import DartsSpace, NatsSpace, load_architecture
from CyDAS.tasks.classification import retrain_loss
from CyDAS.utils import profile
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.numbers import whole_number
from CyDAS.utils.present import present

ROOT = Path(__file__).resolve().parents[1]
CELL = ROOT / "CyDAS/cells/cifar_genotype.json"
NATS_CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
CPU = torch.device("cpu")
#: The baseline in either memory format, and CyDAS.
SIDES = ("plain", "channels_last", "cydas")
BASELINES = SIDES[:2]

#: Untimed turns of each side after its first: memory that a process has never used before is cleared page by page.
WARM_UP = 4

#: One measured action; returns numbers by which both sides are compared, or nothing.
Action = Callable[[], Tensor | None]


@dataclass(frozen=True)
class Case:
    """A pair of actions to be timed. ``build(side)`` makes one of them; ``images``: how many an action takes."""

    name: str
    what: str
    build: Callable[[str], Action]
    images: int
    threads: int = 2
    memory: bool = False
    sides: tuple[str, ...] = SIDES


def batch(size: int, side: str = "cydas", device: torch.device = CPU, pixels: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 3, pixels, pixels, generator=generator).to(device, memory_format=memory_format(side))
    return x, torch.randint(0, 10, (size,), generator=generator).to(device)


def memory_format(side: str) -> torch.memory_format:
    return torch.channels_last if side == "channels_last" else torch.contiguous_format


def make_search(side: str, channels: int, nats: bool = False, device: torch.device = CPU, **flags: Any) -> CyclicSearch:
    """A search with an evaluation network of the published cell; both sides get the same weights.

    ``flags``: those of the search that are not the published ones.
    """
    torch.manual_seed(0)
    weights = None
    spaces = ((DartsSpace, NatsSpace), (plain.PlainSpace, plain.PlainNatsSpace))
    for darts_space, nats_space in spaces if side in BASELINES else spaces[:1]:
        if nats:
            space = nats_space(NatsLayout(channels), ensemble_param=True)
        else:
            space = darts_space(Layout(init_channels=channels), repeat_cell=True, ensemble_param=True, fix_head=True)
        joint = space.build().train()
        space.set_evaluation(joint, parse_architecture(NATS_CELL) if nats else load_architecture(CELL, 3))
        joint.load_state_dict(weights or joint.state_dict())
        weights = joint.state_dict()
    config = SearchConfig(search_iter=32, pretrain_epochs=2, search_iter_epochs=1, w_lr=0.08, nasnet_lr=0.08,
                          interactive_type=3, regular=True, regular_ratio=0.667, **flags)  # fmt: skip
    search = plain.PlainSearch if side in BASELINES else CyclicSearch
    precision = Precision(device, config.use_amp, config.amp_dtype)
    return search(space, joint.to(device).to(memory_format=memory_format(side)), config, precision)


def supernet(channels: int, size: int) -> Callable[[str], Action]:
    def build(side: str) -> Action:
        joint = make_search(side, channels).joint
        x, y = batch(size, side)

        def action() -> Tensor:
            joint.zero_grad()
            loss = torch.nn.functional.cross_entropy(joint(x, evaluation=False, heads=False).search.logits, y)
            loss.backward()
            return torch.cat([loss.detach()[None], joint.super_layers_arch[0][0][3].grad.flatten()])

        return action

    return build


def search_step(channels: int, size: int, nats: bool = False) -> Callable[[str], Action]:
    def build(side: str) -> Action:
        search = make_search(side, channels, nats)
        x, y = batch(2 * size, side)

        def action() -> Tensor:
            losses, _ = search.val_update(x[:size], y[:size], epoch=2)
            figures = search.train_update(x[size:], y[size:])
            return torch.stack([losses.total, figures["train/loss_search"]]).detach()

        return action

    return build


def make_retrain(side: str, channels: int, device: torch.device = CPU, pixels: int = 32) -> RetrainNetwork:
    """The published cell's network, without drop path, with an auxiliary head where images are large enough for it.

    Both sides get the same weights.
    """
    torch.manual_seed(0)
    arguments = Layout(init_channels=channels, image_size=pixels), load_architecture(CELL, 3), pixels >= 32
    network = RetrainNetwork(*arguments)
    take_statistics(network, pixels)
    if side in BASELINES:
        weights = network.state_dict()
        network = plain.PlainRetrainNetwork(*arguments)
        network.load_state_dict(weights)
    return network.to(device).to(memory_format=memory_format(side))


@torch.no_grad()
def take_statistics(network: torch.nn.Module, pixels: int) -> None:
    """Set the running statistics to those of a batch: with a new network's, nothing would reach the logits."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    network.train()(batch(16, pixels=pixels)[0])
    for norm in norms:
        norm.momentum = 0.1


def retrain(channels: int, size: int, pixels: int = 32) -> Callable[[str], Action]:
    def build(side: str) -> Action:
        network = make_retrain(side, channels, pixels=pixels).train()
        optimiser = make_optimiser(list(network.parameters()), 0.025, 0.9, 5e-4)
        scaler = Precision(CPU, False, "bf16").scaler
        x, y = batch(size, side, pixels=pixels)

        def action() -> Tensor:
            if side in BASELINES:
                return plain.retrain_step(network, optimiser, x, y, 5.0).detach()[None]
            loss = retrain_loss(network(x), y, 0.0, 0.4)
            update([loss], [optimiser], 5.0, scaler)
            return loss.detach()[None]

        return action

    return build


def evaluation(channels: int, size: int) -> Callable[[str], Action]:
    def build(side: str) -> Action:
        network = make_retrain(side, channels).eval()
        x, _ = batch(size, side)

        @torch.inference_mode()
        def action() -> Tensor:
            return network(x).logits

        return action

    return build


def pipeline(size: int, images: int) -> Callable[[str], Action]:
    """An epoch of CIFAR's training images: crop, flip, cutout, normalise."""

    def build(side: str) -> Action:
        pixels = np.random.default_rng(0).integers(0, 256, (images, 32, 32, 3), dtype=np.uint8)
        if side == "plain":
            steps = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
                     transforms.Normalize(CIFAR_MEAN, CIFAR_STD), Cutout(16)]  # fmt: skip
            dataset = Pictures(pixels, transforms.Compose(steps))
            loader = torch.utils.data.DataLoader(dataset, size, shuffle=True, num_workers=2, persistent_workers=True)
            epochs: Iterator = iter(lambda: loader, None)
        else:
            tensors = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
            augmentation = BatchAugmentation(CIFAR_MEAN, CIFAR_STD, cutout_length=16)
            options = dict(batch_size=size, process=Process(0, 1, CPU), seed=0, stream=0, train=True)
            batches = TensorBatches(tensors, torch.zeros(images, dtype=torch.int64), augmentation, **options)
            epochs = (batches.epoch(index) for index in range(10**9))

        def action() -> None:
            for _ in next(epochs):
                pass

        return action

    return build


class Pictures(torch.utils.data.Dataset):
    """Images as torchvision's CIFAR data sets give them."""

    def __init__(self, pixels: np.ndarray, transform: Callable):
        self.pixels = pixels
        self.transform = transform

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(transforms.functional.to_pil_image(self.pixels[index])), 0


class Cutout:
    """A square of ``length`` pixels, centred anywhere, set to 0."""

    def __init__(self, length: int):
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        y, x = (int(torch.randint(0, size, ())) - self.length // 2 for size in image.shape[1:])
        image[:, max(0, y) : max(0, y + self.length), max(0, x) : max(0, x + self.length)] = 0.0
        return image


def cases() -> list[Case]:
    c16 = "search network, forward and backward, 16 channels"
    found = [
        Case("supernet", f"{c16}, batch 16", supernet(16, 16), 16, memory=True),
        Case(
            "search_step_16", "search step, both updates, 16 channels, batch 16", search_step(16, 16), 32, memory=True
        ),
        Case("search_step", "search step, 16 channels, batch 64", search_step(16, 64), 128, memory=True),
        Case(
            "nats_search_step",
            "NATS-Bench search step, 16 channels, batch 64",
            search_step(16, 64, nats=True),
            128,
            memory=True,
        ),
        Case("retrain_step", "retrain step, 36 channels, 20 cells, batch 16", retrain(36, 16), 16, memory=True),
        Case("retrain_small", "retrain step, 8 channels, 20 cells, 16 pixels, batch 32", retrain(8, 32, 16), 32),
        Case("evaluation", "evaluation, 36 channels, 20 cells, batch 64", evaluation(36, 64), 64, memory=True),
        Case("pipeline", "CIFAR training images, batch 128", pipeline(128, 4096), 4096, sides=("plain", "cydas")),
        Case("supernet_1_thread", f"{c16}, batch 16, 1 thread", supernet(16, 16), 16, threads=1),
    ]
    for size in (8, 32, 64):
        found.append(Case(f"supernet_batch_{size}", f"{c16}, batch {size}", supernet(16, size), size))
    for channels in (8, 32):
        what = f"search network, forward and backward, {channels} channels, batch 16"
        found.append(Case(f"supernet_channels_{channels}", what, supernet(channels, 16), 16))
    return found


def measure(case: Case, repeats: int) -> dict:
    """Time all sides in turns. Raises ``AssertionError`` where their numbers differ."""
    torch.set_num_threads(case.threads)
    actions = {side: case.build(side) for side in case.sides}
    numbers = {side: action() for side, action in actions.items()}  # also the warm-up
    difference = None
    if (expected := numbers["plain"]) is not None:
        difference = max(float((present(n) - expected).abs().max() / expected.abs().max()) for n in numbers.values())
        assert difference < 2e-3, f"{case.name}: the sides differ by {difference:.2g}"
    for action in list(actions.values()) * WARM_UP:
        action()
    seconds: dict[str, list[float]] = {side: [] for side in case.sides}
    for _ in range(repeats):
        for side, action in actions.items():
            start = time.perf_counter()
            action()
            seconds[side].append(time.perf_counter() - start)
    median = {side: statistics.median(times) for side, times in seconds.items()}
    ratios = {side: median[side] / median["cydas"] for side in case.sides if side in BASELINES}
    result = {
        "what": case.what,
        "threads": case.threads,
        "relative_difference": difference,
        "seconds": seconds,
        "median_seconds": median,
        "images_per_second": {side: case.images / value for side, value in median.items()},
        "ratios": ratios,
        "ratio": min(ratios.values()),
    }
    if case.memory:
        result["peak_mb"] = {side: peak_memory(case.name, side) for side in case.sides}
    return result


def peak_memory(name: str, side: str) -> float:
    """Largest resident memory (MB) of a process of its own that does the case's action three times."""
    command = [sys.executable, __file__, "--memory", name, side]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.split()[-1])


def print_memory(name: str, side: str) -> None:
    torch.set_num_threads(2)
    case = next((case for case in cases() if case.name == name), None)
    action = case.build(side) if case else lambda: None
    for _ in range(3):
        action()
    print(profile.peak_memory(CPU))


def machine() -> dict:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return {
        "cpu": model, "cores": os.cpu_count(), "simd": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(), "torch": torch.__version__, "torchvision": torchvision.__version__,
    }  # fmt: skip


def record() -> dict:
    """How a benchmark's figures were measured."""
    date = datetime.now(timezone.utc).date().isoformat()
    return {"command": ["python", *sys.argv], "seed": 0, "machine": machine(), "date": date}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases to measure (default: all)")
    parser.add_argument(
        "--repeats", type=whole_number, metavar="N", default=7, help="timed turns of each side (default: 7)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/speed.json")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory:
        print_memory(*options.memory)
        return
    unknown = set(options.only or ()) - {case.name for case in cases()}
    if unknown or not options.repeats:
        what = f"no case {', '.join(sorted(unknown))}" if unknown else "--repeats must be at least 1"
        raise CydasError(f"{what}; there are {', '.join(case.name for case in cases())}")
    results = {}
    if options.only and options.output.exists():
        with refusing(f"{options.output} holds no results of this benchmark"):
            results = dict(read_json(options.output, "results")["results"])
    idle = peak_memory("idle", "cydas")  # what Python and PyTorch take before anything is built
    for case in cases():
        if options.only and case.name not in options.only:
            continue
        results[case.name] = result = measure(case, options.repeats)
        median = ", ".join(f"{side} {value:.3f} s" for side, value in result["median_seconds"].items())
        print(f"{case.what}: {median}: {result['ratio']:.2f}x", flush=True)
        if memory := result.get("peak_mb"):
            print("    peak " + ", ".join(f"{side} {value:.0f} MB" for side, value in memory.items()), flush=True)
        gc.collect()
        write_json(options.output, record() | {"results": results, "idle_mb": idle})


if __name__ == "__main__":
    run_program(main)
