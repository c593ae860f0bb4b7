"""The folder that a network is written to: all of it at once, or nothing."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from CyDAS.exporting.formats import traced, write_onnx, write_safetensors, write_torch
from CyDAS.exporting.hub import timm_name, write_hub_folder
from CyDAS.exporting.subject import Subject
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json
from CyDAS.utils.present import present

#: What each format is called in the folder, and the record of what was exported.
NAMES = {"safetensors": "model.safetensors", "onnx": "model.onnx", "torch": "model.pt2", "hf": "hf"}
RECORD = "export.json"


def check_folder(folder: Path, overwrite: bool) -> None:
    """Raise :class:`CydasError` where the folder holds anything that may not be replaced.

    Only an earlier export may, and only with ``overwrite``.
    """
    try:
        there = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise CydasError(f"--to {folder}: {error.strerror}") from None
    if there and not overwrite:
        raise CydasError(f"--to {folder} is not empty: --overwrite replaces an earlier export, or name another folder")
    if others := [name for name in there if name not in (*NAMES.values(), RECORD)]:
        raise CydasError(f"--to {folder} holds {others[0]}, which no export has written: it is not deleted")


def write_all(subject: Subject, formats: list[str], folder: Path, overwrite: bool) -> list[str]:
    """Write the network in all formats and the record of it. Returns what was written and how well it agrees, in lines.

    Everything is made and proven in a folder beside the target, which takes its place in the end. Raises
    :class:`CydasError`; what was at ``folder`` before is then still there.
    """
    if "hf" in formats:
        timm_name(subject)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent) as beside:
            differences = _write(subject, formats, Path(beside))
            check_folder(folder, overwrite)  # again: it has taken its time
            _replace(folder, Path(beside))
    except OSError as error:
        raise CydasError(f"cannot write {folder}: {error}") from None
    told = ("" if value is None else f", at most {value:.2g} from PyTorch's answers" for value in differences.values())
    return [f"written: {folder / NAMES[name]}{text}" for name, text in zip(differences, told, strict=True)]


def _write(subject: Subject, formats: list[str], folder: Path) -> dict[str, float | None]:
    """By format, the largest difference from PyTorch's own answers; None where the weights themselves were compared."""
    plain = subject.plain()
    program = traced(plain, subject) if {"onnx", "torch"} & set(formats) else None
    writers: dict[str, Callable[[Path], float | None]] = {
        "safetensors": lambda path: write_safetensors(subject, path),
        "onnx": lambda path: write_onnx(present(program), plain, subject, path),
        "torch": lambda path: write_torch(present(program), plain, subject, path),
        "hf": lambda path: write_hub_folder(subject, path),
    }
    differences = {name: writers[name](folder / NAMES[name]) for name in NAMES if name in formats}
    record = {
        "task": subject.task, "outputs": plain.outputs, "image": subject.image, "mean": subject.mean,
        "std": subject.std, **subject.facts, "checkpoint": str(subject.path), "weights": subject.where,
        "epoch": subject.epoch, "differences": differences,
    }  # fmt: skip
    write_json(folder / RECORD, record)
    return differences


def _replace(folder: Path, beside: Path) -> None:
    """Put what is in ``beside`` into ``folder``, in the place of an earlier export."""
    folder.mkdir(exist_ok=True)
    for name in (*NAMES.values(), RECORD):
        old = folder / name
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    for path in sorted(beside.iterdir()):
        os.replace(path, folder / path.name)
