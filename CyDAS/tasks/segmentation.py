"""Semantic segmentation: hard-example cross-entropy, IoU of every class.

Targets are class numbers, int64 [N, H, W], and ``VOID`` where a pixel counts nowhere.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from CyDAS.data.masks import VOID
from CyDAS.models.segmentation.segmenter import SegmentationOutput
from CyDAS.models.total import total
from CyDAS.tasks.classification import full_precision
from CyDAS.utils.distributed import all_sum
from CyDAS.utils.errors import CydasError


class Overlap(NamedTuple):
    """How well predicted and true regions agree: percent, over the pixels of all images that are not void."""

    miou: float = 0.0  #: mean of ``ious``, without the classes that occur neither in the masks nor in the answers
    accuracy: float = 0.0  #: share of the pixels
    ious: tuple[float | None, ...] = ()  #: intersection over union of every class; None where there is none
    images: int = 0

    def is_better_than(self, other: "Overlap") -> bool:
        return self.miou > other.miou

    def words(self, between: str = ", ") -> str:
        return f"mIoU {self.miou:.2f} %{between}pixel accuracy {self.accuracy:.2f} %"

    def brief(self) -> str:
        return f"mIoU {self.miou:.2f}, pixels {self.accuracy:.2f}"

    def headline(self) -> str:
        return f"mIoU {self.miou:.2f}"

    def scalars(self) -> dict[str, float]:
        of_class = {f"test/iou_{number:03d}": iou for number, iou in enumerate(self.ious) if iou is not None}
        return {"test/miou": self.miou, "test/pixel_accuracy": self.accuracy} | of_class

    def record(self) -> dict[str, float]:
        return {"best_miou": self.miou}

    def table(self) -> list[str]:
        """None: its lines would need the classes' names, and are those of :func:`table`."""
        return []


class Segmentation:
    """A task (see :class:`CyDAS.tasks.Task`). Networks answer with :class:`SegmentationOutput`.

    ``threshold``: pixels whose true class has a higher probability are left out of the loss, but at least one in
    ``kept_share`` of a batch's pixels stay in.
    """

    result = Overlap

    def __init__(self, n_classes: int, aux_weight: float = 0.2, threshold: float = 0.7, kept_share: int = 16):
        self.n_classes = n_classes
        self.aux_weight = aux_weight
        self.threshold = threshold
        self.kept_share = kept_share

    def prepare(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return images, targets

    def loss(self, output: SegmentationOutput, targets: Tensor) -> Tensor:
        least = targets.numel() // self.kept_share
        weights = (1.0, *(self.aux_weight for _ in output.auxiliary))
        parts = zip(weights, (output.logits, *output.auxiliary), strict=True)
        return total(weight * ohem_cross_entropy(part, targets, least, self.threshold) for weight, part in parts)

    def figures(self, output: SegmentationOutput, targets: Tensor) -> dict[str, Tensor]:
        """Share of the batch's pixels whose class is right, percent; 0 where all are void."""
        right = (output.logits.argmax(dim=1) == targets).sum()
        return {"train/pixel_accuracy": right.double() / (targets != VOID).sum().clamp(min=1) * 100}

    def training_words(self, means: dict[str, float]) -> str:
        loss, share = (means.get(f"train/{name}", float("nan")) for name in ("loss", "pixel_accuracy"))
        return f"loss {loss:.4f}, pixels {share:.2f}"

    def metrics(self, device: torch.device) -> "OverlapMetrics":
        return OverlapMetrics(self.n_classes, device)


def ohem_cross_entropy(logits: Tensor, targets: Tensor, min_kept: int, threshold: float = 0.7) -> Tensor:
    """The mean cross-entropy of the pixels that are hard: online hard example mining (Shrivastava et al. 2016).

    A pixel is hard where its true class has a probability of at most t, the larger of ``threshold`` and the
    ``min_kept``-th smallest one; with fewer than ``min_kept`` pixels that are not void, all of those count. 0 where all
    are void. ``logits``: [N, classes, H, W]; ``targets``: int64 [N, H, W].
    """
    valid = targets != VOID
    # cross_entropy says the same, but has no deterministic kernel for images on GPUs
    log_probabilities = F.log_softmax(full_precision(logits), dim=1)
    losses = -log_probabilities.gather(1, targets.where(valid, 0)[:, None])[:, 0]
    with torch.no_grad():
        probabilities = torch.exp(-losses).where(valid, 1.0).flatten()
        t = torch.full_like(probabilities[0], threshold)
        if min_kept > 0:
            # the smallest of what is to stay, without asking the device which case it is
            smallest = probabilities.topk(
                min(min_kept, probabilities.numel()), largest=False, sorted=False
            ).values.max()
            t = torch.maximum(t, smallest).where(valid.sum() >= min_kept, torch.inf)
        kept = valid & (probabilities.view_as(losses) <= t)
    return losses.where(kept, 0.0).sum() / kept.sum().clamp(min=1)


class OverlapMetrics:
    """Counts how often each class was taken for each other one, over all images of a test, of all processes."""

    def __init__(self, n_classes: int, device: torch.device):
        self.n_classes = n_classes
        self._confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64, device=device)  #: [true, answered]
        self._images = torch.zeros(2, dtype=torch.int64, device=device)  #: all, those with answers that are not finite

    def add(self, output: SegmentationOutput, targets: Tensor) -> None:
        logits = output.logits
        self._confusion += confusion(logits.argmax(dim=1), targets, self.n_classes)
        bad = (~torch.isfinite(logits.sum(dim=1))).flatten(1).any(dim=1).sum()
        self._images += torch.stack([torch.full_like(bad, len(targets)), bad])

    def result(self) -> Overlap:
        """Raises :class:`CydasError`, in all processes, where there was no pixel to be judged, or where logits are not
        finite: no class can be read off such an image.
        """
        counts, (images, bad) = all_sum(self._confusion), all_sum(self._images).tolist()
        if bad:
            raise CydasError(
                f"the network's answers to {bad} of {images} test images are not finite (NaN or infinity), so that "
                "they have no classes: its weights or batch norm statistics have diverged, or are too large for "
                "--use_amp"
            )
        if not counts.any():
            raise CydasError(f"all pixels of the {images} test images are void: nothing can be said of the network")
        right, total = counts.diagonal().double(), counts.sum()
        union = counts.sum(dim=0) + counts.sum(dim=1) - counts.diagonal()
        there = union > 0
        ious = torch.where(there, 100 * right / union, torch.nan).tolist()
        accuracy = float(100 * right.sum() / total)
        miou = sum(iou for iou, is_there in zip(ious, there.tolist(), strict=True) if is_there) / int(there.sum())
        return Overlap(
            miou, accuracy, tuple(i if t else None for i, t in zip(ious, there.tolist(), strict=True)), images
        )


def confusion(answers: Tensor, targets: Tensor, n_classes: int) -> Tensor:
    """How often each class was taken for each other one, int64 [true, answered]; void counts nowhere.

    Both: int64 of the same shape. Raises ``RuntimeError`` for a target beyond the classes.
    """
    valid = targets != VOID
    pairs = targets[valid] * n_classes + answers[valid]
    return torch.bincount(pairs, minlength=n_classes**2).view(n_classes, n_classes)


def table(names: Sequence[str], result: Overlap) -> list[str]:
    """The IoU of every class, in lines."""
    width = max(map(len, names))
    rows = zip(names, result.ious, strict=True)
    return [f"{name:{width}}  {'does not occur' if iou is None else f'{iou:6.2f} %'}" for name, iou in rows]
