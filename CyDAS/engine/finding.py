"""What a trained detector finds in single images, as pictures and as JSON."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from CyDAS.data.boxes import PrepareScene, collate
from CyDAS.data.coco import Scene
from CyDAS.data.images import Picture, blaming, decode, read_bytes
from CyDAS.data.pixel_range import ToUnit
from CyDAS.engine.optim import Precision
from CyDAS.models.detection.postprocess import Detections, detections
from CyDAS.runs.keeper import Keeper
from CyDAS.tasks.detection import as_entries
from CyDAS.utils.boxes import draw_boxes, write_picture
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json

logger = logging.getLogger(__name__)


class Finder(NamedTuple):
    """A detector and what it needs to see an image as in its training."""

    network: nn.Module
    precision: Precision
    classes: Sequence[str]
    short_side: int
    long_side: int
    score: float  #: the least of a detection that is kept

    @torch.no_grad()
    def find(self, picture: Picture, scene: Scene) -> Detections:
        """The best detections, in the pixels of the image as it is stored, on the CPU.

        Raises :class:`CydasError` where the picture cannot be resized, or is not what the scene says.
        """
        sample = PrepareScene(self.short_side, self.long_side, train=False)((picture, scene))
        images, targets = collate([(sample, scene.id)])
        self.network.eval()
        with self.precision.autocast():
            output = self.network(images.to(self.precision.device))
        found = detections(output, 0, targets[0]["size"], targets[0]["original"])
        keep = found.scores >= self.score
        return Detections(*(part[keep].cpu() for part in found))

    def draw(self, picture: Picture, found: Detections) -> Tensor:
        """The picture, uint8 [3, H, W], with what was found in it."""
        labels = found.labels.tolist()
        words = [
            f"{self.classes[label]} {score:.2f}" for label, score in zip(labels, found.scores.tolist(), strict=True)
        ]
        return draw_boxes(pixels_of(picture), found.boxes, labels, words)


def pixels_of(picture: Picture) -> Tensor:
    """uint8 [3, H, W]."""
    with blaming(picture.name):
        return functional.to_dtype(functional.to_image(ToUnit(None)(picture)), torch.uint8, scale=True)


class Gallery:
    """The same few test images after every epoch: what is in them on the left, what was found on the right."""

    def __init__(self, finder: Finder, scenes: Sequence[Scene]):
        self.finder = finder
        self.scenes = scenes

    def __call__(self, epochs: int, keeper: Keeper) -> None:
        """Write ``pictures/epoch_EPOCHS/`` in the run's folder, and to TensorBoard."""
        folder = keeper.path.parent / "pictures" / f"epoch_{epochs:03d}"
        for scene in self.scenes:
            picture = open_picture(scene.path)
            found = self.finder.find(picture, scene)
            both = torch.cat([self._truth(picture, scene), self.finder.draw(picture, found)], dim=2)
            write_picture(folder / f"{Path(scene.path).stem}.jpg", both)
            keeper.log.pictures({f"found/{Path(scene.path).name}": both}, epochs)

    def _truth(self, picture: Picture, scene: Scene) -> Tensor:
        boxes = torch.tensor([thing.box for thing in scene.objects]).reshape(-1, 4)
        labels = [thing.label for thing in scene.objects]
        return draw_boxes(pixels_of(picture), boxes, labels, [self.finder.classes[label] for label in labels])


def open_picture(path: str) -> Picture:
    """Raises :class:`CydasError` where it cannot be read."""
    return decode(read_bytes(path), path)


def predict(finder: Finder, files: Sequence[Path], folder: Path, category_ids: Sequence[int]) -> Path:
    """Find objects in image files; write a picture of each to ``folder``, and all boxes to ``detections.json`` there,
    which is returned.

    An entry of the JSON has of an image its ``file``, ``width`` and ``height``, and of its ``detections`` the box
    (left, top, width, height), score and category, by id and by name. A file that cannot be read is named and left out.
    Raises :class:`CydasError` where none can, and for what cannot be written.
    """
    entries = []
    for file, name in zip(files, names_of(files), strict=True):
        try:
            picture = open_picture(str(file))
            height, width = pixels_of(picture).shape[1:]
            found = finder.find(picture, Scene(0, str(file), height, width, ()))
        except CydasError as error:
            logger.warning("left out: %s", error)
            continue
        write_picture(folder / f"{name}.jpg", finder.draw(picture, found))
        boxes = [_named(box, finder.classes, category_ids) for box in as_entries(found, 0)]
        entries.append({"file": str(file), "width": width, "height": height, "detections": boxes})
    if not entries:
        raise CydasError(f"--predict: none of the {len(files)} image(s) can be read")
    path = folder / "detections.json"
    write_json(path, entries)
    return path


def _named(entry: dict[str, Any], classes: Sequence[str], category_ids: Sequence[int]) -> dict[str, Any]:
    label = entry["category_id"]
    return {
        "bbox": entry["bbox"], "score": entry["score"], "category_id": category_ids[label], "category": classes[label],
    }  # fmt: skip


def names_of(files: Sequence[Path]) -> list[str]:
    """A name for the picture of each file: its own, with a number where several have one."""
    names: dict[str, None] = {}  # in their order
    for file in files:
        name, number = file.stem, 1
        while name in names:
            number += 1
            name = f"{file.stem}-{number}"
        names[name] = None
    return list(names)
