"""Are the estimates of --dry_run true? Dry runs against whole runs, time and peak memory.

python benchmarks/estimates.py --cifar experiments/data     # about 6 minutes; writes results/estimates.json
"""

import argparse
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed import record
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.present import present

ROOT = Path(__file__).resolve().parents[1]
RUNS = {
    "DARTS search, 8 channels, batch 32": (
        "CyDAS/search.py --dataset cifar10 --init_channels 8 --batch_size 32 --sample_ratio 0.02 --pretrain_epochs 2 "
        "--search_iter 6 --search_iter_epochs 1 --nasnet_warmup 1 --repeat_cell --ensemble_param --regular"
    ),
    "NATS-Bench search, 8 channels, batch 64": (
        "CyDAS/search.py --space nats --dataset cifar10 --init_channels 8 --cells_per_stage 2 --batch_size 64 "
        "--sample_ratio 0.1 --pretrain_epochs 2 --search_iter 6 --search_iter_epochs 1 --nasnet_warmup 1 --regular"
    ),
    "retraining on digits, 12 channels, batch 64": (
        "CyDAS/retrain.py --dataset digits --cell_file CyDAS/cells/dartsv2_genotype.json --init_channels 12 "
        "--batch_size 64 --epochs 3 --warmup_epochs 0"
    ),
}


def run(flags: str, cifar: Path, *more: str) -> tuple[str, float, float]:
    """What a program prints, its seconds, and its peak memory, MB."""
    command = [sys.executable, *flags.split(), "--data_dir", str(cifar), "--name", "estimate", "--overwrite", *more]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    text = present(process.stdout).read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise CydasError(
            f"{' '.join(map(str, command[1:]))} ended with code {process.returncode}; what it said is above"
        )
    return text, time.perf_counter() - start, usage.ru_maxrss / 1024


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path, default=ROOT / "experiments/data", help="folder that holds CIFAR-10")
    cifar = parser.parse_args(arguments).cifar.resolve()
    results = {}
    for name, flags in RUNS.items():
        dry, dry_seconds, _ = run(flags, cifar, "--dry_run")
        estimate = float(present(re.search(r"the whole run: (\d+) s", dry))[1])
        memory = float(present(re.search(r"peak memory of a process: (\d+) MB", dry))[1])
        text, _, peak = run(flags, cifar)
        # from the log's first line to its last: without Python's start and the reading of the data
        clock = [int(h) * 3600 + int(m) * 60 + int(s) for h, m, s in re.findall(r"^(\d+):(\d+):(\d+) ", text, re.M)]
        seconds = (clock[-1] - clock[0]) % 86400
        results[name] = {
            "dry_run_seconds": dry_seconds,
            "seconds": {"estimated": estimate, "measured": seconds, "ratio": estimate / seconds},
            "peak_mb": {"estimated": memory, "measured": peak, "ratio": memory / peak},
        }
        print(name, results[name], flush=True)
    write_json(ROOT / "benchmarks/results/estimates.json", record() | {"results": results})


if __name__ == "__main__":
    run_program(main)
