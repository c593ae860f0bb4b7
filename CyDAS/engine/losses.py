"""The losses of the search and of the retraining (paper section 3.3)."""

import torch
import torch.nn.functional as F
from torch import Tensor


def kd_loss(search: Tensor, evaluation: Tensor, interactive_type: int, temperature: float) -> Tensor:
    """How far the search network's KD input is from the evaluation network's, times temperature squared.

    ``search``, ``evaluation``: [M, classes]; both receive the gradient (the teacher is not detached).
    Type 0, with t = softmax(E / T) and s = softmax(S / T), is the mean over **all elements** of t (log t - log s).
    """
    search, evaluation = _full(search), _full(evaluation)
    match interactive_type:
        case 0:
            log_t = F.log_softmax(evaluation / temperature, dim=1)
            log_s = F.log_softmax(search / temperature, dim=1)
            loss = (log_t.exp() * (log_t - log_s)).mean()
        case 1:
            loss = -F.cosine_similarity(search, evaluation, dim=1, eps=1e-6).mean()
        case 2:
            loss = F.mse_loss(search, evaluation)
        case 3:
            loss = F.smooth_l1_loss(search, evaluation)
        case _:
            raise ValueError(f"interactive_type is 0 to 3, not {interactive_type}")
    return loss * temperature**2


def regulariser_strength(
    epoch: int, pretrain_epochs: int, search_iter: int, search_iter_epochs: int, ratio: float, coefficient: float
) -> float:
    """The regulariser's factor: ``coefficient``, falling linearly to 0 over the first ``ratio`` of the cycles' epochs.

    ``epoch`` counts all epochs, those of the warm-up rounds included.
    """
    duration = (search_iter - pretrain_epochs) * search_iter_epochs * ratio
    return coefficient * max(1 - (epoch - pretrain_epochs) / duration, 0.0)


def classification_loss(logits: Tensor, targets: Tensor, label_smooth: float = 0.0) -> Tensor:
    """Cross-entropy against ``(1 - e) * target + e / classes`` with e = ``label_smooth``.

    ``logits``: [N, classes]; ``targets``: [N] class indices or [N, classes] probabilities (mixup).
    """
    return F.cross_entropy(_full(logits), targets, label_smoothing=label_smooth)


def _full(x: Tensor) -> Tensor:
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
