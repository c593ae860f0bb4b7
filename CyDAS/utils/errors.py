"""Errors meant for the person at the terminal."""

import sys
from collections.abc import Callable


class CydasError(Exception):
    """Something the user can put right. Programs show it as one line and exit with code 2."""


def run_program(main: Callable[[list[str] | None], None]) -> None:
    """Run ``main`` as a command line program: a :class:`CydasError` becomes one line on stderr, exit code 2."""
    try:
        main(None)
    except CydasError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
