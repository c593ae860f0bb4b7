"""Errors meant for the person at the terminal."""

import sys
from collections.abc import Callable


class CydasError(Exception):
    """Something the user can put right. Programs show it as one line and exit with code 2."""


class GenotypeError(ValueError):
    """An architecture that cannot be read; the message says which place of it is wrong."""


class Stopped(Exception):
    """A run that a signal ended after it had saved. Programs show the message and exit with 128 + the signal."""

    def __init__(self, signal: int, message: str):
        super().__init__(message)
        self.signal = signal


def run_program(main: Callable[[list[str] | None], None]) -> None:
    """Run ``main`` as a command line program: a :class:`CydasError` becomes one line on stderr, exit code 2."""
    try:
        main(None)
    except CydasError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stop:
        if str(stop):  # the main process speaks for all
            print(stop, file=sys.stderr)
        sys.exit(128 + stop.signal)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
