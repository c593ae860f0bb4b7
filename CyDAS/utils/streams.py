"""Standard output and error of a program: readers that go away, full disks, names that are not valid text."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from CyDAS.utils.texts import say

#: What the shell gives for a program that SIGPIPE ended.
BROKEN_PIPE = 141


class _Watched(io.FileIO):
    """A file descriptor that remembers why it could not be written.

    ``lasting``: that is no error then, and what is written there from then on is dropped.
    """

    problem: OSError | None = None

    def __init__(self, descriptor: int, lasting: bool):
        super().__init__(descriptor, "w", closefd=False)
        self.lasting = lasting

    def write(self, data) -> int:
        if self.problem is None:
            try:
                return super().write(data)
            except OSError as error:
                self.problem = error
                if not self.lasting:
                    raise
        return memoryview(data).nbytes


@contextmanager
def own_streams(lasting: bool) -> Iterator[None]:
    """Standard output and error that exist, take any text, escaped where need be, and are watched.

    ``lasting``: writing to them never fails, whatever becomes of the terminal, the pipe or the disk behind them.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_own(stream, lasting) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _own(stream, lasting: bool):
    if stream is None:  # closed by whoever started the program
        return open(os.devnull, "w")
    try:
        stream.flush()
        raw = _Watched(stream.fileno(), lasting)
    except (OSError, AttributeError, ValueError):  # no file of the system: a test's, a notebook's
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return stream
    at_once = stream.line_buffering or stream.write_through
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "backslashreplace", line_buffering=at_once)


def output_problem() -> OSError | None:
    """Write out what is left in standard output; why this, or something before it, could not be written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.problem if isinstance(raw, _Watched) and not raw.lasting else None


def is_broken_pipe(error: OSError) -> bool:
    return error.errno in (errno.EPIPE, errno.ESHUTDOWN)


def complain(text: object) -> None:
    """One line on standard error; nothing where nobody can read it."""
    try:
        say(text, sys.stderr)
    except OSError:
        pass
