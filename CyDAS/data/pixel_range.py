"""Which numbers are black and white in images of more than 8 bits: one rule for a whole data set.

Images of up to 8 bits go from 0 to 255, and a file that says its own range has that. For the others the range is
``--pixel_range``, else the one that a checkpoint was trained with, else the narrowest usual one that holds all numbers
of the training images. What lies beyond it is clipped, as in an overexposed photograph.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import Tensor

from CyDAS.data.images import Picture, decode, peek, read_bytes
from CyDAS.data.shards import Sample, read_sample
from CyDAS.utils.errors import CydasError

Range = tuple[float, float]

#: White of whole numbers, of 8, 10, 12, 14 and 16 bits, and of floating-point numbers.
WHOLE, FLOATS = (255.0, 1023.0, 4095.0, 16383.0, 65535.0), (1.0, 255.0)
FULL_16_BITS = (0.0, WHOLE[-1])
#: How the names of files end that may be deep; others are not looked into.
ENDINGS = (".png", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".pfm")
PNG, PNG_HEADER = b"\x89PNG\r\n\x1a\n", 26  #: the header's bytes as far as the bit depth
ASK = "say which numbers are black and white with --pixel_range LOW HIGH"


@dataclass(frozen=True)
class ToUnit:
    """From a picture to an RGB image of 8 bits or float32 [3, H, W] in 0 to 1. Raises ``ValueError`` for no range."""

    pixel_range: Range | None

    def __call__(self, picture: Picture) -> Image.Image | Tensor:
        if isinstance(picture.pixels, Image.Image):
            return picture.pixels
        known = picture.depth.own_range or self.pixel_range
        if not known and picture.depth.kind != "16-bit":
            raise ValueError(f"no training image says the range of its numbers: {ASK}")
        low, high = known or FULL_16_BITS
        return ((picture.pixels - low) / (high - low)).clamp(0, 1).expand(3, -1, -1)


class DeepFile(NamedTuple):
    """An image of more than 8 bits that does not say its range."""

    name: str
    content: bytes
    kind: str

    def extremes(self) -> Range:
        """Its smallest and its largest number. Raises :class:`CydasError` where it is damaged."""
        pixels = decode(self.content, self.name).pixels
        assert isinstance(pixels, Tensor)  # as those of more than 8 bits are
        return float(pixels.min()), float(pixels.max())


def deep_files(images: Any) -> Iterator[DeepFile]:
    """Those of a part of a data set (class folders or shards); what is damaged is passed over, to be counted later."""
    for sample in images.samples:
        if isinstance(sample, Sample):
            name, ending, read = f"{sample.key} in {sample.shard}", sample.ending, partial(read_sample, sample)
        else:
            name, ending, read = sample[0], Path(sample[0]).suffix.lower(), partial(read_bytes, sample[0])
        if ending not in ENDINGS:
            continue
        try:
            head = read(size=PNG_HEADER)
            if head.startswith(PNG) and head[PNG_HEADER - 2 : PNG_HEADER - 1] <= b"\x08":
                continue
            content = read()
            depth = peek(content, name)
        except CydasError:
            continue
        if depth.kind != "8-bit" and not depth.own_range:
            yield DeepFile(name, content, depth.kind)


def choose_range(given: list[float] | None, recorded: Any, training: Any | None) -> tuple[Range | None, list[str]]:
    """The range of a data set's deep images and, in lines for the log, how it came about; None where nothing says.

    ``given``: ``--pixel_range``; ``recorded``: the range that a checkpoint was trained with; ``training``: the training
    part, which is looked through only if both are None. Raises :class:`CydasError` where the numbers in it fit no usual
    range.
    """
    if given or recorded:
        low, high = _checked(given, "--pixel_range") if given else _checked(recorded, "the checkpoint's pixel_range")
        if given and training and next(deep_files(training), None) is None:
            return (low, high), ["--pixel_range has no effect on the training images: none needs it"]
        source = "--pixel_range says" if given else "the training had it"
        return (low, high), [f"images of more than 8 bits are read from {low:g} to {high:g}, as {source}"]
    return _range_of(training) if training else (None, [])


def _checked(values: Any, name: str) -> Range:
    is_pair = isinstance(values, list | tuple) and len(values) == 2 and all(isinstance(v, int | float) for v in values)
    if not is_pair or not all(map(math.isfinite, values)) or not values[0] < values[1]:
        raise CydasError(f"{name} is a pair of numbers, for black and for white, the first below the second: {values}")
    return float(values[0]), float(values[1])


def _range_of(training: Any) -> tuple[Range | None, list[str]]:
    """The narrowest usual range that holds all numbers of the training images."""
    seen: dict[tuple[float, ...], Range] = {}  # extremes of whole and of floating-point numbers
    count = 0
    for file in deep_files(training):
        count += 1
        usual = FLOATS if file.kind == "float" else WHOLE
        low, high = seen.get(usual, (math.inf, -math.inf))
        if file.kind == "16-bit" and high > WHOLE[-2] and low >= 0:
            continue  # it is 16 bits anyway
        try:
            own = file.extremes()
        except CydasError:
            continue
        low, high = seen[usual] = min(low, own[0]), max(high, own[1])
        if low < 0 or high > usual[-1]:
            raise CydasError(f"{file.name}: its numbers, from {own[0]:g} to {own[1]:g}, fit no usual range: {ASK}")
    if not seen:
        return None, []
    ranges = {next((0.0, white) for white in usual if high <= white) for usual, (_, high) in seen.items()}
    if len(ranges) > 1:
        raise CydasError(
            f"{training.root} holds images of whole numbers and images of floating-point ones, of different ranges: "
            f"store them alike, or {ASK}"
        )
    ((black, white),) = ranges
    largest = max(high for _, high in seen.values())
    return (black, white), [
        f"{count} of {len(training)} training images have more than 8 bits, with numbers up to {largest:g}: they are "
        f"read from {black:g} to {white:g}; images of 8 bits, from 0 to 255"
    ]


def check_test_range(test: Any, pixel_range: Range | None) -> list[str]:
    """Lines for the log on what the range of the training does to deep test images.

    Raises :class:`CydasError` where there is none and theirs is not plain to see.
    """
    beyond = count = 0
    largest = -math.inf
    for file in deep_files(test):
        count += 1
        if file.kind == "16-bit" and (largest > WHOLE[-2] if pixel_range is None else _covers_16_bits(pixel_range)):
            continue
        if pixel_range is None and file.kind != "16-bit":
            raise CydasError(f"{file.name}: no training image says the range of such numbers: {ASK}")
        try:
            low, high = file.extremes()
        except CydasError:
            continue
        largest = max(largest, high)
        beyond += pixel_range is not None and (low < pixel_range[0] or high > pixel_range[1])
    if count and pixel_range is None:
        if largest <= WHOLE[-2]:
            raise CydasError(
                f"{test.root}: 16-bit images hold numbers up to {largest:g} only, and no training image says their "
                f"range: {ASK}"
            )
        return [f"{count} of {len(test)} test images have 16 bits, unlike the training's: read from 0 to 65535"]
    if beyond:
        return [f"{beyond} of {len(test)} test images have pixels beyond the range of the training, which are clipped"]
    return []


def _covers_16_bits(pixel_range: Range) -> bool:
    return pixel_range[0] <= 0 and pixel_range[1] >= WHOLE[-1]
