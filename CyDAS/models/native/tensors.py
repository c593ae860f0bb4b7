"""Tensors as the native kernels take them: NHWC, channels a multiple of 4."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from CyDAS.models.native import library

SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}


def is_native(x: Tensor, stride: int = 1, training: bool = False) -> bool:
    """Whether the native kernels apply to images ``x``, [N, C, H, W], that are halved with ``stride`` 2.

    They take float32 or float64 on a CPU, outside of autocast and tracing, where there is a library. Odd sizes, and
    training on a single value, are left to PyTorch, which says what is wrong with them.
    """
    n, _, height, width = x.shape
    fits = height % stride == width % stride == 0
    enough = not training or n * height * width // stride**2 >= 2
    return (
        fits
        and enough
        and not torch.compiler.is_compiling()
        and x.dtype in SUFFIXES
        and x.device.type == "cpu"
        and not torch.is_autocast_enabled("cpu")
        and library() is not None
    )


def function(name: str, dtype: torch.dtype):
    """The library's function for tensors of ``dtype``."""
    return getattr(library(), f"cydas_{name}_{SUFFIXES[dtype]}")


def padded(channels: int) -> int:
    """Channels in memory: the kernels read whole vectors of 4."""
    return -(-channels // 4) * 4


def to_nhwc(x: Tensor) -> Tensor:
    """``[N, C, H, W]`` to ``[N, H, W, padded(C)]``, contiguous, further channels zero."""
    missing = padded(x.shape[1]) - x.shape[1]
    x = x.permute(0, 2, 3, 1)
    return (nn.functional.pad(x, (0, missing)) if missing else x).contiguous()


def to_nchw(x: Tensor, channels: int) -> Tensor:
    """The inverse of :func:`to_nhwc`: ``[N, H, W, padded(C)]`` to ``[N, C, H, W]`` in channels-last order."""
    return x[..., :channels].contiguous().permute(0, 3, 1, 2)


def pointer(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def gradients_like(parameters: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Uninitialised gradients of the wanted parameters, cut from one buffer."""
    chosen = [p for p, want in zip(parameters, wanted, strict=True) if want]
    if not chosen:
        return [None] * len(parameters)
    flat = chosen[0].new_empty(sum(p.numel() for p in chosen))
    pieces = iter(torch._utils._unflatten_dense_tensors(flat, chosen))
    return [next(pieces) if want else None for want in wanted]
