"""Errors meant for the person at the terminal."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from CyDAS.utils.streams import BROKEN_PIPE, complain, is_broken_pipe, output_problem, own_streams


class CydasError(Exception):
    """Something the user can put right. Programs show it as one line and exit with code 2."""


class GenotypeError(ValueError):
    """An architecture that cannot be read; the message says which place of it is wrong."""


class Stopped(Exception):
    """A run that a signal ended after it had saved. Programs show the message and exit with 128 + the signal."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.signal = signal


@contextmanager
def stopping(message: str) -> Iterator[None]:
    """SIGTERM and Ctrl-C in here, which nobody else listens for, raise :class:`Stopped` with ``message``."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number, f"stopped by {signal.Signals(number).name}: {message}")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        stop(signal.SIGINT, None)
    finally:
        signal.signal(signal.SIGTERM, before)


def run_program(main: Callable[[list[str] | None], None], lasting: bool = False) -> None:
    """Run ``main`` as a command line program: a :class:`CydasError` becomes one line on stderr, exit code 2.

    A reader of its output that goes away (``| head``) ends it without a word, with the shell's code for that.
    ``lasting``: a program whose output can also be read elsewhere goes on, whatever becomes of its terminal.
    """
    with own_streams(lasting):
        try:
            code = _code_of(main)
        except OSError:
            problem = output_problem()
            if problem is None:  # it is of something else
                raise
            code = 0
        else:
            problem = output_problem()
        if problem is not None and code == 0:
            code = BROKEN_PIPE
            if not is_broken_pipe(problem):
                complain(f"error: cannot write the output: {problem.strerror or problem}")
                code = 2
    if code:
        sys.exit(code)


def _code_of(main: Callable[[list[str] | None], None]) -> int:
    """Run ``main`` and say why it ended. Returns the program's exit code."""
    try:
        main(None)
    except CydasError as error:
        complain(f"error: {error}")
        return 2
    except Stopped as stop:
        if str(stop):  # the main process speaks for all
            complain(stop)
        return 128 + stop.signal
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except SystemExit as end:  # of argparse above all
        if end.code is not None and not isinstance(end.code, int):
            complain(end.code)
            return 1
        return end.code or 0
    return 0
