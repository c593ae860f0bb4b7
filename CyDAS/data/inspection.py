"""What there is in a folder of images, looked at one by one: for people, before a search or a training takes hours."""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from CyDAS.data.files import ImageFiles
from CyDAS.data.folders import PARTS, TEST_FLAG, TRAIN_FLAG, open_folder
from CyDAS.data.images import Picture, decode
from CyDAS.utils.errors import CydasError

#: Images of a class on the contact sheet, classes on it, pixels of an image there.
ACROSS, DOWN, PIXELS = 8, 20, 72
#: Sizes and kinds that are named.
SHOWN = 5


@dataclass
class Part:
    """The images of one part, and what was found in them."""

    title: str
    files: ImageFiles
    counts: dict[str, int] = field(default_factory=dict)  #: images of each class
    kinds: Counter = field(default_factory=Counter)  #: "JPEG RGB" and the like, as the files say
    sizes: Counter = field(default_factory=Counter)  #: (width, height)
    broken: list[str] = field(default_factory=list)  #: what is wrong with which file
    digests: dict[str, list[str]] = field(default_factory=dict)  #: of pixels: the names of the images that have them
    mean: Sequence[float] = ()  #: of red, green, blue, as shares of white
    std: Sequence[float] = ()
    samples: dict[str, list[Image.Image]] = field(default_factory=dict)  #: of each class, small

    def lines(self) -> list[str]:
        """In words."""
        many = [names for names in self.digests.values() if len(names) > 1]
        found = [
            f"{self.title}: {sum(self.counts.values())} images of {len(self.counts)} classes in {self.files.root}",
            "sizes: " + _most(self.sizes, lambda size: f"{size[0]} x {size[1]}"),
            "kinds: " + _most(self.kinds, str),
            f"mean {_numbers(self.mean)}, standard deviation {_numbers(self.std)} of red, green, blue (white is 1)",
            *self.files.not_read.lines(self.files.root),
        ]
        rare = [name for name, count in self.counts.items() if count < 2]
        if rare:
            found.append(f"classes with a single image or none: {', '.join(rare[:8])}")
        if many:
            found.append(f"{len(many)} images are there more than once, first: {' = '.join(many[0][:3])}")
        return found + [f"damaged: {text}" for text in self.broken]


def inspect(folder: Path, test: Path | None = None) -> list[Part]:
    """Look at all images of a folder of classes, or of a folder with its parts (``train``, ``val``, ...).

    Raises :class:`CydasError` where there are none, or the folder is no data set.
    """
    places = parts_of(folder) if test is None else [("training images", folder, TRAIN_FLAG)]
    if test is not None:
        places.append(("test images", test, TEST_FLAG))
    return [_look(Part(title, open_folder(path, flag, decode))) for title, path, flag in places]


def parts_of(folder: Path) -> list[tuple[str, Path, str]]:
    """(title, folder, flag) of each part."""
    found = []
    for flag, title in ((TRAIN_FLAG, "training images"), (TEST_FLAG, "test images")):
        found += [(title, folder / name, flag) for name in PARTS[flag] if (folder / name).is_dir()][:1]
    return found if len(found) == 2 else [("images", folder, TRAIN_FLAG)]


def in_both(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """Images of the first part that are in the second, too, to the last pixel: their names here and there."""
    if len(parts) < 2:
        return []
    first, second = (part.digests for part in parts)
    return [(first[digest][0], second[digest][0]) for digest in first.keys() & second.keys()]


def _look(part: Part) -> Part:
    names = list(part.files.names)
    sums, squares, pixels = np.zeros(3), np.zeros(3), 0
    part.counts = dict.fromkeys(part.files.classes, 0)
    for index, name in enumerate(names):
        label = part.files.classes[part.files.targets[index]]
        try:
            picture, _ = part.files[index]
            image = _as_rgb(picture)
        except CydasError as error:
            part.broken.append(str(error))
            continue
        part.counts[label] += 1
        part.sizes[image.size] += 1
        part.kinds[_kind(part.files, index)] += 1
        array = np.asarray(image, dtype=np.float64).reshape(-1, 3) / 255
        sums, squares, pixels = sums + array.sum(0), squares + (array**2).sum(0), pixels + len(array)
        digest = hashlib.sha256(str(image.size).encode() + image.tobytes()).hexdigest()
        part.digests.setdefault(digest, []).append(name)
        shown = part.samples.setdefault(label, [])
        if len(shown) < ACROSS:
            shown.append(ImageOps.fit(image, (PIXELS, PIXELS)))
    if pixels:
        part.mean = (sums / pixels).tolist()
        part.std = np.sqrt(np.maximum(squares / pixels - (sums / pixels) ** 2, 0)).tolist()
    return part


def _kind(files: ImageFiles, index: int) -> str:
    with files.open(index) as file, Image.open(file) as image:
        return f"{image.format} {image.mode}"


def _as_rgb(picture: Picture) -> Image.Image:
    """Deep pictures lose their finer levels: this is for looking at them."""
    if isinstance(picture.pixels, Image.Image):
        return picture.pixels.convert("RGB")
    numbers = picture.pixels.numpy()
    low, high = float(numbers.min()), float(numbers.max())
    scaled = (255 * (numbers - low) / max(high - low, 1e-12)).round().astype(np.uint8)
    return Image.fromarray(np.broadcast_to(scaled, (3, *scaled.shape[1:])).transpose(1, 2, 0).copy())


def contact_sheet(part: Part) -> bytes:
    """A row of a few images for each of the first classes, as a PNG file's bytes."""
    rows = list(part.samples.values())[:DOWN]
    step = PIXELS + 4
    sheet = Image.new("RGB", (ACROSS * step, max(1, len(rows)) * step), "white")
    for row, images in enumerate(rows):
        for column, image in enumerate(images):
            sheet.paste(image, (column * step + 2, row * step + 2))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _most(counts: Counter, name: Callable[[Any], str]) -> str:
    """The most frequent ones, with how many there are of each."""
    shown = [f"{name(key)} {count}" for key, count in counts.most_common(SHOWN)]
    return ", ".join(shown) + (f", {len(counts) - SHOWN} more" if len(counts) > SHOWN else "")


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
