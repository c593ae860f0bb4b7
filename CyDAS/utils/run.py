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
from CyDAS.utils.logs import RunLog

#: A run's record of how it was made.
RECORD = "config.json"


def start(config: Any) -> Process:
    """Choose device and threads and seed every generator, alike on all processes."""
    if config.threads:
        torch.set_num_threads(config.threads)
    process = start_process(config.device)
    if config.tf32:
        torch.set_float32_matmul_precision("high")  # convolutions take TensorFloat-32 by PyTorch's own default
    seed_everything(config.seed)
    return process


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def prepare_folder(folder: Path, resume: bool, overwrite: bool) -> None:
    """Make the run's folder. Raises :class:`CydasError` where it holds an earlier run that nobody said to touch.

    Only a folder with a run's record in it is ever deleted.
    """
    try:
        if folder.exists() and any(folder.iterdir()) and not resume:
            if not overwrite:
                raise CydasError(
                    f"{folder} holds an earlier run: "
                    "--resume goes on with it, --overwrite deletes it, --name takes another"
                )
            if not (folder / RECORD).exists():
                raise CydasError(
                    f"{folder} holds files, but no {RECORD} of a run: it is not deleted; take another --name"
                )
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CydasError(f"cannot use the folder {folder}: {error.strerror}") from None


def plain(config: Any) -> dict[str, Any]:
    """The configuration as plain values, for JSON files and checkpoints."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(config).items()}


def record(folder: Path, config: Any, process: Process) -> None:
    """Write the run's record: the command, every setting, versions, machine, time."""
    write_json(
        folder / RECORD,
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


def introduce(config: Any, process: Process, log: RunLog) -> None:
    """The first lines of a run's log: where it computes, and what of its flags has no effect there."""
    log.info("device %s, %d process(es)", device_name(process.device), process.world_size)
    if config.sync_bn and process.device.type == "cpu" and process.world_size > 1:
        log.warning("--sync_bn: PyTorch has it on GPUs only; each process goes on with its own statistics")


#: Flags that may differ between a run and its continuation.
MAY_DIFFER = {
    "resume", "resume_name", "overwrite", "print_freq", "workers", "device", "threads", "name", "output_dir",
    "data_dir", "train_dir", "test_dir", "cell_file", "nats_table", "jobs", "grad_checkpointing",
}  # fmt: skip


def check_continuation(saved: dict[str, Any], config: Any, path: Path, *allowed: str) -> None:
    """Raise :class:`CydasError` where the checkpoint ``path`` was made with other flags, but for ``allowed`` ones."""
    here = plain(config)
    saved = plain(type(config)()) | saved  # a flag that did not exist then had no effect
    differing = [key for key in here if key not in {*MAY_DIFFER, *allowed} and saved.get(key) != here[key]]
    if differing:
        listed = ", ".join(f"--{key} was {saved.get(key)}, is {here[key]}" for key in differing)
        raise CydasError(f"checkpoint {path} was made with other flags: {listed}")


def find_file(name: str, folder: Path) -> Path:
    """A file named by its path or, where there is none, by its name in the run's folder."""
    path = Path(name)
    return path if path.exists() or path.is_absolute() else folder / path
