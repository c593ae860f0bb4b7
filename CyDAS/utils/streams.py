"""Standard output and error of a program: readers that go away, full disks, names that are not valid text."""

import errno
import io
import os
import sys

#: What the shell gives for a program that SIGPIPE ended.
BROKEN_PIPE = 141


class _Lasting(io.FileIO):
    """A file descriptor for a program that must go on: once it cannot be written, what is written there is dropped."""

    _works = True

    def write(self, data) -> int:
        if self._works:
            try:
                return super().write(data)
            except OSError:
                self._works = False
        return memoryview(data).nbytes


def prepare_streams(lasting: bool) -> None:
    """Give the program both streams, and let them take any text, escaped where need be.

    ``lasting``: writing to them never fails, whatever becomes of the terminal, the pipe or the disk behind them.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the program
            stream = open(os.devnull, "w")
        elif lasting and (descriptor := _descriptor(stream)) is not None:
            stream.flush()
            buffer = io.BufferedWriter(_Lasting(descriptor, "w", closefd=False))
            stream = io.TextIOWrapper(buffer, stream.encoding, line_buffering=stream.line_buffering)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, stream)


def _descriptor(stream) -> int | None:
    try:
        return stream.fileno()
    except (OSError, AttributeError, ValueError):
        return None


def flush_output() -> OSError | None:
    """Write out what is left in standard output; why it cannot be, where it cannot.

    A buffer keeps what could not be written: asked again, it gives the same reason. Python would ask it when the
    program ends, so that it is given up here.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _give_up(sys.stdout)
        return error
    return None


def _give_up(stream) -> None:
    descriptor = _descriptor(stream)
    if descriptor is not None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, descriptor)
        os.close(nothing)


def is_broken_pipe(error: OSError) -> bool:
    return error.errno in (errno.EPIPE, errno.ESHUTDOWN)


def say(text: object) -> None:
    """One line on standard error, control characters escaped; nothing where nobody can read it."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(text))
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _give_up(sys.stderr)
