"""Images with their masks, one by one: read, checked against each other, and looked through before a training."""

from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from CyDAS.data.images import Picture, decode, read_bytes
from CyDAS.data.mask_layouts import Pair
from CyDAS.data.masks import VOID, Ids, read_mask, size_of
from CyDAS.data.workers import leave_signals_to_the_program, read
from CyDAS.utils.distributed import Process, alike, gather
from CyDAS.utils.errors import CydasError


class MaskedImages(Dataset):
    """The images of a part with their masks: ``dataset[index]`` is ((picture, classes), None)."""

    def __init__(self, root: str, pairs: Sequence[Pair], ids: Ids):
        self.root = root
        self.pairs = pairs
        self.ids = ids
        self.counts: np.ndarray | None = None  #: pixels of every class, and void, once all masks have been looked at

    @property
    def samples(self) -> list[tuple[str, str]]:
        """(path of the image, path of the mask) of all."""
        return [(pair.image, pair.mask) for pair in self.pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def open(self, index: int) -> BinaryIO:
        return open(self.pairs[index].image, "rb")

    def __getitem__(self, index: int) -> tuple[tuple[Picture, np.ndarray], None]:
        pair = self.pairs[index]
        picture = decode(read_bytes(pair.image), pair.image)
        pixels = picture.pixels
        height, width = pixels.shape[1:] if isinstance(pixels, Tensor) else pixels.size[::-1]
        return (picture, self._classes(pair, (height, width))), None

    def _classes(self, pair: Pair, size: tuple[int, int] | None) -> np.ndarray:
        """``size``: the image's, if it is known."""
        classes = self.ids.classes_in(read_mask(pair.mask), pair.mask)
        if size and classes.shape != size:
            raise CydasError(
                f"the mask {pair.mask} has {classes.shape[1]} x {classes.shape[0]} pixels, its image {pair.image} has "
                f"{size[1]} x {size[0]}"
            )
        return classes

    def count(self, index: int) -> np.ndarray:
        """int64 [256], how many pixels of each class a mask has. Raises :class:`CydasError` for one that is no mask of
        its image; whether the image is damaged is asked when its turn comes.
        """
        pair = self.pairs[index]
        try:
            size = size_of(pair.image)
        except CydasError:
            size = None
        return np.bincount(self._classes(pair, size).ravel(), minlength=VOID + 1)


class _Counts(Dataset):
    """What :meth:`MaskedImages.count` says of each mask, or why it says nothing."""

    def __init__(self, images: MaskedImages):
        self.images = images

    def __getitem__(self, index: int) -> np.ndarray | str:
        try:
            return self.images.count(index)
        except CydasError as error:  # raised in a worker it would arrive wrapped in a stack trace
            return str(error)


def count_all(images: MaskedImages, workers: int, process: Process) -> np.ndarray:
    """Every mask's pixels of every class, int64 [images, 256]; each process looks at its share of the masks.

    Raises :class:`CydasError`, the same in all processes, for the first mask that is none; each must call it.
    """
    own = range(process.rank, len(images), process.world_size)
    loader = DataLoader(
        _Counts(images), batch_size=None, sampler=own, num_workers=workers, generator=torch.Generator(),
        worker_init_fn=leave_signals_to_the_program,
    )  # fmt: skip
    counts = []
    with alike():
        for count in read(loader):
            if isinstance(count, str):
                raise CydasError(count)
            counts.append(count.tolist())
    total = np.zeros((len(images), VOID + 1), dtype=np.int64)
    for rank, share in enumerate(gather(counts)):
        if share:
            total[rank :: process.world_size] = share
    return total
