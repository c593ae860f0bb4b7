"""Masks: files with a number for every pixel, and what the numbers mean."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from CyDAS.data.images import blaming, formats, hearing, open_bytes, read_bytes
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json
from CyDAS.utils.texts import few

#: The number that stands for a pixel which counts nowhere.
VOID = 255
#: Fewer classes than this there are, as a class number is a byte.
MOST_CLASSES = 254
#: One more than the largest id that a mask can hold, of 16 bits.
IDS = 65536
#: Pillow's modes of images with one whole number a pixel. A palette's colours say nothing: its indices are the ids.
MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")
_UNKNOWN = -1


class Ids:
    """What the ids in masks mean: classes, numbered in the order of ``ids``, or void.

    ``names``: of the classes; ``void``: ids that count nowhere. An id that is neither is an error. Raises
    :class:`CydasError` for ids that no mask can hold, or that are there twice.
    """

    def __init__(self, names: Sequence[str], ids: Sequence[int], void: Sequence[int], source: str):
        if not 2 <= len(names) <= MOST_CLASSES:
            raise CydasError(f"{source}: 2 to {MOST_CLASSES} classes can be told apart, not {len(names)}")
        beyond = [number for number in (*ids, *void) if not 0 <= number < IDS]
        if beyond:
            raise CydasError(f"{source}: ids are 0 to {IDS - 1}, not {beyond[0]}")
        for what, values in (("name", names), ("id", ids), ("id", [*ids, *void])):
            double = [value for value in values if list(values).count(value) > 1]
            if double:
                raise CydasError(f"{source}: the {what} {double[0]} stands in it twice, or is void as well")
        self.names, self.ids, self.source = list(names), list(ids), source
        self._class_of = np.full(IDS, _UNKNOWN, dtype=np.int16)
        self._class_of[list(void)] = VOID
        self._class_of[list(ids)] = np.arange(len(ids))

    def classes_in(self, mask: np.ndarray, name: str) -> np.ndarray:
        """uint8, the class of every pixel. Raises :class:`CydasError` naming the mask for an id that is declared
        nowhere.
        """
        classes = self._class_of[mask]
        if classes.min() == _UNKNOWN:
            numbers = [str(number) for number in np.unique(mask[classes == _UNKNOWN])]
            raise CydasError(
                f"the mask {name} has pixels of id {few(numbers)}, neither of a class nor void in {self.source}"
            )
        return classes.astype(np.uint8)

    def ids_of(self, classes: np.ndarray) -> np.ndarray:
        """The ids of predicted classes: uint8, or uint16 where an id is larger."""
        ids = np.array(self.ids, dtype=np.uint16 if max(self.ids) > 255 else np.uint8)
        return ids[classes]


def read_mask(path: str) -> np.ndarray:
    """The ids in a mask's file, [H, W] of whole numbers from 0 to 65535. Raises :class:`CydasError`."""
    with blaming(path), hearing() as heard:
        image = open_bytes(read_bytes(path), heard)
        if image.mode not in MODES:
            raise ValueError(f"a mask has one whole number for every pixel (grey or with a palette), not {image.mode}")
        mask = np.array(image)
        if mask.dtype == bool:
            return mask.astype(np.uint8)
        if mask.min() < 0 or mask.max() >= IDS:
            raise ValueError(f"ids are 0 to {IDS - 1}, not {mask.min()} to {mask.max()}")
        return mask


def size_of(path: str) -> tuple[int, int]:
    """(height, width) of an image or a mask, from its header. Raises :class:`CydasError`."""
    with blaming(path), hearing(), Image.open(path, formats=formats()) as image:
        return image.height, image.width


def read_classes(path: Path, void: Sequence[int]) -> Ids:
    """A class list: lines of NAME, numbered from 0 on, or ID NAME; or JSON, {ID: NAME} or [NAME, ...].

    ``void``: what counts nowhere; a class of such an id is left out. Raises :class:`CydasError`.
    """
    if path.suffix == ".json":
        entries = _from_json(read_json(path, "class list"), path)
    else:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise CydasError(f"class list {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
        entries = _from_lines([line for line in lines if line and not line.startswith("#")])
    entries = [(number, name) for number, name in entries if number not in void]
    return Ids([name for _, name in entries], [number for number, _ in entries], void, f"class list {path}")


def _from_lines(lines: list[str]) -> list[tuple[int, str]]:
    """Numbered where every line starts with a number and has a name behind it."""
    parts = [line.split(maxsplit=1) for line in lines]
    if parts and all(len(part) == 2 and part[0].isdecimal() for part in parts):
        return [(int(number), name) for number, name in parts]
    return list(enumerate(lines))


def _from_json(value: Any, path: Path) -> list[tuple[int, str]]:
    if isinstance(value, list):
        value = {str(number): name for number, name in enumerate(value)}
    if not isinstance(value, dict) or not all(k.isdecimal() and isinstance(v, str) for k, v in value.items()):
        raise CydasError(f"class list {path}: names by their ids are expected, {{ID: NAME}}")
    return sorted((int(number), name) for number, name in value.items())
