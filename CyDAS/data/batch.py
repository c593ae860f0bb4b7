"""A batch is (images, targets), each a tensor or a list with an entry for each image: counting it, cutting it up."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def images_in(batch: Sequence[Any]) -> int:
    """How many images a batch has."""
    return len(batch[0])


def split(batch: Sequence[Any], parts: int) -> list[tuple[Any, ...]]:
    """The batch in so many parts, one after the other, of as equal a size as can be."""
    return list(zip(*(_split(entries, parts) for entries in batch), strict=True))


def _split(entries: Any, parts: int) -> Sequence[Any]:
    if isinstance(entries, Tensor):
        return entries.tensor_split(parts)
    return [[entries[i] for i in places.tolist()] for places in torch.arange(len(entries)).tensor_split(parts)]
