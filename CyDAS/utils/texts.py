"""Text for people: names of files are bytes that somebody else chose, and not every terminal takes every character."""

import logging
import sys
from collections.abc import Sequence
from typing import TextIO


def printable(text: object) -> str:
    """``text`` on one line, with what cannot be shown or would act on a terminal escaped as Python writes it.

    Bytes of a file name that are no text come out as they are in the file's name, ``\\xff``.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(text))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # where Python keeps a byte that is no text
        return f"\\x{ord(character) - 0xDC00:02x}"
    return ascii(character)[1:-1]


class OneLine(logging.Formatter):
    """Whatever names a message of the log holds, it stays one line of characters that can be shown."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def say(text: object, file: TextIO | None = None) -> None:
    """Print one line to ``file`` (default: stdout); characters that its encoding lacks are escaped."""
    file = file or sys.stdout
    print(fitting(printable(text), file), file=file, flush=True)


def fitting(text: str, file: TextIO) -> str:
    """``text`` without characters that the encoding of ``file`` lacks: they are escaped."""
    encoding = getattr(file, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def few(names: Sequence[str], most: int = 5) -> str:
    """The first of the names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
