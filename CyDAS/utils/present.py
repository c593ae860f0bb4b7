"""What may be missing in general, and is there by now."""

from typing import TypeVar

T = TypeVar("T")


def present(value: T | None) -> T:
    """``value``, where what has gone before has put one: a flag that ``fill_in`` sets, a part that was asked for."""
    assert value is not None
    return value
