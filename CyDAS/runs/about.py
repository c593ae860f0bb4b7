"""The record of how something was made."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

import CyDAS
from CyDAS.utils.distributed import Process
from CyDAS.utils.flags import plain

#: A run's record, in its folder.
RECORD = "config.json"


def how_made(config: Any, process: Process, kernels: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """How something was made: the command, every setting, source, versions, machine, native kernels, time.

    ``kernels``: says which native kernels there are; not asked where the run has no use for any.
    """
    return {
        "command": [sys.executable, *sys.argv],
        "config": plain(config),
        "source": source_state(),
        "versions": {
            "CyDAS": CyDAS.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "torch": str(torch.__version__),
            "torchvision": torchvision.__version__,
        },
        "machine": {
            "host": platform.node(),
            "device": device_name(process.device),
            "threads": torch.get_num_threads(),
            "processes": process.world_size,
            "launch": launch_id(),
        },
        "native": _native(config, process, kernels),
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _native(config: Any, process: Process, kernels: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Whether cells run as native steps (``used``): with which library and compiler, or the reason why not."""
    reasons = {
        f"the device is {process.device.type}": process.device.type != "cpu",
        "--use_amp": config.use_amp,
        "--compile": getattr(config, "compile", False),
    }
    reason = next((text for text, holds in reasons.items() if holds), None)
    return {"used": False, "reason": reason} if reason else kernels()


def other_bits(then: Any, now: dict[str, Any]) -> list[str]:
    """What differs between two records so that equal steps may give other bits; what one does not say is left out."""
    differing = []
    for what, *keys in (
        ("torch", "versions", "torch"),
        ("torchvision", "versions", "torchvision"),
        ("device", "machine", "device"),
        ("threads", "machine", "threads"),
        ("native kernels", "native", "library"),
    ):
        sections = [record.get(keys[0]) if isinstance(record, dict) else None for record in (then, now)]
        said = [section.get(keys[1], "none") for section in sections if isinstance(section, dict)]
        if len(said) == 2:
            was, is_now = said
            if was != is_now:
                differing.append(f"{what} {was}, now {is_now}")
    return differing


def source_state() -> dict[str, Any]:
    """The git commit that CyDAS runs from and whether its files differ from it; None where git does not know."""

    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(CyDAS.__file__).parent), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def launch_id() -> str | None:
    """What torchrun calls this launch and all its restarts."""
    name = os.environ.get("TORCHELASTIC_RUN_ID", "none")
    return None if name == "none" else name
