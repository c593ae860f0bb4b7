"""Whole runs of the programs, for measurements of what comes out of them."""

import subprocess
import sys
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
