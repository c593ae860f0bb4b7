"""Detection of objects: focal loss and smooth L1, COCO's average precision.

Targets are a list with a dict for each image: see :class:`CyDAS.data.boxes.PrepareScene`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from CyDAS.models.detection.loss import loss_sums
from CyDAS.models.detection.postprocess import detections
from CyDAS.models.detection.retinanet import DetectorOutput
from CyDAS.tasks.average_precision import average_precision
from CyDAS.tasks.classification import full_precision
from CyDAS.utils.distributed import all_sum, gather
from CyDAS.utils.errors import CydasError

Target = dict[str, Any]


class Precisions(NamedTuple):
    """COCO's average precisions, percent; -1 where there is no such object.

    ``ap``: the mean over IoUs of 0.5, 0.55, ..., 0.95 and all classes; ``ap_small``: objects of fewer than 32^2 pixels,
    ``ap_large``: of more than 96^2.
    """

    ap: float = 0.0
    ap50: float = 0.0
    ap75: float = 0.0
    ap_small: float = 0.0
    ap_medium: float = 0.0
    ap_large: float = 0.0
    images: int = 0
    of_classes: dict[str, float] = {}  #: AP of each class

    def is_better_than(self, other: "Precisions") -> bool:
        return self.ap > other.ap

    def words(self, between: str = ", ") -> str:
        names = ("AP", "AP50", "AP75", "APs", "APm", "APl")
        return between.join(f"{name} {value:.2f}" for name, value in zip(names, self, strict=False))

    def brief(self) -> str:
        return f"AP {self.ap:.2f}, AP50 {self.ap50:.2f}"

    def headline(self) -> str:
        return f"AP {self.ap:.2f}"

    def scalars(self) -> dict[str, float]:
        """Without those of sizes of which there are no objects."""
        return {f"test/{name}": getattr(self, name) for name in self._fields[:6] if getattr(self, name) >= 0}

    def record(self) -> dict[str, float]:
        return {"best_ap": self.ap}

    def table(self) -> list[str]:
        """The AP of each class, the best first."""
        width = max(map(len, self.of_classes), default=0)
        best_first = sorted(self.of_classes.items(), key=lambda item: -item[1])
        return [f"{name:{width}}  AP {f'{ap:6.2f}' if ap >= 0 else '     -'}" for name, ap in best_first]


class Detection:
    """A task (see :class:`CyDAS.tasks.Task`) for objects of ``classes``. Networks answer with DetectorOutput."""

    result = Precisions

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)
        self._parts: dict[str, Tensor] = {}

    def prepare(self, images: Tensor, targets: list[Target]) -> tuple[Tensor, list[Target]]:
        return images, targets

    def loss(self, output: DetectorOutput, targets: list[Target]) -> Tensor:
        """Both losses, over the positives of an image in the mean of all processes' images.

        So what is learned does not depend on how a batch is spread over processes. Every process must call it.
        """
        exact = output._replace(class_logits=full_precision(output.class_logits), deltas=full_precision(output.deltas))
        sums = loss_sums(exact, targets)
        images = len(targets)
        positives, everywhere = all_sum(torch.stack([sums.positives, sums.positives.new_tensor(images)]).detach())
        of_image = positives / everywhere
        classes, boxes = sums.classes / images / of_image, sums.boxes / images / of_image
        self._parts = {"train/class_loss": classes.detach(), "train/box_loss": boxes.detach()}
        return classes + boxes

    def figures(self, output: DetectorOutput, targets: list[Target]) -> dict[str, Tensor]:
        """Both parts of the loss that was asked for last, of the same batch: they are not worked out again."""
        return self._parts

    def training_words(self, means: dict[str, float]) -> str:
        names = ("train/loss", "train/class_loss", "train/box_loss")
        loss, classes, boxes = (means.get(name, float("nan")) for name in names)
        return f"loss {loss:.4f} (classes {classes:.4f}, boxes {boxes:.4f})"

    def metrics(self, device: torch.device) -> "DetectionMetrics":
        return DetectionMetrics(self.classes)


class DetectionMetrics:
    """What was found in the images of a test, and what is there, of all processes."""

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)
        self.truth: list[dict[str, Any]] = []  #: an image each
        self.found: list[dict[str, Any]] = []  #: a box each, in COCO's format
        self._bad = 0

    def add(self, output: DetectorOutput, targets: list[Target]) -> None:
        for index, target in enumerate(targets):
            self.truth.append({name: target[name] for name in ("id", "objects")})
            if not all(torch.isfinite(part[index]).all() for part in (output.class_logits, output.deltas)):
                self._bad += 1
                continue
            found = detections(output, index, target["size"], target["original"])
            self.found += as_entries(found, target["id"])

    def result(self) -> Precisions:
        """Raises :class:`CydasError`, in all processes, where there was no image, or where an answer is not finite."""
        parts = gather((self.truth, self.found, self._bad))
        truth, found = ([item for part in parts for item in part[place]] for place in (0, 1))
        bad = sum(part[2] for part in parts)
        if not truth:
            raise CydasError("there is no test image that can be read: nothing can be said of the detector's precision")
        if bad:
            raise CydasError(
                f"the network's answers to {bad} of {len(truth)} test images are not finite (NaN or infinity): its "
                "weights or batch norm statistics have diverged, or are too large for --use_amp"
            )
        of_all, of_classes = average_precision(truth, found, len(self.classes))
        ap, ap50, ap75, small, medium, large = of_all
        by_name = dict(zip(self.classes, of_classes, strict=True))
        return Precisions(ap, ap50, ap75, small, medium, large, len(truth), by_name)


def as_entries(found: Any, image: int) -> list[dict[str, Any]]:
    """Detections in COCO's format for results: left, top, width and height; classes by their numbers from 0 on."""
    boxes = torch.cat([found.boxes[:, :2], found.boxes[:, 2:] - found.boxes[:, :2]], dim=1)
    rows = zip(boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [{"image_id": image, "category_id": label, "bbox": box, "score": score} for box, score, label in rows]
