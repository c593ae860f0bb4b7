"""How images are taken apart: into training and test images, and into the two halves of a search."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from CyDAS.utils.texts import few

#: A class is rare in a half where its share is so many times smaller than in the whole.
RARE = 10


def test_split(names: Sequence[str], labels: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """The indices of (training, test) images: of each class with two or more, that share for tests, one at least.

    Which ones follows from their names and the seed: more images leave the others about where they were.
    """
    digests = [hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest() for name in names]
    test: set[int] = set()
    for label in set(labels):
        own = sorted((index for index, each in enumerate(labels) if each == label), key=digests.__getitem__)
        count = min(len(own) - 1, max(1, round(share * len(own))))
        test |= set(own[:count])
    return [index for index in range(len(names)) if index not in test], sorted(test)


def halves(labels: Tensor, split: str, seed: int = 0) -> tuple[Sequence[int], Sequence[int]]:
    """The search's (train, val), as indices into ``labels``, int64 [N].

    ``split``: ``index``, the first half and the second as they are stored, as published; ``class``, every class in
    two; ``random``, by the seed.
    """
    middle = len(labels) // 2
    if split == "index":
        return range(middle), range(middle, len(labels))
    if split == "class":
        order = torch.argsort(labels, stable=True)
        train, val = order[::2], order[1::2]
    else:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
        train, val = order[:middle], order[middle:]
    return train.sort().values.tolist(), val.sort().values.tolist()


def what_halves_lack(labels: Tensor, parts: tuple[Sequence[int], Sequence[int]], classes: Sequence[str]) -> list[str]:
    """Warnings for classes that a half lacks, or has less than a tenth of their share of, and what mends it.

    ``labels``: int64 [N], of all training images; ``parts``: indices of (train, val); ``classes``: all names.
    """
    counts = torch.bincount(labels, minlength=len(classes))
    in_parts = [torch.bincount(labels[list(part)], minlength=len(classes)) for part in parts]
    mendable, hopeless = [], []
    for name, part, found in zip(("train", "val"), parts, in_parts, strict=True):
        rare = (RARE * found * len(labels) < counts * len(part)).nonzero().flatten().tolist()
        alone = [classes[index] for index in rare if counts[index] == 1]
        others = [f"{classes[index]} ({found[index]} of {counts[index]})" for index in rare if counts[index] > 1]
        mendable += [f"{name} has too few images of {few(others)}"] if others else []
        hopeless += [f"{few(alone)} (not in {name})"] if alone else []
    lines = []
    if mendable:
        lacks, mend = "; ".join(mendable), "--split class cuts every class in two"
        common = int(torch.stack(in_parts).bool().all(dim=0).sum())
        if 2 * common < len(classes):
            lines.append(f"train and val have only {common} of {len(classes)} classes in common: {mend}; {lacks}")
        else:
            lines.append(f"{lacks}: {mend}")
    if hopeless:
        lines.append(
            f"a single image cannot be in both halves, whatever --split: {'; '.join(hopeless)}; add images or leave "
            "the class out"
        )
    return lines
