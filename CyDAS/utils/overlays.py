"""Pictures of classes: every class in its colour, over the image, with a legend."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

#: How much of an overlay is the image.
SHARE = 0.45
#: Pixels of a line of the legend.
LINE = 16


def colours(count: int) -> np.ndarray:
    """uint8 [count, 3], as unlike each other as can be: the bits of a number, as PASCAL VOC spreads them; number 0 is
    no black.
    """
    numbers = np.arange(1, count + 1)
    channels = [sum(((numbers >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3)) for channel in range(3)]
    return np.stack(channels, axis=1).astype(np.uint8)


def overlay(image: np.ndarray, classes: np.ndarray, count: int) -> np.ndarray:
    """``image``: uint8 [H, W, 3]; ``classes``: [H, W], of which those from ``count`` on, void, are left as they are."""
    table = colours(count)
    known = classes < count
    mixed = image.astype(np.float32)
    mixed[known] = SHARE * mixed[known] + (1 - SHARE) * table[classes[known]]
    return mixed.round().astype(np.uint8)


def side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 [H, W, 3] each, of one height."""
    return np.concatenate(pictures, axis=1)


def legend(names: Sequence[str]) -> np.ndarray:
    """Every class's colour and name, uint8 [H, W, 3]."""
    width = 2 * LINE + 8 * max(map(len, names))
    picture = Image.new("RGB", (width, LINE * len(names)), "white")
    draw = ImageDraw.Draw(picture)
    for line, (name, colour) in enumerate(zip(names, colours(len(names)).tolist(), strict=True)):
        draw.rectangle((2, line * LINE + 2, LINE - 2, line * LINE + LINE - 2), fill=tuple(colour))
        draw.text((LINE + 4, line * LINE + 2), name.encode("ascii", "replace").decode(), fill="black")
    return np.array(picture)
