"""A sum as formulas have it, of tensors alone."""

from collections.abc import Iterable

from torch import Tensor


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors, added one after the other. There is at least one: the sum of none would have no shape."""
    first, *others = parts
    return sum(others, first)
