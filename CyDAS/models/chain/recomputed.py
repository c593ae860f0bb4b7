"""Convolutions that keep what their input is made of, not their input: cheap activations are computed twice."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

#: What a convolution's input is made of, to that input.
Make = Callable[..., Tensor]


def convolve(
    make: Make, sources: Sequence[Tensor], weight: Tensor, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """``conv2d(make(*sources), weight)``, of which only ``sources`` and ``weight`` are kept for the backward pass.

    ``make`` has no parameters and nothing random. Under autocast all of it is in the lower precision.
    """
    device = sources[0].device.type
    lower = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if lower else sources[0].dtype
    return _Convolution.apply(make, (stride, padding, groups), *(part.to(dtype) for part in (weight, *sources)))


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx, make: Make, shape: tuple[int, int, int], weight: Tensor, *sources: Tensor) -> Tensor:
        ctx.make, ctx.shape = make, shape
        ctx.save_for_backward(weight, *sources)
        return F.conv2d(make(*sources), weight, None, shape[0], shape[1], 1, shape[2])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, *sources = ctx.saved_tensors
        of_weight, *of_sources = ctx.needs_input_grad[2:]
        stride, padding, groups = ctx.shape
        with torch.enable_grad():
            leaves = [source.detach().requires_grad_(needs) for source, needs in zip(sources, of_sources, strict=True)]
            made = ctx.make(*leaves)
        by_made, by_weight, _ = torch.ops.aten.convolution_backward(
            gradient, made.detach(), weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups,
            [any(of_sources), of_weight, False],
        )  # fmt: skip
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(made, wanted, by_made) if wanted else ())
        return None, None, by_weight, *(next(found) if needs else None for needs in of_sources)
