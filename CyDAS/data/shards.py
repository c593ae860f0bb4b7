"""Images in tar files as WebDataset lays them out, for storage that dislikes millions of small files.

A sample is the members that share a name up to the first dot: ``0001.jpg`` with its class in ``0001.cls``. Members of
an uncompressed tar file lie one after the other, so that any of them can be read at once; order, halves and resume are
those of a folder of images.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import Dataset

from CyDAS.utils.errors import CydasError

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm")
#: No class number has more digits.
LABEL_BYTES = 20


class Sample(NamedTuple):
    """Where an image lies, and its class."""

    shard: Path
    key: str
    offset: int
    size: int
    label: int
    kind: str  #: of the image, as its name ends: ``png``


class ShardedImages(Dataset):
    """All samples of the ``*.tar`` files in a folder, in the order of their names.

    ``decode(content, name)`` makes an image of a file's bytes. Raises :class:`CydasError` for a shard that is damaged
    or compressed, and for samples without an image or a class.
    """

    def __init__(self, folder: Path, decode: Callable[[bytes, str], Any]):
        self.root = str(folder)
        self.samples = [sample for shard in sorted(folder.glob("*.tar")) for sample in _samples(shard)]
        if not self.samples:
            raise CydasError(f"{folder}: its tar files hold no images")
        labels = sorted({sample.label for sample in self.samples})
        number = {label: index for index, label in enumerate(labels)}
        self.classes = [str(label) for label in labels]
        self.targets = [number[sample.label] for sample in self.samples]
        self._decode = decode

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        sample = self.samples[index]
        return self._decode(read_sample(sample), f"{sample.key} in {sample.shard}"), self.targets[index]


def read_sample(sample: Sample, size: int | None = None) -> bytes:
    """An image's first ``size`` bytes, or all. Raises :class:`CydasError` where its shard cannot be read."""
    try:
        with open(sample.shard, "rb") as file:  # there may be more shards than a process may keep open
            file.seek(sample.offset)
            return file.read(sample.size if size is None else min(size, sample.size))
    except OSError as error:
        raise CydasError(f"cannot read {sample.shard}: {error.strerror}") from None


def _samples(shard: Path) -> Iterator[Sample]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    kinds: dict[str, str] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, _, kind = os.path.basename(member.name).partition(".")
                key, kind = os.path.join(os.path.dirname(member.name), key), kind.lower()
                if member.isfile() and key in (images if kind in IMAGES else labels if kind == "cls" else ()):
                    raise CydasError(f"{shard}: sample {key} comes twice")
                if member.isfile() and kind in IMAGES:
                    images[key], kinds[key] = member, kind
                elif member.isfile() and kind == "cls":
                    labels[key] = int(archive.extractfile(member).read(LABEL_BYTES))
            with open(shard, "rb") as file:  # tarfile takes a cut or damaged header for the end
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError(f"it ends, or is damaged, at byte {archive.offset}")
    except (tarfile.TarError, OSError, ValueError) as error:
        raise CydasError(f"{shard} is no uncompressed tar file of images and classes: {error}") from None
    if images.keys() != labels.keys():
        odd = min(images.keys() ^ labels.keys())
        raise CydasError(f"{shard}: sample {odd} has {'no class' if odd in images else 'a class, but no image'}")
    for key in sorted(images):
        yield Sample(shard, key, images[key].offset_data, images[key].size, labels[key], kinds[key])
