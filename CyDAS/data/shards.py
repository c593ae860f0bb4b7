"""Images in tar files as WebDataset lays them out, for storage that dislikes millions of small files.

A sample is the members that share a name up to the first dot: ``0001.jpg`` with its class in ``0001.cls``. Members of
an uncompressed tar file lie one after the other, so that any of them can be read at once; order, halves and resume are
those of a folder of images.
"""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from CyDAS.data.contents import IMAGE_EXTENSIONS, NotRead, extension, is_hidden
from CyDAS.data.files import ImageFiles
from CyDAS.utils.errors import CydasError
from CyDAS.utils.present import present

#: No class number has more digits.
LABEL_BYTES = 20


class Sample(NamedTuple):
    """Where an image lies, and its class."""

    shard: Path
    key: str
    offset: int
    size: int
    label: int
    ending: str  #: of the image's name: ``.png``


class ShardedImages(ImageFiles):
    """All samples of the ``*.tar`` files in a folder, in the order of their names.

    ``decode(content, name)`` makes an image of a file's bytes; ``flag`` is the one that names the folder. Raises
    :class:`CydasError` for a shard that is damaged, compressed or there twice, and for samples without an image or a
    class.
    """

    def __init__(self, folder: Path, flag: str, decode: Callable[[bytes, str], Any]):
        super().__init__(folder, flag, decode)
        self.samples = [sample for shard in self._shards(folder) for sample in _samples(shard, self.not_read)]
        if not self.samples:
            raise CydasError(f"{flag} {folder}: its tar files hold no images{self.beside()}")
        labels = sorted({sample.label for sample in self.samples})
        number = {label: index for index, label in enumerate(labels)}
        self.classes = [str(label) for label in labels]
        self.targets = [number[sample.label] for sample in self.samples]

    @property
    def names(self) -> list[str]:
        return [f"{sample.shard.name}/{sample.key} {sample.size}" for sample in self.samples]

    def _shards(self, folder: Path) -> list[Path]:
        shards: list[Path] = []
        targets: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if is_hidden(path.name):
                self.not_read.add("hidden or of the system", path.name)
            elif path.suffix != ".tar":
                self.not_read.add_file(path.name)
            else:
                shards.append(path)
                other = targets.setdefault(os.path.realpath(path), path)
                if other != path:
                    raise CydasError(f"{self.flag}: {other} and {path} are the same file by a link: remove one")
        return shards

    def open(self, index: int) -> BinaryIO:
        return io.BytesIO(read_sample(self.samples[index]))

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


def _samples(shard: Path, not_read: NotRead) -> Iterator[Sample]:
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                key, kind = _key_and_kind(member, shard, not_read)
                if not kind:
                    continue
                if key in (images if kind == "image" else labels):
                    raise CydasError(f"{shard}: sample {key} comes twice")
                if kind == "image":
                    images[key] = member
                else:
                    labels[key] = _label(present(archive.extractfile(member)).read(LABEL_BYTES))
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
        image = images[key]
        yield Sample(shard, key, image.offset_data, image.size, labels[key], extension(image.name))


def _label(content: bytes) -> int:
    """The class number in a ``.cls`` file. Raises ``ValueError`` for anything but digits."""
    text = content.decode("ascii").strip()
    if not text.isdecimal():  # int() takes 1_0 as well
        raise ValueError(f"{text!r} is no class number")
    return int(text)


def _key_and_kind(member: tarfile.TarInfo, shard: Path, not_read: NotRead) -> tuple[str, str]:
    """A member's sample and whether it is its ``image`` or its ``class``; "" for neither, which is noted."""
    folder, name = os.path.split(member.name)
    key, _, end = name.partition(".")
    where = f"{shard.name}/{member.name}"
    if member.isdir():
        return "", ""
    if any(is_hidden(part) for part in member.name.split("/") if part not in ("", ".", "..")):
        not_read.add("hidden or of the system", where)
    elif not member.isfile():
        not_read.add("link(s) or special file(s)", where)
    elif end.lower() == "cls":
        return os.path.join(folder, key), "class"
    elif f".{end.lower()}" in IMAGE_EXTENSIONS:
        return os.path.join(folder, key), "image"
    else:
        not_read.add_file(where)
    return "", ""
