"""Files that are never half written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from CyDAS.utils.errors import CydasError


def previous(path: Path) -> Path:
    """Where the version before the last one of a file is kept."""
    return path.with_name(f"{path.name}.previous")


def write_atomically(
    path: Path, write: Callable[[Path], object], prove: Callable[[Path], None] | None = None, keep: bool = False
) -> None:
    """Let ``write`` make the file beside ``path``, bring it to disk, and only then put it in place.

    ``prove`` reads the new file back before it replaces the old one, and raises :class:`CydasError` where it cannot.
    ``keep``: the old one is kept as :func:`previous`. Raises :class:`CydasError` where the file cannot be written; an
    earlier file at ``path`` is then still whole.
    """
    if not path.name or "\0" in str(path):
        raise CydasError(f"cannot write {str(path)!r}: that is no name of a file")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        if prove:
            prove(beside)
        if keep:
            _keep(path)
        os.replace(beside, path)
        _sync(path.parent)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise CydasError(f"cannot write {path}: {error}") from None
    finally:
        _remove(beside)


def _keep(path: Path) -> None:
    """Give the file at ``path`` a second name, so that there is a whole file under its own at every moment."""
    if not path.exists():
        return
    second = path.with_name(f".{path.name}.{os.getpid()}.old")
    _remove(second)
    try:
        os.link(path, second)
    except OSError:  # a file system without hard links
        os.replace(path, previous(path))
    else:
        os.replace(second, previous(path))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass  # a disk that has become read-only; the error that matters has been raised


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2) + "\n"
    write_atomically(path, lambda beside: beside.write_text(text))


def read_json(path: Path, what: str, max_bytes: int = 10_000_000) -> Any:
    """The value in a JSON file. Raises :class:`CydasError` naming ``what`` was to be read there."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise CydasError(f"{what} {path}: {size} bytes are too many (at most {max_bytes})")
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CydasError(f"{what} {path}: there is no such file") from None
    except OSError as error:
        raise CydasError(f"{what} {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CydasError(f"{what} {path}: not JSON ({error})") from None
