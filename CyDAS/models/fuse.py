"""A network for evaluation only: batch norms folded into the convolutions before them.

A module in which they do not follow each other in a ``Sequential`` has a ``fold_batch_norm()`` of its own.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights


def fold_batch_norms(network: nn.Module) -> None:
    """Fold every batch norm that follows a convolution into it, in place: the same outputs with fewer passes.

    The network must be in eval mode and cannot be trained afterwards. Cells notice, and compute their formula.
    Raises ``ValueError`` for a network in training mode.
    """
    if network.training:
        raise ValueError("batch norms can be folded in eval mode only")
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
        elif (fold := getattr(module, "fold_batch_norm", None)) is not None:
            fold()


def _fold_sequence(layers: nn.Sequential) -> None:
    for index, (first, second) in enumerate(zip(layers[:-1], layers[1:], strict=True)):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            layers[index], layers[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity()


@torch.no_grad()
def fold_into(convolutions: Sequence[nn.Conv2d], norm: nn.BatchNorm2d) -> None:
    """Fold a batch norm over several convolutions' outputs side by side into them, in place: each takes its own."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # what eval mode goes by
    start = 0
    for conv in convolutions:
        own = slice(start, start + conv.out_channels)
        start += conv.out_channels
        affine = (None, None) if norm.weight is None else (norm.weight[own], norm.bias[own])
        weight, bias = fuse_conv_bn_weights(conv.weight, None, mean[own], variance[own], norm.eps, *affine)
        conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
        conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
