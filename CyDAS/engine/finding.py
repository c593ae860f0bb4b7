"""What a trained detector finds in single images, as pictures and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from CyDAS.data.boxes import PrepareScene, collate
from CyDAS.data.coco import Scene
from CyDAS.data.images import Picture, blaming, decode, read_bytes
from CyDAS.data.scenes import ImagesWithBoxes
from CyDAS.engine.optim import Precision
from CyDAS.engine.pictures import TIMES, write_png
from CyDAS.engine.training import Training
from CyDAS.models.detection.postprocess import Detections, detections
from CyDAS.runs.logs import RunLog
from CyDAS.tasks.detection import as_entries
from CyDAS.utils.boxes import draw_boxes
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json
from CyDAS.utils.overlays import side_by_side
from CyDAS.utils.texts import few


class Finder(NamedTuple):
    """A detector and what it needs to see an image as in its training."""

    network: nn.Module
    precision: Precision
    classes: Sequence[str]
    steps: PrepareScene
    score: float  #: the least of a detection that is kept

    @torch.no_grad()
    def find(self, picture: Picture, scene: Scene) -> Detections:
        """The best detections, in the pixels of the image as it is stored, on the CPU.

        Raises :class:`CydasError` where the picture cannot be resized, or is not what the scene says.
        """
        images, targets = collate([(self.steps((picture, scene)), scene.id)])
        self.network.eval()
        with self.precision.autocast():
            output = self.network(images.to(self.precision.device))
        found = detections(output, 0, targets[0]["size"], targets[0]["original"])
        keep = found.scores >= self.score
        return Detections(*(part[keep].cpu() for part in found))

    def draw(self, picture: Picture, found: Detections) -> np.ndarray:
        """The picture, uint8 [H, W, 3], with what was found in it."""
        pixels = self.pixels_of(picture)
        return draw_boxes(pixels, found.boxes, found.labels.tolist(), self.classes, found.scores.tolist())

    def pixels_of(self, picture: Picture) -> Tensor:
        """uint8 [3, H, W]. Raises :class:`CydasError` for a picture whose black and white nobody says."""
        with blaming(picture.name):
            return functional.to_dtype(functional.to_image(self.steps.to_unit(picture)), torch.uint8, scale=True)


class Gallery:
    """A few test images, always the same ones: what is in them on the left, what is found on the right.

    They are drawn at most :data:`TIMES` times in a training, and after its last epoch, into ``folder`` and TensorBoard.
    """

    def __init__(self, data: ImagesWithBoxes, count: int, score: float, folder: Path):
        """``score``: the least of a box that is drawn."""
        self.data = data
        self.scenes = data.test_scenes[:count]
        self.score = score
        self.folder = folder

    def __call__(self, training: Training, log: RunLog) -> None:
        epochs = training.extent.epochs
        if training.epoch % -(-epochs // TIMES) and training.epoch < epochs:
            return
        network, data = training.weights.reported(), self.data
        finder = Finder(network, training.precision, data.classes, data.test_steps, self.score)
        for scene in self.scenes:
            picture = open_picture(scene.path)
            found = finder.find(picture, scene)
            both = side_by_side([self._truth(finder.pixels_of(picture), scene), finder.draw(picture, found)])
            name = Path(scene.path).stem
            write_png(self.folder / f"{name}_epoch_{training.epoch:03d}.png", both)
            log.picture(f"found/{name}", both, training.epoch)

    def _truth(self, pixels: Tensor, scene: Scene) -> np.ndarray:
        boxes = torch.tensor([thing.box for thing in scene.objects]).reshape(-1, 4)
        labels = [thing.label for thing in scene.objects]
        return draw_boxes(pixels, boxes, labels, self.data.classes)


def open_picture(path: str) -> Picture:
    """Raises :class:`CydasError` where it cannot be read."""
    return decode(read_bytes(path), path)


def predict(finder: Finder, files: Sequence[tuple[Path, str]], folder: Path, category_ids: Sequence[int]) -> None:
    """Find objects in image files, each with a name for its picture; write ``NAME_boxes.png`` of each to ``folder``,
    and all boxes to ``detections.json`` there.

    An entry of the JSON has of an image its ``file``, ``width`` and ``height``, and of its ``detections`` the box
    (left, top, width, height), score and category, by id and by name. Raises :class:`CydasError` for what cannot be
    written and, once all others are, for files that cannot be read.
    """
    entries, problems = [], []
    for file, name in files:
        try:
            picture = open_picture(str(file))
            height, width = finder.pixels_of(picture).shape[1:]
            found = finder.find(picture, Scene(0, str(file), height, width, ()))
        except CydasError as error:
            problems.append(str(error))
            continue
        write_png(folder / f"{name}_boxes.png", finder.draw(picture, found))
        boxes = [_named(box, finder.classes, category_ids) for box in as_entries(found, 0)]
        entries.append({"file": str(file), "width": width, "height": height, "detections": boxes})
    write_json(folder / "detections.json", entries)
    if problems:
        raise CydasError(f"{len(problems)} file(s) cannot be read: {few(problems)}; for the others see {folder}")


def _named(entry: dict[str, Any], classes: Sequence[str], category_ids: Sequence[int]) -> dict[str, Any]:
    label = entry["category_id"]
    return {
        "bbox": entry["bbox"], "score": entry["score"], "category_id": category_ids[label], "category": classes[label],
    }  # fmt: skip
