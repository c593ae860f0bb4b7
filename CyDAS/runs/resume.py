"""Where a run goes on from, and whether it may."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from CyDAS.runs.about import RECORD, launch_id
from CyDAS.utils.distributed import gather
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import previous, read_json
from CyDAS.utils.flags import plain

#: Flags that may differ between a run and its continuation.
MAY_DIFFER = {
    "resume", "resume_name", "overwrite", "print_freq", "report", "tracker", "workers", "device", "threads", "name",
    "output_dir",
    "data_dir", "train_dir", "test_dir", "cell_file", "nats_table", "jobs", "grad_checkpointing", "checkpoint_minutes",
    "on_nan", "max_bad_images", "resume_or_start", "process_timeout", "dry_run",
    "reference_batch", "scale_lr", "backbone_checkpoint", "classes", "check_masks", "pictures", "predict_dir",
    "weights_key", "train_json", "test_json", "show_score", "extension",
}  # fmt: skip


def check_continuation(saved: dict[str, Any], config: Any, path: Path, *allowed: str) -> None:
    """Raise :class:`CydasError` where the checkpoint ``path`` was made with other flags, but for ``allowed`` ones."""
    here = plain(config)
    saved = plain(type(config)()) | saved  # a flag that did not exist then had no effect
    may_differ = {*MAY_DIFFER, *allowed, *config.foreign()}
    if saved.get("model_type") is None:  # earlier records do not say what was taken by default: the weights do
        may_differ |= {"model_type"}
    differing = [key for key in here if key not in may_differ and saved.get(key) != here[key]]
    if differing:
        listed = ", ".join(f"--{key} was {saved.get(key)}, is {here[key]}" for key in differing)
        raise CydasError(f"checkpoint {path} was made with other flags: {listed}")


def find_file(name: str, folder: Path, given: bool, note: Callable[[str], None]) -> Path:
    """A file of the run's ``folder``; only where ``name`` was ``given`` may it be a path, too.

    A name with a folder in it (``./NAME``) is first a path, a bare name first a file of the run; ``note`` is told where
    the current folder has one of that name as well.
    """
    own, path = folder / name, Path(name)
    if not given:
        return own
    if os.sep in name:
        return path if path.exists() else own
    if _exists(own):
        if path.exists() and path.resolve() != own.resolve():
            note(f"{name} is the run's {own}; the one in the current folder is ./{name}")
        return own
    return path if path.exists() else own


def choose_checkpoint(config: Any, folder: Path, own: Path, named: Path) -> Path:
    """The checkpoint to go on from: ``named``, but ``own``, the run's, where a repeated run has written one.

    A run is repeated with ``--resume_or_start``, or when torchrun starts it again. Then ``--resume`` is set where there
    is a checkpoint, as the main process sees it; else the run starts anew, and what a start that was cut off has left
    in the folder is deleted, but not if any checkpoint is in it. Every process must call it.
    """
    if not _is_repeated(config, folder):
        return named
    has_own, has_named, has_any = gather((_exists(own), _exists(named), any(folder.glob("*.pth.tar*"))))[0]
    if not config.resume:
        config.resume = has_own or has_named
        config.overwrite |= not has_any
    return own if has_own else named


def _exists(checkpoint: Path) -> bool:
    return checkpoint.exists() or previous(checkpoint).exists()


def _is_repeated(config: Any, folder: Path) -> bool:
    """The same on all processes: torchrun counts a restart only where a process has died."""
    restarts = gather(int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)))
    return config.resume_or_start or (any(restarts) and gather(_is_own(folder))[0])


def _is_own(folder: Path) -> bool:
    """Whether the folder is that of this launch of torchrun."""
    try:
        record = read_json(folder / RECORD, "record")
        return launch_id() is not None and record["machine"].get("launch") == launch_id()
    except (CydasError, KeyError, TypeError, AttributeError):
        return False
