"""Images of more than 8 bits a channel: all their levels, which Pillow by itself cuts off in colours.

Each function takes an image that Pillow has opened but not loaded yet, and raises ``ValueError`` for what can only be
read with a loss.
"""

import io
import sys
from typing import NamedTuple

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from CyDAS.utils.present import present

#: Tags of TIFF.
BITS, PHOTOMETRIC, PLANES, SAMPLE_FORMAT = 258, 262, 284, 339
WHITE_IS_ZERO, UNSIGNED, SEPARATE_PLANES = 0, 1, 2

#: Pillow's letters for the order of a number's bytes: big-endian, little-endian, this machine's.
OTHER_ORDER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class Depth(NamedTuple):
    """What the numbers of an image are. ``own_range``: those for black and white, where the file says."""

    kind: str  #: ``8-bit`` or less, ``16-bit``, ``32-bit`` (signed numbers of 16 bits among them), ``float``
    own_range: tuple[float, float] | None = None


def depth_of(image: ImageFile, content: bytes) -> Depth:
    """The depth that the header of a file, ``content``, announces."""
    if image.format == "PPM":
        return _depth_of_ppm(image)
    if image.mode == "F":
        return Depth("float")
    if image.mode == "I":
        return Depth("32-bit")
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITS, (1,))
        return Depth("16-bit" if max(bits) > 8 else "8-bit", (0.0, 4095.0) if bits == (12,) else None)
    if image.format == "AVIF":
        setting = content.find(b"av1C") + 6
        if setting > 6 and content[setting] & 0x40:
            raise ValueError("it has more than 8 bits a channel, which can be read of PNG, TIFF and PPM only")
    is_deep_png = image.format == "PNG" and any(";16" in str(tile.args) for tile in image.tile)
    return Depth("16-bit" if is_deep_png else "8-bit")


def _depth_of_ppm(image: ImageFile) -> Depth:
    """PPM files say which number is white. 65535 is no such word: many programs write it whatever the image holds."""
    if image.mode == "F":
        return Depth("float")
    arguments = image.tile[0].args
    white = 65535 if arguments == "I;16B" else arguments[-1] if isinstance(arguments, tuple) else 255
    if white <= 255:
        return Depth("8-bit")
    # Pillow itself stretches grey to 65535.
    return Depth("16-bit", None if white == 65535 else (0.0, 65535.0 if image.mode == "I" else float(white)))


def read_deep(image: ImageFile, content: bytes) -> np.ndarray:
    """The numbers of an image that is not ``8-bit``: [H, W], or [H, W, C] of colours and of an image with alpha."""
    colours = len(image.getbands()) > 1
    if isinstance(image, TiffImageFile):
        return _read_colour_tiff(image, content) if colours else _read_grey_tiff(image)
    if image.format == "PNG" and colours:
        return _read_colour_png(image, content)
    if image.format == "PPM" and colours:
        tile = image.tile[0]
        if image.mode != "RGB" or tile.codec_name != "ppm":
            raise ValueError("it is a PPM of more than 8 bits in text, or not RGB")
        width, height = image.size
        pixels = np.frombuffer(content, ">u2", width * height * 3, tile.offset)
        return pixels.reshape(height, width, 3)
    return np.asarray(image)


def _read_grey_tiff(image: TiffImageFile) -> np.ndarray:
    if image.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        raise ValueError("its 0 is white (WhiteIsZero), which can be read of TIFFs with up to 8 bits only")
    # libtiff gives numbers in this machine's order of bytes, which Pillow forgets where they are not "I;16".
    if image.tile[0].codec_name == "libtiff":
        _set_rawmode(image, _rawmode(image).replace("B", "N"))
    is_unsigned = image.tag_v2.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED
    pixels = np.asarray(image)
    return pixels.view(np.uint32) if pixels.dtype == np.int32 and is_unsigned else pixels


def _read_colour_png(image: ImageFile, content: bytes) -> np.ndarray:
    """torchvision's ``decode_png`` knows 16 bits too, but many damaged files make it end the program."""
    if image.tile[0].args == "LA;16B":  # two numbers of two bytes each: the four bytes of RGBA
        _set_rawmode(image, "RGBA")
        return np.ascontiguousarray(image).view(">u2")
    return _read_twice(image, content)


def _read_colour_tiff(image: TiffImageFile, content: bytes) -> np.ndarray:
    is_split = image.tag_v2.get(PLANES) == SEPARATE_PLANES
    if is_split or any(present(tile.args)[0][:-1] not in ("RGB;16", "RGBA;16", "RGBX;16") for tile in image.tile):
        raise ValueError("it is a TIFF of more than 8 bits, which can be read as grey, RGB or RGBA side by side only")
    return _read_twice(image, content)


def _read_twice(image: ImageFile, content: bytes) -> np.ndarray:
    """Pillow keeps the upper byte of each number; where it takes the order of bytes for the other, the lower one."""
    other = Image.open(io.BytesIO(content), formats=(present(image.format),))
    rawmode = _rawmode(other)
    _set_rawmode(other, rawmode[:-1] + OTHER_ORDER[rawmode[-1]])
    return np.asarray(image).astype(np.uint16) << 8 | np.asarray(other)


def _rawmode(image: ImageFile) -> str:
    """How Pillow takes the file's bytes."""
    arguments = present(image.tile[0].args)
    return arguments if isinstance(arguments, str) else arguments[0]


def _set_rawmode(image: ImageFile, rawmode: str) -> None:
    image.tile = [
        tile._replace(args=rawmode if isinstance(tile.args, str) else (rawmode, *present(tile.args)[1:]))
        for tile in image.tile
    ]
