"""Distillation: how the two networks of a search teach each other (paper section 3.3)."""

import torch.nn.functional as F
from torch import Tensor

from CyDAS.tasks.classification import full_precision


def kd_loss(search: Tensor, evaluation: Tensor, interactive_type: int, temperature: float) -> Tensor:
    """How far the search network's KD input is from the evaluation network's, times temperature squared.

    ``search``, ``evaluation``: [M, classes]; both receive the gradient (the teacher is not detached).
    Type 0, with t = softmax(E / T) and s = softmax(S / T), is the mean over **all elements** of t (log t - log s).
    """
    search, evaluation = full_precision(search), full_precision(evaluation)
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
