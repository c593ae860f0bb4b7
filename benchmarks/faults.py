"""What searches and retrainings survive: real runs as child processes, killed, cut off, damaged, compared.

    python benchmarks/faults.py                  # about 10 minutes on two cores
    python benchmarks/faults.py --space chain    # the same of chains, with a target for their cost

Writes benchmarks/results/faults.json, faults_chain.json.

Every run is on scikit-learn's digits and is compared with one that nothing happened to: all tensors of the last
checkpoint to the last bit, genotype, and every line of figures in the log.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from benchmarks.runs import minutes_of
from benchmarks.speed import record
from CyDAS.runs import checkpoint as checkpoints
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import previous, write_json
from CyDAS.utils.numbers import whole_number

ROOT = Path(__file__).resolve().parents[1]
COMMON = "--device cpu --threads 1 --name run --print_freq 5 --checkpoint_minutes 0.01"
FLAGS = {
    "search": f"{COMMON} --batch_size 16 --pretrain_epochs 1 --search_iter 4 --search_iter_epochs 1 --nasnet_warmup 1 "
    "--ensemble_param",
    "retrain": f"{COMMON} --batch_size 32 --epochs 4 --aux_weight 0 --mixup_alpha 0.2 --lr 0.05",
}
CHECKPOINT = {"search": "search_resume.pth.tar", "retrain": "retrain_resume.pth.tar"}


class Small(NamedTuple):
    """The smallest networks of a space that are worth while."""

    flags: str
    search: str
    cell: str


SPACES = {
    "nats": Small(
        "--space nats --cells_per_stage 1 --init_channels 4 --image_size 8",
        "--regular --sample_ratio 0.5",
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
    ),
    "chain": Small(
        "--space chain --image_size 32 --c_last 32",
        "--blocks_per_stage 2 --target_flops 4M --alpha_lr 0.02 --sample_ratio 0.1",
        "[[0], [1, 4], [2], [5, 0], [3], [0], [0]]",
    ),
}


class Runs:
    """Starts programs in folders of their own below a temporary one."""

    def __init__(self, folder: Path, space: Small):
        self.folder = folder
        self.flags = {"search": [*space.flags.split(), *space.search.split()], "retrain": space.flags.split()}
        (folder / "cell.json").write_text(json.dumps(space.cell))

    def place(self, kind: str, name: str) -> Path:
        return self.folder / name / kind / "run"

    def start(self, kind: str, name: str, *flags: str, hook: str = "none") -> subprocess.Popen:
        cell = ["--cell_file", str(self.folder / "cell.json")] if kind == "retrain" else []
        arguments = [*FLAGS[kind].split(), *self.flags[kind], *cell, "--output_dir", str(self.folder / name), *flags]
        command = [sys.executable, __file__, "--child", kind, hook, "--", *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    def start_until(self, kind: str, name: str, file: Path) -> subprocess.Popen:
        """Start a run and wait until a file is there, or it has ended."""
        process = self.start(kind, name)
        while process.poll() is None and not file.exists():
            time.sleep(0.01)
        return process

    def finish(self, kind: str, name: str, *flags: str, hook: str = "none") -> tuple[int, str]:
        """Run to the end; exit code and what stood on stderr."""
        process = self.start(kind, name, *flags, hook=hook)
        errors = process.communicate(timeout=600)[1]
        return process.returncode, errors

    def go_on(self, kind: str, name: str) -> tuple[int, str]:
        """Go on with a run, or start it where there is no checkpoint yet."""
        started = (self.place(kind, name) / CHECKPOINT[kind]).exists()
        return self.finish(kind, name, "--resume" if started else "--overwrite")


def child(kind: str, hook: str, arguments: list[str]) -> None:
    """The program itself, with slowed or failing writes of checkpoints where ``hook`` says so."""
    seal = checkpoints._seal

    def slow(path: Path) -> None:
        content = path.read_bytes()
        with open(path, "wb") as file:
            for start in range(0, len(content), max(1, len(content) // 20)):
                file.write(content[start : start + max(1, len(content) // 20)])
                file.flush()
                time.sleep(0.02)
        seal(path)

    if hook == "slow":
        checkpoints._seal = slow
    if hook == "full":  # no file may grow beyond this, which is less than a checkpoint has
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    if kind == "search":
        from CyDAS.search import main
    else:
        from CyDAS.retrain import main
    main(arguments)


def alike(a: Any, b: Any) -> bool:
    """Whether two nested values agree, tensors to the last bit; commands, folders and times aside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a if key not in ("about", "config"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(alike, a, b))
    return a == b


def equal(kind: str, run: Path, other: Path) -> bool:
    """Whether two runs ended alike; what differs is printed."""
    differs = []
    if not alike(*(load_checkpoint(r / CHECKPOINT[kind], sealed=True) for r in (run, other))):
        differs.append("the last checkpoint")
    if kind == "search" and (run / "genotype.json").read_text() != (other / "genotype.json").read_text():
        differs.append("the genotype")
    ours, theirs = (figures(place / f"{kind}.log") for place in (run, other))
    differs += [f"a line of the log: {line}" for line in [*ours, *theirs] if (line in ours) != (line in theirs)]
    if differs:
        print(f"{kind} {run.parents[1].name} differs in {'; '.join(differs[:4])}", flush=True)
    return ours == theirs and not differs


def figures(log: Path) -> list[str]:
    """Every line of figures, once: what was printed after the last checkpoint is printed again."""
    lines = [line.split(" ", 2)[2] for line in log.read_text().splitlines() if "gradient_norm" in line]
    return list(dict.fromkeys(lines))


def kill_at_random(runs: Runs, kind: str, name: str, seconds: float, chance: random.Random, writing: bool) -> bool:
    """Kill a run once, go on, and say whether it ended like the undisturbed one."""
    process = runs.start(kind, name, hook="slow" if writing else "none")
    folder = runs.place(kind, name)
    if writing:
        skip = chance.randrange(1, 6)  # that many checkpoints are written whole
        seen: set[str] = set()
        while process.poll() is None and len(seen) <= skip:
            with suppress(FileNotFoundError):  # it has just got its name
                seen |= {f"{f}{f.stat().st_ino}" for f in folder.glob(".*.tmp")}
            time.sleep(0.002)
    else:
        # By how far it has come, not by the clock: other work on the machine makes runs slower and faster.
        lines = len(figures(runs.place(kind, "undisturbed") / f"{kind}.log"))
        log, line = folder / f"{kind}.log", chance.randrange(lines)
        while process.poll() is None and not (log.exists() and len(figures(log)) >= line):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.8) * seconds / lines)
    process.send_signal(signal.SIGKILL)
    errors = process.communicate()[1]
    if process.returncode != -signal.SIGKILL:
        raise CydasError(f"the run had ended before it was killed: {errors}")
    code, errors = runs.go_on(kind, name)
    if code:
        print(f"{kind} {name} ended with code {code} when it went on: {errors[-300:]}", flush=True)
    return code == 0 and equal(kind, folder, runs.place(kind, "undisturbed"))


def full_disk(runs: Runs, kind: str) -> bool:
    """Saves fail for a whole run: it says so, ends with an error, loses nothing, and goes on later."""
    name = "full"
    folder = runs.place(kind, name)
    process = runs.start_until(kind, name, folder / CHECKPOINT[kind])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = (folder / CHECKPOINT[kind]).read_bytes()
    code, errors = runs.finish(kind, name, "--resume", hook="full")
    kept = (folder / CHECKPOINT[kind]).read_bytes() == before and not list(folder.glob(".*.tmp"))
    said = code == 2 and "its last checkpoint is missing" in errors
    return said and kept and runs.go_on(kind, name)[0] == 0 and equal(kind, folder, runs.place(kind, "undisturbed"))


def stopped_by(runs: Runs, kind: str, number: int) -> bool:
    name = f"signal{number}"
    folder = runs.place(kind, name)
    process = runs.start_until(kind, name, folder / CHECKPOINT[kind])
    process.send_signal(number)
    errors = process.communicate(timeout=300)[1]
    right = process.returncode == 128 + number and "to go on: " in errors
    return right and runs.go_on(kind, name)[0] == 0 and equal(kind, folder, runs.place(kind, "undisturbed"))


def two_in_one_folder(runs: Runs, kind: str) -> bool:
    name = "two"
    folder = runs.place(kind, name)
    first = runs.start_until(kind, name, folder / CHECKPOINT[kind])
    first.send_signal(signal.SIGSTOP)  # it must still be there when the second one comes
    code, errors = runs.finish(kind, name, "--resume")
    first.send_signal(signal.SIGCONT)
    refused = code == 2 and f"is in use by process {first.pid} on " in errors
    first.communicate(timeout=300)
    return refused and first.returncode == 0 and equal(kind, folder, runs.place(kind, "undisturbed"))


def damages(good: bytes, foreign: bytes, chance: random.Random) -> list[bytes]:
    """Fifty ways in which a file is no longer what was written."""
    cut = [good[: chance.randrange(len(good))] for _ in range(15)]
    flipped = []
    for _ in range(25):
        place, bit = chance.randrange(len(good)), 1 << chance.randrange(8)
        flipped.append(good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :])
    holes = [
        good[:at] + bytes(1000) + good[at + 1000 :] for at in (chance.randrange(len(good) - 1000) for _ in range(5))
    ]
    return [*cut, *flipped, *holes, b"", b"PK\x03\x04", good + good, good[::-1], foreign]


def damaged(runs: Runs, kind: str, chance: random.Random) -> list[bool]:
    """Damage the newest checkpoint of a run that was killed, and go on: the one before it must be used, and named."""
    name = "damaged"
    folder = runs.place(kind, name)
    path = folder / CHECKPOINT[kind]
    process = runs.start_until(kind, name, previous(path))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = runs.folder / "kept"
    shutil.copytree(folder, kept)
    code, _ = runs.finish(kind, "foreign", "--seed", "1")
    foreign = (runs.place(kind, "foreign") / CHECKPOINT[kind]).read_bytes()
    survived = []
    for content in damages(path.read_bytes(), foreign, chance):
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        path.write_bytes(content)
        code, _ = runs.finish(kind, name, "--resume")
        named = "; going on from" in (folder / f"{kind}.log").read_text()
        survived.append(code == 0 and named and equal(kind, folder, runs.place(kind, "undisturbed")))
    return survived


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills", type=whole_number, metavar="N", default=20, help="runs of each program that are killed (default: 20)"
    )
    parser.add_argument("--space", choices=tuple(SPACES), default="nats", help="whose networks (default: nats)")
    parser.add_argument("--output", type=Path, help="(default: benchmarks/results/faults.json, faults_SPACE.json)")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        kind, hook = options.child
        child(kind, hook, options.arguments)
        return
    table: dict[str, list[bool]] = {}

    def count(fault: str, attempt: Callable[[], bool | list[bool]]) -> None:
        try:
            outcome = attempt()
        except (CydasError, OSError, subprocess.TimeoutExpired) as error:
            print(f"{fault}: {error}")
            outcome = False
        table.setdefault(fault, []).extend(outcome if isinstance(outcome, list) else [outcome])

    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder), SPACES[options.space])
        for kind in FLAGS:
            start = time.monotonic()
            code, errors = runs.finish(kind, "undisturbed")
            if code:
                raise CydasError(f"the undisturbed {kind} ended with code {code}: {errors[-300:]}")
            seconds = max(1.0, 60 * minutes_of(runs.place(kind, "undisturbed") / f"{kind}.log"))
            print(f"{kind}: {time.monotonic() - start:.1f} s, of which {seconds:.0f} s at work", flush=True)
            for number in range(options.kills):
                writing = number % 4 == 3
                fault = f"{kind} killed" + (" while a checkpoint is written" if writing else "")
                name = f"{kind}-kill{number}"
                count(fault, lambda: kill_at_random(runs, kind, name, seconds, chance, writing))  # noqa: B023
            for number in (signal.SIGTERM, signal.SIGINT):
                count(f"{kind} stopped by {number.name}", lambda: stopped_by(runs, kind, number))  # noqa: B023
            count(f"{kind} on a full disk", lambda: full_disk(runs, kind))  # noqa: B023
            count(f"{kind} started twice in one folder", lambda: two_in_one_folder(runs, kind))  # noqa: B023
            print({fault: f"{sum(o)}/{len(o)}" for fault, o in table.items() if fault.startswith(kind)}, flush=True)
        count("newest checkpoint of a search damaged", lambda: damaged(runs, "search", chance))
    rows = {f: {"tried": len(o), "survived": sum(o), "lost": len(o) - sum(o)} for f, o in table.items()}
    for fault, row in rows.items():
        print(f"{fault:55} tried {row['tried']:3} survived {row['survived']:3} lost {row['lost']}")
    name = "faults.json" if options.space == "nats" else f"faults_{options.space}.json"
    write_json(options.output or ROOT / "benchmarks/results" / name, record() | {"faults": rows})


if __name__ == "__main__":
    run_program(main)
