"""The native CPU kernels: compiled at first use, kept in a cache folder, called through ctypes.

Without a compiler, or with the environment variable ``CYDAS_NATIVE=0``, :func:`library` gives None after one line in
the log, and the cells run as plain PyTorch.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

logger = logging.getLogger(__name__)

SOURCE = Path(__file__).parent
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fopenmp", "-shared", "-fPIC")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None where there are none.

    torch must have been imported: the kernels then share its OpenMP library, hence its threads.
    """
    if os.environ.get("CYDAS_NATIVE") == "0":
        logger.info("native kernels are switched off (CYDAS_NATIVE=0): plain PyTorch")
        return None
    try:
        library = ctypes.CDLL(str(_build()))
        library.cydas_keep_memory()
        return library
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: there is no home folder
        output = getattr(error, "stderr", None) or str(error)
        logger.warning("no native kernels, plain PyTorch instead (slower, same results): %s", output.strip()[-300:])
        return None


def _build() -> Path:
    """The shared library's file, compiled if this source has not yet been compiled for this CPU."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        raise OSError("there is no C++ compiler (g++ or c++) on the PATH")
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    sources = b"".join(file.read_bytes() for file in sorted(SOURCE.iterdir()) if file.suffix in (".cpp", ".h"))
    key = hashlib.sha256(sources + " ".join([version, *FLAGS, _cpu()]).encode()).hexdigest()[:20]
    target = _cache_folder() / f"cell-{key}.so"
    if not target.exists():
        logger.info("compiling the native kernels into %s (once)", target)
        # each process compiles a file of its own, and the last to finish replaces an equal one
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            built = Path(folder) / target.name
            command = [compiler, *FLAGS, str(SOURCE / "cell.cpp"), "-o", str(built)]
            subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
            os.replace(built, target)
    return target


def _cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cydas"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cpu() -> str:
    """What -march=native depends on: the machine and, on Linux, its CPU's flags."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return platform.machine() + platform.processor() + flags
