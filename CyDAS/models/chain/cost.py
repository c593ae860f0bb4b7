"""What a network of the chain space costs, as the papers of this family count it."""

import copy
from math import prod

import torch
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn


def _convolution(module: nn.Conv2d, x: Tensor, y: Tensor) -> int:
    taps = prod(module.kernel_size) * module.in_channels // module.groups
    return y.numel() * (taps + (module.bias is not None))


def _per_input(module: nn.Module, x: Tensor, y: Tensor) -> int:
    return x.numel()


#: What each kind of module counts, from its input and output.
_RULES = {
    nn.Conv2d: _convolution,
    nn.Linear: lambda module, x, y: module.in_features * y.numel(),
    nn.BatchNorm2d: lambda module, x, y: 2 * y.numel(),
    nn.ReLU: _per_input,
    nn.AdaptiveAvgPool2d: _per_input,
    SqueezeExcite: _per_input,  # its mean over the map; what is inside it counts by itself
}


def count_published_flops(network: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of a chain network for one image [C, H, W], as the published tables have them (ptflops of 2020).

    Multiply-accumulates of convolutions and linear layers, and beside them 1 an output element of a convolution with
    a bias, 2 an element of a batch norm, 1 an element of a ReLU and an input element of an average pooling. Swish,
    gates, products and additions count nothing. It exceeds :func:`CyDAS.utils.profile.count_macs` by 4 to 5 percent.
    """
    network, counts = copy.deepcopy(network).to("meta").eval(), []
    for module in network.modules():
        for kind, rule in _RULES.items():
            if isinstance(module, kind):
                module.register_forward_hook(
                    lambda module, inputs, output, rule=rule: counts.append(rule(module, inputs[0], output))
                )
    with torch.no_grad():
        network(torch.zeros(1, *image_shape, device="meta"))
    return sum(counts)
