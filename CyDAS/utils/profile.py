"""Parameters and multiply-accumulates of a network, peak memory of a process."""

import copy
import resource
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from thop import profile
    from thop.vision.basic_hooks import count_convNd, count_linear


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def count_macs(network: nn.Module, input_shape: Sequence[int], *further: Any) -> int:
    """Multiply-accumulates of all convolutions and linear layers for one image [C, H, W], in eval mode.

    ``further``: arguments of ``network`` behind the image. Batch norms, poolings and activations are not counted, as is
    the custom of the field.
    """
    # On the meta device nothing is computed, and every module is called (on CPUs whole cells run as one native step).
    network = copy.deepcopy(network).to("meta").eval()
    uncounted = (nn.BatchNorm2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.MaxPool2d, nn.ReLU)
    rules: dict[type[nn.Module], Callable[[Any, Any, Any], None]]
    rules = {kind: lambda module, inputs, output: None for kind in uncounted}
    for module in network.modules():  # thop knows PyTorch's own classes alone, not those that are derived from them
        for kind, rule in ((nn.Conv2d, count_convNd), (nn.Linear, count_linear)):
            if isinstance(module, kind):
                rules[type(module)] = rule
    inputs = torch.zeros(1, *input_shape, device="meta"), *further
    macs, _ = profile(network, inputs=inputs, custom_ops=rules, verbose=False)
    return int(macs)


def peak_memory(device: torch.device) -> float:
    """The most memory, MB, that this process has used so far: the GPU's on a GPU, else its own."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device) / 2**20
    # Not getrusage's where it can be helped: that starts with the peak of the process from which this one was forked.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 1024)
