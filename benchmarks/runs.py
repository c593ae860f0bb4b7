"""Whole runs of the programs, for measurements of what comes out of them."""

import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json

ROOT = Path(__file__).resolve().parents[1]


def run(program: str, *flags: str) -> str:
    """What a program, a path within the project, prints. Raises :class:`CydasError` where it fails."""
    command = [sys.executable, str(ROOT / program), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise CydasError(f"this failed: {' '.join(command)}")
    return done.stdout


def minutes_of(log: Path) -> float:
    """From a run's first line to its last, any pause between two parts of it included."""
    lines = log.read_text("utf-8").splitlines()
    first, last = (datetime.strptime(lines[index].split(",")[0], "%Y-%m-%d %H:%M:%S") for index in (0, -1))
    return (last - first).total_seconds() / 60


def search_seeds(name: str, flags: Sequence[str], seeds: Sequence[int], jobs: int, runs: Path) -> dict[str, Any]:
    """The result of a search with each seed, and its minutes; one that has ended is not repeated.

    Raises :class:`CydasError` where one has not ended.
    """
    many = ["--seeds", *map(str, seeds), "--jobs", str(jobs), "--threads", "1"]
    run("CyDAS/search.py", *flags, *many, "--output_dir", str(runs), "--name", name, "--resume", "--no-report")
    results = read_json(runs / "search" / f"{name}-seeds.json", "results")["seeds"]
    if set(results) != set(map(str, seeds)):
        raise CydasError(f"{name}: not every seed has ended")
    return {
        seed: result | {"minutes": minutes_of(runs / "search" / f"{name}-seed{seed}" / "search.log")}
        for seed, result in results.items()
    }


def flags_in(settings: str, start: str, without: Sequence[str] = ()) -> str:
    """Of a file of settings, a path within the project, the flags whose names start so, as a command has them.

    ``without``: names that are left out.
    """
    content = yaml.safe_load((ROOT / settings).read_text("utf-8"))
    chosen = {name: value for name, value in content.items() if name.startswith(start) and name not in without}
    return " ".join(f"--{name}" if value is True else f"--{name} {value}" for name, value in chosen.items())
