"""Files that are never half written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from CyDAS.utils.errors import CydasError


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` make the file beside ``path``, bring it to disk, and only then put it in place.

    Raises :class:`CydasError` where that cannot be done; an earlier file at ``path`` is then still whole.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with open(beside, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError
        raise CydasError(f"cannot write {path}: {error}") from None
    finally:
        beside.unlink(missing_ok=True)


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
