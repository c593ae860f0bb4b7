"""The processes that read images: which signals they hear, and what the user hears of their death."""

import atexit
import multiprocessing
import multiprocessing.util  # whose own end, registered before ours, comes after it
import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from CyDAS.utils.errors import CydasError

_HELP = "if it was killed, memory may be short: try fewer --workers, or --workers 0, which reads in the program itself"


def leave_signals_to_the_program(worker: int) -> None:
    """A Ctrl-C reaches the workers, too; the program wants to finish its step with them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """When Python exits it tells its daemons to end by SIGTERM and waits for them; such workers would never end."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


def read(loader: DataLoader) -> Iterator[Any]:
    """What the loader's workers give. Raises :class:`CydasError`, here and nowhere else, where one has ended."""
    try:
        yield from _start(loader)
    except (RuntimeError, OSError, EOFError, MemoryError) as error:  # a broken pipe, or no memory to start them, say
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # an error from within a worker comes with its stack trace, and ends with what it was
        said = lines[-1 if "Traceback" in str(error) else 0] if lines else type(error).__name__
        raise CydasError(f"a process that reads images has ended or cannot go on ({said}): {_HELP}") from None


def _start(loader: DataLoader) -> Iterator[Any]:
    """The loader's workers, started where they are not.

    PyTorch would raise their death at whatever the program does at that moment, between two messages to another
    process, say. Without its handler the death is noticed when their work is waited for.
    """
    before = signal.getsignal(signal.SIGCHLD)
    iterator = iter(loader)
    if signal.getsignal(signal.SIGCHLD) is not before:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if before is None else before)
    return iterator
