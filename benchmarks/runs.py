"""Whole runs of the programs, for measurements of what comes out of them."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

from CyDAS.utils.errors import CydasError

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
