"""Errors meant for the person at the terminal."""

import sys
from collections.abc import Callable

from CyDAS.utils.texts import say


class CydasError(Exception):
    """Something the user can put right. Programs show it as one line and exit with code 2."""


class Stopped(Exception):
    """A run that a signal ended after it had saved. Programs show the message and exit with 128 + the signal."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.signal = signal


def run_program(main: Callable[[list[str] | None], None]) -> None:
    """Run ``main`` as a command line program: a :class:`CydasError` becomes one line on stderr, exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a character that a terminal lacks is no reason to end
    try:
        main(None)
    except CydasError as error:
        say(f"error: {error}", sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        if str(stop):  # the main process speaks for all
            say(stop, sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
