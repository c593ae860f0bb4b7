"""What a second process brings: images a second, the share of communication, and the sizes of what is exchanged.

    python benchmarks/scaling.py       # about 4 minutes on two quiet cores; writes benchmarks/results/scaling.json

The same number of images in each update: one process with two threads, two processes (gloo) with one thread each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch
import torch.distributed as dist

from benchmarks.speed import record, retrain, search_step
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.spaces import DartsSpace, load_architecture
from CyDAS.utils.distributed import start_process, stop_process
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.profile import count_macs, count_parameters

ROOT = Path(__file__).resolve().parents[1]
#: What is measured: images of an update over all processes, images that pass a network in it, how to build it.
CASES = {
    "search step, 16 channels": (32, 64, lambda images: search_step(16, images)),
    "retrain step, 36 channels, 20 cells": (32, 32, lambda images: retrain(36, images)),
}
REPEATS = 7


def measure(name: str) -> dict[str, float]:
    """In one of the processes: medians of seconds a step and of those within messages."""
    process = start_process("cpu", 60.0)
    images, passing, build = CASES[name]
    action = build(images // process.world_size)("cydas")
    waited = [0.0]
    if process.world_size > 1:
        dist.all_reduce = timed(dist.all_reduce, waited)
    steps, messages = [], []
    for _ in range(REPEATS + 2):
        waited[0] = 0.0
        start = time.perf_counter()
        action()
        steps.append(time.perf_counter() - start)
        messages.append(waited[0])
    stop_process()
    seconds, message = statistics.median(steps[2:]), statistics.median(messages[2:])
    return {"seconds": seconds, "images_per_second": passing / seconds, "communication": message / seconds}


def timed(function: Callable, total: list[float]) -> Callable:
    def call(*arguments, **options):
        start = time.perf_counter()
        result = function(*arguments, **options)
        total[0] += time.perf_counter() - start
        return result

    return call


def run(name: str, processes: int, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"] if processes > 1 else []
        command = [sys.executable, *start, __file__, "--child", name, str(threads), str(out)]
        code = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": str(threads)}, cwd=ROOT).returncode
        if code:
            raise CydasError(f"{name} in {processes} process(es) ended with code {code}; what it said is above")
        return json.loads(out.read_text())


def exchanged() -> dict[str, dict[str, float]]:
    """Megabytes of gradients in each update of the published ImageNet runs, and their arithmetic."""
    layout = Layout("imagenet", 16, 1, n_classes=1000, image_size=224)
    space = DartsSpace(layout, repeat_cell=True, ensemble_param=True)
    joint = space.build()
    cell = load_architecture(ROOT / "CyDAS/cells/imagenet_genotype.json", 3)
    space.set_evaluation(joint, cell)
    network = RetrainNetwork(Layout("imagenet", 48, 1, n_classes=1000, image_size=224), cell, True)
    parameters = {
        "search, val update": sum(p.numel() for role in ("evaluation", "alphas") for p in joint.parameters_of(role)),
        "search, train update": sum(p.numel() for p in joint.parameters_of("search")),
        "retrain": count_parameters(network),
    }
    shape = (3, 224, 224)
    macs = {"search, both networks": count_macs(joint, shape), "retrain": count_macs(network, shape)}
    return {"megabytes": {name: 4 * n / 1e6 for name, n in parameters.items()}, "macs_per_image": macs}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        name, threads, out = options.child
        torch.set_num_threads(int(threads))
        result = measure(name)
        if int(os.environ.get("RANK", 0)) == 0:
            write_json(Path(out), result)
        return
    results = {}
    for name in CASES:
        results[name] = {"1 process, 2 threads": run(name, 1, 2), "2 processes, 1 thread": run(name, 2, 1)}
        for how, figures in results[name].items():
            print(f"{name}, {how}: {figures['images_per_second']:.1f} images/s, "
                  f"{100 * figures['communication']:.1f} % communication", flush=True)  # fmt: skip
    sizes = exchanged()
    print(sizes)
    write_json(ROOT / "benchmarks/results/scaling.json", record() | {"results": results, "published": sizes})


if __name__ == "__main__":
    run_program(main)
