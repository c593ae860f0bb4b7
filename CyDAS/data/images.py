"""Image files become pictures: whatever bytes a file holds, a :class:`Picture` comes out or one :class:`CydasError`.

Pictures of up to 8 bits a channel stay Pillow's images. Deep ones become float32 tensors of the numbers in the file;
which of these are black and white is a question of the whole data set (``pixel_range.py``).
"""

import io
import logging
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from torch import Tensor

from CyDAS.data.deep import Depth, depth_of, read_deep
from CyDAS.utils.errors import CydasError

#: Formats that are images and nothing else. Pillow knows others that start programs (EPS), or are whole documents.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "QOI", "TIFF", "WEBP")
#: From here on Pillow suspects a small file that unfolds to more than memory holds.
MAX_PIXELS = 89_478_485
#: What so many pixels take at most, 16 bits each of four channels.
MAX_BYTES = 8 * MAX_PIXELS

#: A progressive JPEG has some ten scans; each goes over the whole image, however few bytes it has.
SCAN, MAX_SCANS = b"\xff\xda", 500

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it says on the console what its errors say
Image.WARN_POSSIBLE_FORMATS = True  # why a file that looks like a format is none of it


class Picture(NamedTuple):
    """What an image file holds: Pillow's RGB image of 8 bits, or float32 [1 or 3, H, W], the numbers in the file."""

    name: str
    pixels: Image.Image | Tensor
    depth: Depth


def read_bytes(path: str, size: int = MAX_BYTES) -> bytes:
    """A file's first ``size`` bytes. Raises :class:`CydasError` where it cannot be read, or is too large to be one."""
    with blaming(path):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):  # reading a pipe might never end
            raise ValueError("it is no file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size} bytes, and {MAX_BYTES} can be read")
        with open(path, "rb") as file:
            return file.read(size)


def decode(content: bytes, name: str) -> Picture:
    """The picture in a file's bytes. Raises :class:`CydasError` where there is none, or a damaged one."""
    with blaming(name), hearing() as heard:
        image = open_bytes(content, heard)
        depth = depth_of(image, content)
        if depth.kind == "8-bit":
            straight = image.convert("LA") if image.mode == "La" else image  # Pillow goes to RGB by way of LA only
            return Picture(name, straight.convert("RGB"), depth)
        numbers = torch.from_numpy(read_deep(image, content).astype(np.float32))
        if not numbers.isfinite().all():
            raise ValueError("it has pixels that are no finite numbers")
        channels = numbers.permute(2, 0, 1) if numbers.dim() == 3 else numbers[None]
        return Picture(name, channels[: 3 if len(channels) > 2 else 1], depth)  # alpha is left out, as of 8 bits


def peek(content: bytes, name: str) -> Depth:
    """What the header in a file's bytes announces. Raises :class:`CydasError` where it is damaged."""
    with blaming(name), hearing() as heard:
        return depth_of(open_bytes(content, heard), content)


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """Whatever is raised in here is the image's fault, and becomes a :class:`CydasError` of one line that names it.

    Decoders raise anything: ``KeyError``, ``struct.error``, ``zlib.error``, ``SystemError``, ...
    """
    try:
        yield
    except CydasError:
        raise
    except Exception as error:
        raise CydasError(f"cannot read the image {name}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """An error's words in one line that is the same each time."""
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    line = "".join(letter if letter.isprintable() else " " for letter in words[:300])
    is_plain = isinstance(error, OSError | ValueError | SyntaxError | Image.DecompressionBombError)
    return line if line and is_plain else f"{type(error).__name__} {line}".strip()


@cache
def formats() -> tuple[str, ...]:
    """Those of :data:`FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@contextmanager
def hearing() -> Iterator[list[warnings.WarningMessage]]:
    """Keep Pillow's warnings, of which a training would show thousands, from the console."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


def open_bytes(content: bytes, heard: list[warnings.WarningMessage]) -> ImageFile:
    """The image of bytes, its pixels not read yet. ``heard``: the warnings so far. Raises anything: see
    :func:`blaming`.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=formats())
    except UnidentifiedImageError:
        # DIB has no mark to know it by, and says of every short file that it fails.
        why = "; ".join(w for w in (str(h.message) for h in heard) if "opening failed" in w and not w.startswith("DIB"))
        raise ValueError(f"it is no {', '.join(formats())} file{f' ({why})' if why else ''}") from None
    width, height = image.size
    if not 1 <= width * height <= MAX_PIXELS:
        raise ValueError(f"it has {width} x {height} pixels, and 1 to {MAX_PIXELS} can be read")
    if image.info.get("progressive") and (scans := content.count(SCAN)) > MAX_SCANS:
        raise ValueError(f"it has {scans} scans, and {MAX_SCANS} can be read")
    return image


class Prepare:
    """From a picture to a network's input: ``to_unit`` gives an RGB image or a tensor in 0 to 1, ``steps`` the rest.

    Raises :class:`CydasError` for a picture on which a step fails.
    """

    def __init__(self, to_unit: Callable[[Picture], Image.Image | Tensor], steps: Callable):
        self.to_unit = to_unit
        self.steps = steps

    def __call__(self, picture: Picture) -> Tensor:
        with blaming(picture.name):
            return self.steps(self.to_unit(picture))


def growth_limit(short_side: int) -> Callable:
    """A step before a resizing that makes the shorter side ``short_side``, which strips of pixels do not survive."""
    return partial(_check_growth, short_side=short_side)


def _check_growth(pixels: Image.Image | Tensor, short_side: int) -> Image.Image | Tensor:
    width, height = pixels.size if isinstance(pixels, Image.Image) else (pixels.shape[2], pixels.shape[1])
    if short_side**2 * max(width, height) > MAX_PIXELS * min(width, height):
        raise ValueError(f"{width} x {height} pixels are too narrow to be resized to a shorter side of {short_side}")
    return pixels
