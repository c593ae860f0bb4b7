"""What a data set was found to hold, in words: images of each class, sizes, and what was left out and why."""

from collections import Counter
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

from CyDAS.data.images import formats, hearing
from CyDAS.utils.texts import few

#: Files that are read as images: those whose names end so, in small letters or capitals.
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".avif", ".qoi",
)  # fmt: skip
#: What systems and programs leave beside the data, in small letters; names that begin with a dot are theirs as well.
SYSTEM_NAMES = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "#recycle", "$recycle.bin", "lost+found",
    "system volume information", "__pycache__", "icon\r",
}  # fmt: skip

#: Of more classes than this only the smallest are named.
FEW_CLASSES = 12
#: Images whose size is looked up for the report.
SAMPLE = 16


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one of the system's or hidden, and no data."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def extension(name: str) -> str:
    """The end of a file's name from its last dot on, in small letters; empty where there is none."""
    stem, dot, end = name.rpartition(".")
    return f".{end.lower()}" if stem and dot else ""


class NotRead:
    """What lies in a folder and is not read: how much of each kind, with the first few names."""

    NAMES = 3

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self._names: dict[str, list[str]] = {}
        self._extensions: Counter[str] = Counter()

    def add(self, kind: str, name: str) -> None:
        self.counts[kind] += 1
        names = self._names.setdefault(kind, [])
        if len(names) < self.NAMES:
            names.append(name)

    def add_file(self, name: str) -> None:
        """A file that is no image by its name."""
        self._extensions[extension(name)] += 1
        self.add("file(s) of other kinds", name)

    def lines(self, where: object) -> list[str]:
        """One line for each kind."""
        lines = []
        for kind, count in self.counts.items():
            detail = ", ".join(self._names[kind]) + (", ..." if count > self.NAMES else "")
            if kind == "file(s) of other kinds":
                ends = [f"{number} {end or 'without extension'}" for end, number in self._extensions.most_common()]
                detail = f"{few(ends)}: {detail}"
            lines.append(f"not read in {where}: {count} {kind} ({detail})")
        return lines


def describe_classes(counts: dict[str, int]) -> str:
    """How many images there are of each class: all of a few, else the range and the smallest."""
    if len(counts) <= FEW_CLASSES:
        return ", ".join(f"{name} {count}" for name, count in counts.items())
    smallest = ", ".join(f"{name} {counts[name]}" for name in sorted(counts, key=counts.__getitem__)[:5])
    values = list(counts.values())
    return f"{min(values)} to {max(values)} images each, median {np.median(values):g}; the smallest: {smallest}"


def describe_sizes(length: int, open_image: Callable[[int], BinaryIO]) -> str:
    """The sizes (width x height) of a sample of images, evenly spread, from the headers of their files.

    Those that cannot be read are passed over: they are named when their turn comes.
    """
    sizes = []
    for index in np.linspace(0, length - 1, min(length, SAMPLE)).round().astype(int):
        try:
            with hearing(), open_image(int(index)) as file, Image.open(file, formats=formats()) as image:
                sizes.append(image.size)
        except Exception:  # noqa: BLE001  damaged files make Pillow raise anything
            continue
    if not sizes:
        return f"no size can be read of a sample of {min(length, SAMPLE)} images"
    small, large = (f"{w} x {h}" for w, h in (min(sizes, key=_area), max(sizes, key=_area)))
    return f"sizes of a sample of {len(sizes)}: {small}" + (f" to {large}" if len(set(sizes)) > 1 else "") + " pixels"


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
