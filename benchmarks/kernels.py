"""Where the time of a step goes, kernel by kernel, and how far it is from what this machine can do.

    python benchmarks/kernels.py        # minutes on Linux with perf; writes benchmarks/results/kernels.json

One thread. ``perf`` looks 500 times a second at which function is running; functions are added up to groups. The two
ceilings are measured in the same run: multiply-accumulates a second of PyTorch's product of two large matrices, and
bytes a second of a copy between two arrays of 256 MB (what is read and what is written both count).
"""

import argparse
import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from benchmarks.speed import ROOT, cases, record
from CyDAS.models.native import cache
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json

#: Cases of benchmarks/speed.py, and the multiply-accumulates of their images in one action, in millions: a backward
#: pass counts as two forward ones.
CASES = {"supernet": 16 * 311 * 3, "retrain_step": 16 * 590 * 3, "retrain_small": 32 * 9.4 * 3,
         "nats_search_step": 64 * (449 + 254) * 3, "evaluation": 64 * 590}  # fmt: skip
#: The first whose pattern occurs in a native function's name.
GROUPS = {
    "depthwise convolutions": "depthwise|pointwise_input",
    "preprocessings": "Projection|project<",
    "products and weight gradients": "product|outer|unit_backward|unit_row|dense_backward",
    "batch norm": "NormStep|gradient_sums|z_gradient|add_row|unit_forward",
    "ReLU and borders": "relu|convolutions_backward|border",
    "sums at the nodes": "add_convolutions",
    "poolings and skips": "mix_free|free_backward",
    "packing of weights": "pack_unit|each_pointwise|write_weight",
}
SECONDS = 10.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="cases (default: all)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/kernels.json")
    options = parser.parse_args(arguments)
    if shutil.which("perf") is None:
        raise CydasError("this needs perf, which comes with the Linux kernel's tools")
    os.environ["CYDAS_NATIVE_FLAGS"] = "-g"
    torch.set_num_threads(1)
    ceilings = {"multiply_accumulates_per_s": arithmetic(), "bytes_per_s": memory()}
    results = {}
    with tempfile.TemporaryDirectory() as folder, kept_library(Path(folder)):
        for case in (case for case in cases() if case.name in options.only):
            action = case.build("cydas")
            seconds, shares = watch(action, Path(folder) / "perf.data")
            limit = CASES[case.name] * 1e6 / ceilings["multiply_accumulates_per_s"]
            results[case.name] = {"what": case.what, "seconds": seconds, "limit": limit, "shares": shares}
            print(f"{case.what}: {seconds:.3f} s, of arithmetic {limit:.3f} s")
            print("    " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()), flush=True)
    write_json(options.output, record() | {"threads": 1, "ceilings": ceilings, "results": results})


def arithmetic(size: int = 2048) -> float:
    x = torch.randn(size, size)
    return size**3 / best(lambda: x @ x)


def memory(size: int = 2**26) -> float:
    x, y = torch.randn(size), torch.empty(size)
    return 2 * 4 * size / best(lambda: y.copy_(x))


def best(action, times: int = 10) -> float:
    """Seconds of the shortest of several."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        found.append(time.perf_counter() - start)
    return min(found)


@contextlib.contextmanager
def kept_library(folder: Path) -> Iterator[None]:
    """A loaded library's file stays: perf reads the functions' names from it."""
    number = iter(range(100))

    def kept(**_) -> contextlib.AbstractContextManager:
        own = folder / f"library-{next(number)}"
        own.mkdir()
        return contextlib.nullcontext(str(own))

    with mock.patch.object(cache.tempfile, "TemporaryDirectory", kept):
        yield


def watch(action, file: Path) -> tuple[float, dict[str, float]]:
    """Seconds of one action, the median, and the share of each group in all of them."""
    for _ in range(4):
        action()
    perf = subprocess.Popen(["perf", "record", "-q", "-F", "500", "-o", str(file), "-p", str(os.getpid())])
    time.sleep(0.5)
    seconds: list[float] = []
    while sum(seconds) < SECONDS:
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    perf.send_signal(2)
    perf.wait()
    command = ["perf", "report", "-i", str(file), "--no-children", "--sort", "dso,symbol", "-g", "none"]
    report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, float] = defaultdict(float)
    for percent, where, function in re.findall(r"^\s+([\d.]+)%\s+(\S+)\s+\[.\] (.*)$", report, re.MULTILINE):
        found[group(where, function)] += float(percent) / 100
    total = sum(found.values())
    ordered = sorted(found.items(), key=lambda item: -item[1])
    return statistics.median(seconds), {name: share / total for name, share in ordered}


def group(where: str, function: str) -> str:
    if where.startswith("cell"):
        return next((name for name, pattern in GROUPS.items() if re.search(pattern, function)), "other native")
    if re.match(r"lib(torch|c10)", where):
        return "PyTorch"
    return "Python" if "python" in where else "memory and the kernel"


if __name__ == "__main__":
    run_program(main)
