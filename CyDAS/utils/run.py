"""A run: its folder, its seed, its device, and the record of how it was made."""

import platform
import random
import shutil
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision

import CyDAS
from CyDAS.utils.distributed import Process, start_process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json


def start(config: Any) -> Process:
    """Choose device and threads and seed every generator, alike on all processes."""
    if config.threads:
        torch.set_num_threads(config.threads)
    process = start_process(config.device)
    seed_everything(config.seed)
    return process


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def prepare_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Make the run's folder. Raises :class:`CydasError` where it holds an earlier run that nobody said to touch."""
    try:
        if folder.exists() and any(folder.iterdir()) and not resume:
            if not overwrite:
                raise CydasError(
                    f"{folder} holds an earlier run: "
                    "--resume goes on with it, --overwrite deletes it, --name takes another"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CydasError(f"cannot use the folder {folder}: {error.strerror}") from None


def plain(config: Any) -> dict[str, Any]:
    """The configuration as plain values, for JSON files and checkpoints."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def record(folder: Path, config: Any, process: Process) -> None:
    """Write ``config.json``: the command, every setting, versions, machine, time."""
    write_json(
        folder / "config.json",
        {
            "command": [sys.executable, *sys.argv],
            "config": plain(config),
            "versions": {
                "CyDAS": CyDAS.__version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "torchvision": torchvision.__version__,
            },
            "machine": {
                "host": platform.node(),
                "device": device_name(process.device),
                "threads": torch.get_num_threads(),
                "processes": process.world_size,
            },
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        },
    )


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})"


def find_file(name: str, folder: Path) -> Path:
    """A file named by its path or, where there is none, by its name in the run's folder."""
    path = Path(name)
    return path if path.exists() or path.is_absolute() else folder / path
