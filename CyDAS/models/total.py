"""A sum as formulas have it, of tensors alone."""

from collections.abc import Iterable

from torch import Tensor


def total(parts: Iterable[Tensor]) -> Tensor:
    """The sum of tensors, of which there is at least one: the sum of none would have no shape.

    Each is made when it is added, so that no more than one lies in memory beside the sum.
    """
    left = iter(parts)
    return sum(left, next(left))
