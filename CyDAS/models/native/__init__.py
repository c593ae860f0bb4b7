"""The native CPU kernels: compiled at first use, kept in a cache folder, called through ctypes.

Without a compiler, or with the environment variable ``CYDAS_NATIVE=0``, :func:`library` gives None after one line in
the log, and the cells run as plain PyTorch. ``CXX`` names the compiler (``CXX="ccache g++"``), ``CYDAS_NATIVE_FLAGS``
further flags for it.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

from CyDAS.models.native.cache import load

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")

_LOCK = threading.Lock()  # threads that need the library at once do not all compile it
_record: dict[str, Any] = {}


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none.

    torch must have been imported: the kernels then share its OpenMP library, hence its threads.
    """
    with _LOCK:
        _record.clear()
        if os.environ.get("CYDAS_NATIVE") == "0":
            logger.info("native kernels are switched off (CYDAS_NATIVE=0): plain PyTorch")
            _record.update(used=False, reason="CYDAS_NATIVE=0")
            return None
        try:
            return _library()
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or str(error)
            reason = output.strip()[-300:]
            logger.warning("no native kernels, plain PyTorch instead (slower, same results): %s", reason)
            _record.update(used=False, reason=reason)
            return None


def record() -> dict[str, Any]:
    """Whether there is a library, ``used``; which ``library`` and ``compiler`` it is, or the ``reason`` why not."""
    library()
    return dict(_record)


def _library() -> ctypes.CDLL:
    """The library of this source, these flags and this CPU. Raises what goes wrong with compiler or cache folder."""
    compiler = _compiler()
    flags = [*FLAGS, *shlex.split(os.environ.get("CYDAS_NATIVE_FLAGS", ""))]
    version = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
    sources = b"".join(file.read_bytes() for file in sorted(SOURCE.iterdir()) if file.suffix in (".cpp", ".h"))
    made_from = sources + " ".join([*compiler, version, *flags, _cpu()]).encode()
    name = f"cell-{hashlib.sha256(made_from).hexdigest()[:20]}.so"

    def build(target: Path) -> None:
        logger.info("compiling the native kernels, %s (once)", name)
        command = [*compiler, *flags, str(SOURCE / "cell.cpp"), "-o", str(target)]
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)

    library = load(name, build)
    library.cydas_keep_memory()
    first_line = version.strip().splitlines()[0] if version.strip() else compiler[0]
    _record.update(used=True, library=name.removesuffix(".so"), compiler=first_line)
    return library


def _compiler() -> list[str]:
    """The compiler's command. Raises ``OSError`` where there is none."""
    command = shlex.split(os.environ.get("CXX", ""))
    if command and shutil.which(command[0]) is None:
        raise OSError(f"CXX names a program that is not there: {command[0]}")
    found = command or [path for path in map(shutil.which, ("g++", "c++")) if path][:1]
    if not found:
        raise OSError("there is no C++ compiler (g++ or c++) on the PATH")
    return found


def _cpu() -> str:
    """What -march=native depends on: the machine and, on Linux, its CPU's flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.machine() + platform.processor() + flags
