"""A step (forward and backward) of the chain space's search network, against six modules a block, on this machine.

    python benchmarks/chain_speed.py --sizes 32 64 --batch 32 --repeats 5

Unlike the sides of ``speed.py`` the two compute different functions: their weights are shared differently (see
``CyDAS/models/chain/supernet.py``). Both have the same stem and classifier. Sides take turns, medians are compared;
peak memory, less that of the process before the step, comes from a child process for each side.
"""

import argparse
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch
from torch import nn

from benchmarks.plain_chain import make_plain_stages
from benchmarks.speed import record
from CyDAS.models.chain.alphas import ArchitectureParameters
from CyDAS.models.chain.blocks import Classifier, Stem
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.chain.supernet import make_search_stages
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.profile import peak_memory

CPU = torch.device("cpu")
SIDES = {
    "plain": make_plain_stages,
    "plain, channels last": make_plain_stages,
    "CyDAS": make_search_stages,
    "CyDAS, channels last": make_search_stages,
}


class SearchNetwork(nn.Module):
    """Stem, stages and classifier, as the joint network runs them."""

    def __init__(self, layout, make_stages):
        super().__init__()
        self.stem, self.stages, self.classifier = Stem(3), make_stages(layout), Classifier(layout)
        self.architecture = ArchitectureParameters(layout.depth)

    def forward(self, x):
        state = self.stem(x)
        for blocks, mixture in zip(self.stages, self.architecture.mixtures(), strict=True):
            for block in blocks:
                state = block(state, mixture)
        return self.classifier(state[0])


def make_step(side, size, batch, device=CPU, autocast=nullcontext):
    """One step of a side as a function, all gradients anew."""
    torch.manual_seed(0)
    network = SearchNetwork(ChainLayout(n_classes=100, image_size=size), SIDES[side]).to(device)
    x, y = torch.randn(batch, 3, size, size, device=device), torch.randint(100, (batch,), device=device)
    if side.endswith("channels last"):
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)

    def step():
        network.zero_grad(set_to_none=True)
        with autocast():
            logits = network(x)
        nn.functional.cross_entropy(logits.float(), y).backward()

    return step


def seconds(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def memory(side, size, batch):
    """MB that one step adds to a process that has the network."""
    command = [sys.executable, __file__, "--memory-of", side, "--sizes", str(size), "--batch", str(batch)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64], help="pixels")
    parser.add_argument("--batch", type=int, default=32, help="images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/chain_speed.json")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.memory_of:
        step = make_step(options.memory_of, options.sizes[0], options.batch)
        before = peak_memory(CPU)
        step()
        print(peak_memory(CPU) - before)
        return
    about = record() | {"threads": torch.get_num_threads(), "batch": options.batch}
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, batch {options.batch}")
    found = []
    for size in options.sizes:
        steps = {side: make_step(side, size, options.batch) for side in SIDES}
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(options.repeats + 1):
            for side, step in steps.items():
                times[side].append(seconds(step))
        for side in SIDES:
            median = statistics.median(times[side][1:])  # the first one warms up
            mb = memory(side, size, options.batch)
            print(f"{size} pixels, {side}: {median:.3f} s, {mb:.0f} MB", flush=True)
            found.append({"pixels": size, "side": side, "seconds": times[side][1:], "median_seconds": median, "mb": mb})
        write_json(options.output, about | {"results": found})


if __name__ == "__main__":
    run_program(main)
