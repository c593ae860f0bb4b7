"""A network for evaluation only: batch norms folded into the convolutions before them."""

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_conv_bn_weights

from CyDAS.models.cells.operations import FactorizedReduce


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
        elif isinstance(module, FactorizedReduce):
            _fold_halves(module)


def _fold_sequence(layers: nn.Sequential) -> None:
    for index, (first, second) in enumerate(zip(layers[:-1], layers[1:], strict=True)):
        if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
            layers[index], layers[index + 1] = fuse_conv_bn_eval(first, second), nn.Identity()


def _fold_halves(module: FactorizedReduce) -> None:
    """Two convolutions, one batch norm over both: each takes the half of it that is its own."""
    bn, start = module.bn, 0
    for name in ("conv1", "conv2"):
        conv = getattr(module, name)
        own = slice(start, start + conv.out_channels)
        start += conv.out_channels
        affine = (None, None) if bn.weight is None else (bn.weight[own], bn.bias[own])
        weight, bias = fuse_conv_bn_weights(
            conv.weight, None, bn.running_mean[own], bn.running_var[own], bn.eps, *affine
        )
        with torch.no_grad():
            conv.weight = nn.Parameter(weight.detach(), requires_grad=False)
            conv.bias = nn.Parameter(bias.detach(), requires_grad=False)
    module.bn = nn.Identity()
