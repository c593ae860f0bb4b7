"""Where compiled kernels are kept: a folder of the user's own, for code that lies in it is run."""

import ctypes
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_atomically

logger = logging.getLogger(__name__)

FUNCTIONS = (
    "cydas_keep_memory",
    "cydas_augment",
    "cydas_cell_float32",
    "cydas_cell_float64",
    "cydas_projection_float32",
    "cydas_projection_float64",
)
#: Bytes of the SHA-256 at a kept file's end.
SEAL = hashlib.sha256().digest_size


class _Refused(OSError):
    """Somebody else may have put something into the folder."""


def load(name: str, build: Callable[[Path], None]) -> ctypes.CDLL:
    """The library ``name`` of the cache folder, which ``build(file)`` compiles where it is missing or damaged.

    Where the folder cannot be used the library is compiled for this process alone, with a warning. Raises ``OSError``
    for a folder that others may write to, and what ``build`` raises.
    """
    try:
        folder = _folder()
        library = _open_kept(folder / name)
        if library is None:
            content = _built(build, folder)
            write_atomically(folder / name, lambda file: _write_sealed(file, content))
            library = _open(content, folder)
        return library
    except _Refused:
        raise
    except (OSError, RuntimeError, CydasError) as error:  # RuntimeError: there is no home folder
        logger.warning("the native kernels cannot be kept, and are compiled for this process alone: %s", error)
        return _open(_built(build))


def _built(build: Callable[[Path], None], parent: Path | None = None) -> bytes:
    with tempfile.TemporaryDirectory(prefix=".", dir=parent) as folder:
        file = Path(folder) / "cell.so"
        build(file)
        return file.read_bytes()


def _write_sealed(file: Path, content: bytes) -> None:
    file.write_bytes(content + hashlib.sha256(content).digest())
    file.chmod(0o700)


def _open(content: bytes, parent: Path | None = None) -> ctypes.CDLL:
    """The library with this content. Raises ``OSError`` for what is not one, or lacks a function.

    From a file of its own, which is gone afterwards: what was checked is what is run, whatever happens to the kept one,
    and a library that was loaded before under the same name is not taken for it.
    """
    with tempfile.TemporaryDirectory(prefix=".", dir=parent) as folder:
        file = Path(folder) / "cell.so"
        file.write_bytes(content)
        library = ctypes.CDLL(str(file))
    missing = [name for name in FUNCTIONS if not hasattr(library, name)]
    if missing:
        raise OSError(f"the library has no function {missing[0]}")
    return library


def _folder() -> Path:
    """The cache folder, made where it is missing. Raises ``OSError`` where that fails or others may write to it."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = base if base.is_absolute() else Path.home() / ".cache"
    base.mkdir(parents=True, exist_ok=True)
    folder = base / "cydas"
    folder.mkdir(mode=0o700, exist_ok=True)
    problem = _not_ours(folder.stat())
    if problem:
        raise _Refused(f"{problem} {folder}, and what lies there is not run: delete it, or set XDG_CACHE_HOME")
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)
    return folder


def _not_ours(status: os.stat_result) -> str | None:
    """Why a file or folder cannot be trusted, if so: its owner, or others who may write to it."""
    if status.st_uid not in (0, os.geteuid()):
        return f"user {status.st_uid} owns"
    return "other users may write to" if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else None


def _open_kept(path: Path) -> ctypes.CDLL | None:
    """The library at ``path``; None, with a warning where there is a file, for what is not a whole one of our own."""
    try:
        status = path.lstat()
        problem = _not_ours(status) if stat.S_ISREG(status.st_mode) else "no file is"
        if not problem:
            content = path.read_bytes()
            if hashlib.sha256(content[:-SEAL]).digest() == content[-SEAL:]:
                return _open(content[:-SEAL], path.parent)
            problem = "damaged:"
    except FileNotFoundError:
        return None
    except OSError as error:
        problem = f"{error}:"
    logger.warning("%s %s; the native kernels are compiled anew", problem, path)
    return None
