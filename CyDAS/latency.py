"""Measure how long every operation of the chain space takes on this machine: ``python -m CyDAS.latency --help``.

The table that it writes is what ``search.py --space chain --latency_table TABLE --target_latency MS`` goes by.
"""

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from CyDAS.models.chain.architecture import MAX_BLOCKS
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.spaces.chain_latency import SHAPE, read_latency_table, write_latency_table
from CyDAS.spaces.chain_timing import Bench, measure_latency
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.numbers import whole_number

NUMBERS = {
    "image_size": (224, "height and width of an image, pixels"),
    "input_channels": (3, "channels of an image"),
    "n_classes": (1000, "number of classes"),
    "c_last": (960, "channels of the last stage"),
    "batch_size": (1, "images that are computed at a time; milliseconds are those of all of them"),
    "rounds": (20, "timings of every operation, of which the median counts"),
    "networks": (10, "whole networks, drawn at random, against which the table's sums are held"),
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--table", type=Path, required=True, metavar="FILE", help="JSON file to write; it is replaced")
    for name, (default, text) in NUMBERS.items():
        text = f"{text} (default: {default})"
        parser.add_argument(f"--{name}", type=whole_number, default=default, metavar="N", help=text)
    parser.add_argument("--threads", type=whole_number, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to measure (default: cpu)")
    parser.add_argument("--channels_last", action="store_true", help="store images with their channels last (NHWC)")
    options = parser.parse_args(arguments)
    for name in (*NUMBERS, "threads"):
        if getattr(options, name) == 0:
            raise CydasError(f"--{name} must be at least 1, not 0")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise CydasError("--device cuda: no GPU is available to PyTorch here; use --device cpu")
    if options.threads:
        torch.set_num_threads(options.threads)
    layout = ChainLayout(depth=MAX_BLOCKS, **{name: getattr(options, name) for name in SHAPE})
    bench = Bench(torch.device(options.device), options.batch_size, options.channels_last, options.rounds)
    found = measure_latency(layout, bench, options.networks)
    write_latency_table(options.table, layout, found.fixed, found.blocks, bench.about() | {"errors": found.errors})
    lowest, highest = read_latency_table(options.table, layout).range
    print(f"written: {options.table}; networks of up to {MAX_BLOCKS} blocks a stage: {lowest:.3g} to {highest:.3g} ms")
    print(found.say_errors())


if __name__ == "__main__":
    run_program(main)
