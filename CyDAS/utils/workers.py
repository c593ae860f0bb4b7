"""What happens to the processes that read images, in the words of the person at the terminal."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from CyDAS.utils.errors import CydasError

#: PyTorch notices a dead worker when it waits for it, or at any other moment, by a signal.
_DEAD = re.compile(r"DataLoader worker|Pin memory thread")
_HELP = (
    "where a worker was killed, memory may be short: fewer --workers, or --workers 0, which reads in the program itself"
)


@contextmanager
def worker_errors_told(any_error: bool = False) -> Iterator[None]:
    """Raises :class:`CydasError` where a worker process has ended; ``any_error``: nothing but workers is at work."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        if not (any_error or _DEAD.search(str(error))):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # an error from within a worker comes with its stack trace, and ends with what it was
        trace = "Traceback" in str(error)
        said = lines[-1 if trace else 0] if lines else type(error).__name__
        raise CydasError(f"reading images: {said}" + ("" if trace else f" ({_HELP})")) from None
