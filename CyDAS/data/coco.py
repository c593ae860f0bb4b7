"""Images with boxes as COCO writes them: one JSON file of images, annotations and categories, checked as a whole."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from PIL import Image

from CyDAS.data.classes import places
from CyDAS.data.images import blaming, formats, hearing
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json
from CyDAS.utils.texts import few

#: Bytes of a JSON file; COCO's training annotations have 450 million.
MAX_BYTES = 4 * 10**9

Corners = tuple[float, float, float, float]


class Object(NamedTuple):
    """An annotated box, as the file has it."""

    box: Corners  #: left, top, right, bottom in pixels; it may reach beyond the image
    label: int  #: place of its category among the classes
    area: float  #: of the object, pixels
    is_crowd: bool  #: a crowd, or to be ignored: nothing is learned from it, and a test does not ask for it


class Scene(NamedTuple):
    """An image and what is in it."""

    id: int
    path: str
    height: int
    width: int
    objects: tuple[Object, ...]


class Annotations:
    """What a JSON file of COCO's kind says of the images in a folder.

    ``classes``: names of its categories in the order of their ids, ``category_ids``; ``scenes``: its images, in the
    order of the file; ``left_out``: how many boxes were left out, by why. Raises :class:`CydasError` that names file
    and entry: for a file that is none, an id that comes twice, a category that is used but not declared, an annotation
    of no image, a box of other than four finite numbers, and for an image file that is missing.
    """

    def __init__(self, path: Path, folder: Path):
        self.path = path
        self.folder = folder
        content = read_json(path, "annotations", MAX_BYTES)
        if not isinstance(content, dict):
            raise CydasError(f"annotations {path}: a dict of images, annotations and categories is expected")
        self.left_out: Counter[str] = Counter()
        categories = self._by_id(content, "categories")
        self.category_ids = sorted(categories)
        self._numbers = {number: label for label, number in enumerate(self.category_ids)}
        self.classes = [self._name(categories[number]) for number in self.category_ids]
        if len(set(self.classes)) < len(self.classes):
            twice = [name for name, count in Counter(self.classes).items() if count > 1]
            raise self._error(f"categories have the same name: {few(twice)}")
        images = self._by_id(content, "images")
        for part, entries in (("categories", categories), ("images", images)):
            if not entries:
                raise self._error(f"there are no {part}")
        objects: dict[int, list[Object]] = {number: [] for number in images}
        sizes = {number: self._size(image) for number, image in images.items()}
        for entry in self._list(content, "annotations"):
            self._add(entry, objects, sizes)
        self.scenes = [
            Scene(number, self._file(image), *sizes[number], tuple(objects[number])) for number, image in images.items()
        ]

    def adopt(self, trained: Sequence[str]) -> None:
        """Number the classes as those of a trained network of the same names; some may be missing here.

        Raises :class:`CydasError` for boxes of classes that it does not know.
        """
        used = {self.classes[thing.label] for scene in self.scenes for thing in scene.objects}
        number = places(sorted(used), trained, f"annotations {self.path}")
        for index, scene in enumerate(self.scenes):
            objects = tuple(thing._replace(label=number[self.classes[thing.label]]) for thing in scene.objects)
            self.scenes[index] = scene._replace(objects=objects)
        self.classes = list(trained)

    def _error(self, what: str) -> CydasError:
        return CydasError(f"annotations {self.path}: {what}")

    def _list(self, content: dict[str, Any], part: str) -> list[dict[str, Any]]:
        entries = content.get(part)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise self._error(f"its {part} must be a list of dicts")
        return entries

    def _by_id(self, content: dict[str, Any], part: str) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        for entry in self._list(content, part):
            number = entry.get("id")
            if type(number) is not int:
                raise self._error(f"{part} have ids that are whole numbers, not {number!r}")
            if number in found:
                raise self._error(f"id {number} comes twice among the {part}")
            found[number] = entry
        return found

    def _name(self, category: dict[str, Any]) -> str:
        name = category.get("name")
        if not isinstance(name, str) or not name:
            raise self._error(f"category {category['id']} has no name")
        return name

    def _file(self, image: dict[str, Any]) -> str:
        name = image.get("file_name")
        if not isinstance(name, str) or not name or "\0" in name:
            raise self._error(f"image {image['id']} has no file_name")
        path = os.path.join(self.folder, name)
        if not os.path.isfile(path):
            raise self._error(f"image {image['id']}: there is no file {path}")
        return path

    def _size(self, image: dict[str, Any]) -> tuple[int, int]:
        """Height and width; where the file does not say them, the image's own."""
        size: tuple[Any, Any] = image.get("height"), image.get("width")
        if size == (None, None):
            return image_size(self._file(image))
        if not all(type(pixels) is int and pixels > 0 for pixels in size):
            raise self._error(f"image {image['id']} has {size[1]!r} x {size[0]!r} pixels")
        return size

    def _add(self, entry: dict[str, Any], objects: dict[int, list[Object]], sizes: dict[int, tuple[int, int]]) -> None:
        """Put an annotation to its image's objects, unless its box holds nothing of it."""
        what, category = f"annotation {entry.get('id')!r}", entry.get("category_id")
        image: Any = entry.get("image_id")
        try:
            own = objects[image]
        except (KeyError, TypeError):
            raise self._error(f"{what} is of image {image!r}, which is not among the images") from None
        if type(category) is not int or category not in self._numbers:
            raise self._error(
                f"{what} of image {entry['image_id']} is of category {category!r}, which is not among the categories"
            )
        x, y, width, height = self._box(entry, what)
        box = (x, y, x + width, y + height)
        rows, columns = sizes[entry["image_id"]]
        if not (box[2] > x and box[3] > y):
            self.left_out["without width or height"] += 1
        elif box[2] <= 0 or box[3] <= 0 or x >= columns or y >= rows:
            self.left_out["outside their image"] += 1
        else:
            is_crowd = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
            own.append(Object(box, self._numbers[category], self._area(entry, width * height), is_crowd))

    def _box(self, entry: dict[str, Any], what: str) -> Sequence[float]:
        box = entry.get("bbox")
        if not isinstance(box, list) or len(box) != 4 or not all(map(is_number, box)):
            raise self._error(f"{what} of image {entry['image_id']}: its bbox must be 4 finite numbers, not {box!r}")
        return box

    def _area(self, entry: dict[str, Any], of_box: float) -> float:
        area = entry.get("area")
        return float(area) if is_number(area) and area > 0 else float(of_box)


def is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e9


def image_size(path: str) -> tuple[int, int]:
    """Height and width that an image's header says. Raises :class:`CydasError` where it cannot be read."""
    with blaming(path), hearing(), Image.open(path, formats=formats()) as image:
        return image.height, image.width
