"""Classification of images: cross-entropy, mixup, top-1 and top-5. Targets are class numbers, int64 [N]."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from CyDAS.models.heads import RetrainOutput
from CyDAS.runs.meters import Averages
from CyDAS.utils.errors import CydasError


class Accuracy(NamedTuple):
    """Shares of the test images, percent, every image counted once."""

    top1: float = 0.0
    top5: float = 0.0  #: with fewer than 5 classes: among all of them
    loss: float = 0.0
    images: int = 0

    def is_better_than(self, other: "Accuracy") -> bool:
        return self.top1 > other.top1

    def words(self, between: str = ", ") -> str:
        return f"top-1 {self.top1:.2f} %{between}top-5 {self.top5:.2f} %"

    def brief(self) -> str:
        return f"top-1 {self.top1:.2f}, top-5 {self.top5:.2f}"

    def headline(self) -> str:
        return f"top-1 {self.top1:.2f}"

    def table(self) -> list[str]:
        return []

    def scalars(self) -> dict[str, float]:
        return {"test/top1": self.top1, "test/top5": self.top5, "test/loss": self.loss}

    def record(self) -> dict[str, float]:
        """The keys that published checkpoints have."""
        return {"best_top1": self.top1, "best_top5": self.top5}


class Classification:
    """A task (see :class:`CyDAS.tasks.Task`). Networks answer with :class:`RetrainOutput`."""

    result = Accuracy

    def __init__(self, n_classes: int, label_smooth: float = 0.0, aux_weight: float = 0.0, mixup_alpha: float = 0.0):
        self.n_classes = n_classes
        self.label_smooth = label_smooth
        self.aux_weight = aux_weight
        self.mixup_alpha = mixup_alpha

    def prepare(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """With ``mixup_alpha``, mixed images and target probabilities [N, classes]."""
        if self.mixup_alpha:
            images, targets = mixup(images, targets, self.n_classes, self.mixup_alpha)
        return images, targets

    def loss(self, output: RetrainOutput, targets: Tensor) -> Tensor:
        return retrain_loss(output, targets, self.label_smooth, self.aux_weight)

    def figures(self, output: RetrainOutput, targets: Tensor) -> dict[str, Tensor]:
        return {"train/top1": top1(output.logits, targets)}

    def training_words(self, means: dict[str, float]) -> str:
        loss, share = (means.get(f"train/{name}", float("nan")) for name in ("loss", "top1"))
        return f"loss {loss:.4f}, top-1 {share:.2f}"

    def metrics(self, device: torch.device) -> "AccuracyMetrics":
        return AccuracyMetrics(device)


class AccuracyMetrics:
    """Top-1, top-5 and loss over all images of a test, of all processes."""

    def __init__(self, device: torch.device):
        self._averages = Averages(device)
        # Every process must know the figures' names, also one that has no image.
        names = ("top1", "top5", "loss", "bad")
        self._averages.add(dict.fromkeys(names, torch.zeros((), device=device)), weight=0)

    def add(self, output: RetrainOutput, targets: Tensor) -> None:
        logits = output.logits
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets[:, None]
        figures = {
            "top1": best[:, 0].double().mean() * 100,
            "top5": best.any(dim=1).double().mean() * 100,
            "loss": classification_loss(logits, targets),
            "bad": (~torch.isfinite(logits)).any(dim=1).double().mean(),
        }
        self._averages.add(figures, len(targets))

    def result(self) -> Accuracy:
        """Raises :class:`CydasError`, in all processes, where there was no image, or where logits are not finite: no
        class can be read off such an image.
        """
        sums = self._averages.sums()
        seen, bad = int(sums["bad"].weight), round(sums["bad"].total)
        if not seen:
            raise CydasError("there is no test image that can be read: nothing can be said of the network's accuracy")
        if bad:
            raise CydasError(
                f"the network's answers to {bad} of {seen} test images are not finite (NaN or infinity), so that they "
                "have no class: its weights or batch norm statistics have diverged, or are too large for --use_amp"
            )
        return Accuracy(sums["top1"].mean, sums["top5"].mean, sums["loss"].mean, images=seen)


def retrain_loss(output: RetrainOutput, targets: Tensor, label_smooth: float, aux_weight: float) -> Tensor:
    """Label-smoothed cross-entropy, plus ``aux_weight`` times the same on the auxiliary logits."""
    loss = classification_loss(output.logits, targets, label_smooth)
    if output.auxiliary is not None:
        loss = loss + aux_weight * classification_loss(output.auxiliary, targets, label_smooth)
    return loss


def classification_loss(logits: Tensor, targets: Tensor, label_smooth: float = 0.0) -> Tensor:
    """Cross-entropy against ``(1 - e) * target + e / classes`` with e = ``label_smooth``.

    ``logits``: [N, classes]; ``targets``: [N] class indices or [N, classes] probabilities (mixup).
    """
    return F.cross_entropy(full_precision(logits), targets, label_smoothing=label_smooth)


def full_precision(x: Tensor) -> Tensor:
    """At least float32: losses are not computed in the lower precision of autocast."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mixup(images: Tensor, labels: Tensor, n_classes: int, alpha: float) -> tuple[Tensor, Tensor]:
    """Mix the batch with a permutation of itself: lambda from Beta(alpha, alpha), one for the batch (Zhang 2018).

    Returns images [N, C, H, W] and target probabilities [N, classes].
    """
    lam = float(torch.distributions.Beta(alpha, alpha).sample())
    order = torch.randperm(len(images), device=images.device)
    targets = F.one_hot(labels, n_classes).to(images.dtype)
    return lam * images + (1 - lam) * images[order], lam * targets + (1 - lam) * targets[order]


def top1(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of the batch whose highest logit is the label, percent; NaN where an image has no highest logit."""
    highest, best = logits.max(dim=1)  # NaN or infinite as soon as one of them is, but for minus infinity
    return (best == labels).double().where(highest.isfinite(), torch.nan).mean() * 100
