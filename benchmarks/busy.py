"""What one more busy program on the same cores costs a retraining: people search on laptops while they work.

    python benchmarks/busy.py       # minutes, on cores that do nothing else; writes benchmarks/results/busy.json

Steps of a small network (8 channels, 20 cells, 16 pixels, batch 32) with as many threads as there are cores, alone and
beside a process that computes without a pause, in turns. With two cores and three busy threads, a fair share of the
cores is two thirds of them: 1.5 times the time.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from benchmarks.speed import ROOT, SIDES, Action, record, retrain
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.numbers import whole_number

STEPS = 20


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=whole_number, default=5, help="turns of each (default: 5)")
    parser.add_argument("--threads", type=whole_number, default=os.cpu_count(), help="threads (default: all cores)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/busy.json")
    options = parser.parse_args(arguments)
    if not options.repeats or not options.threads:
        raise CydasError("--repeats and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    actions = {side: retrain(8, 32, 16)(side) for side in SIDES}
    seconds: dict[str, dict[str, list[float]]] = {side: {"alone": [], "beside": []} for side in SIDES}
    for _ in range(options.repeats):
        for side, action in actions.items():
            action()
            seconds[side]["alone"].append(_seconds_of_steps(action))
            with busy_process():
                seconds[side]["beside"].append(_seconds_of_steps(action))
    results = {}
    for side, times in seconds.items():
        alone, beside = statistics.median(times["alone"]), statistics.median(times["beside"])
        results[side] = {"seconds": times, "alone": alone, "beside": beside, "times_as_long": beside / alone}
        print(f"{side}: {alone:.2f} s alone, {beside:.2f} s beside a busy process: {beside / alone:.2f} times as long")
    content = {
        "steps": STEPS,
        "threads": options.threads,
        "spins": os.environ.get("GOMP_SPINCOUNT"),
        "results": results,
    }
    write_json(options.output, record() | content)


def _seconds_of_steps(action: Action) -> float:
    start = time.perf_counter()
    for _ in range(STEPS):
        action()
    return time.perf_counter() - start


@contextmanager
def busy_process() -> Iterator[None]:
    """A process that computes, on one core, for as long as the block lasts."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    run_program(main)
