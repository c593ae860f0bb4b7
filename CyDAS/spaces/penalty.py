"""The penalty of the spaces of cells: on operations without weights, falling to nothing (paper section 3.3)."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from CyDAS.config import SearchConfig
from CyDAS.models.joint import JointNetwork


class Progress(NamedTuple):
    """How far a search has come, and by which flags it goes."""

    config: SearchConfig
    epoch: int  #: counts all epochs of joint learning, warm-up rounds as many as cycles


def regulariser_strength(
    epoch: int, pretrain_epochs: int, search_iter: int, search_iter_epochs: int, ratio: float, coefficient: float
) -> float:
    """The regulariser's factor: ``coefficient``, falling linearly to 0 over the first ``ratio`` of the cycles' epochs.

    ``epoch`` counts all epochs, those of the warm-up rounds included.
    """
    duration = (search_iter - pretrain_epochs) * search_iter_epochs * ratio
    return coefficient * max(1 - (epoch - pretrain_epochs) / duration, 0.0)


def strength_at(progress: Progress) -> float:
    """The regulariser's factor at this time; 0 without ``--regular``, and in DARTS, which has none."""
    config = progress.config
    return (
        config.regular
        and config.method == "cdarts"
        and regulariser_strength(
            progress.epoch,
            config.pretrain_epochs,
            config.search_iter,
            config.search_iter_epochs,
            config.regular_ratio,
            config.regular_coeff,
        )
    )


def falling_penalty(joint: JointNetwork, progress: Progress, regulariser: Callable[[JointNetwork], Tensor]) -> Tensor:
    """With ``--regular``, the regulariser times its strength at this time; else 0."""
    if not progress.config.regular or progress.config.method != "cdarts":
        return torch.zeros((), device=joint.ensemble_param.device)
    return strength_at(progress) * regulariser(joint)
