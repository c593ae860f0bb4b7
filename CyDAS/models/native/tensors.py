"""Tensors as the native kernels take them: NHWC, channels a multiple of 4."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from CyDAS.models.native import library
from CyDAS.models.native.watch import PLAIN_TYPES
from CyDAS.utils.present import present

SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}


def is_native(x: Tensor, stride: int = 1, training: bool = False) -> bool:
    """Whether the native kernels apply to images ``x``, [N, C, H, W], that are halved with ``stride`` 2.

    They take float32 or float64 on a CPU, where there is a library, and where PyTorch would compute at once and for
    real: not under autocast, tracing, compilation, function transforms, forward-mode differentiation, with fake tensors
    or anyone who watches the operations. Empty batches, odd sizes, and training on a single value are left to PyTorch,
    which says what is wrong with them.
    """
    if not is_eager() or not is_plain(x, training) or x.ndim != 4 or x.dtype not in SUFFIXES:
        return False
    n, channels, height, width = x.shape
    fits = n and channels and height and width and height % stride == width % stride == 0
    enough = not training or n * height * width // stride**2 >= 2
    return bool(fits and enough and library() is not None)


def is_eager() -> bool:
    """Whether PyTorch computes at once, for real, and nobody watches or transforms its operations."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._len_torch_dispatch_stack()
        or torch._C._len_torch_function_stack()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )


def is_plain(x: Tensor, training: bool = False) -> bool:
    """Whether ``x`` is numbers in main memory and nothing else: no subclass, no lazy, sparse or wrapped tensor."""
    if type(x) not in PLAIN_TYPES:
        return False
    keys = torch._C._dispatch_keys(x).raw_repr()
    normal, inference = _plain_keys()
    # a tensor made in inference mode cannot be kept for a backward pass
    return keys == normal or (keys == inference and not training and not torch.is_grad_enabled())


@functools.cache
def _plain_keys() -> tuple[int, int]:
    """What PyTorch's dispatcher knows of a tensor in main memory; of one made in inference mode."""
    with torch.inference_mode(False):
        normal = torch.empty(0, device="cpu")
    with torch.inference_mode():
        inference = torch.empty(0, device="cpu")
    return torch._C._dispatch_keys(normal).raw_repr(), torch._C._dispatch_keys(inference).raw_repr()


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
    return (nn.functional.pad(x, (0, missing)) if missing else x).contiguous().resolve_neg()


def to_nchw(x: Tensor, channels: int) -> Tensor:
    """The inverse of :func:`to_nhwc`: ``[N, H, W, padded(C)]`` to ``[N, C, H, W]`` in channels-last order."""
    return x[..., :channels].contiguous().permute(0, 3, 1, 2)


def pointer(tensor: Tensor | None) -> int:
    """Where a tensor's numbers lie, 0 for None.

    Raises ``RuntimeError`` for one that has none in main memory, as a backward pass with fake tensors may make it.
    """
    if tensor is None:
        return 0
    if type(tensor) not in PLAIN_TYPES or not tensor.is_cpu or not (tensor.data_ptr() or tensor.numel() == 0):
        raise RuntimeError("the native step of a cell works on real tensors only: set CYDAS_NATIVE=0 for this")
    return tensor.data_ptr()


def differentiable_once(backward: Callable) -> Callable:
    """For the ``backward`` of a native step: its gradients are computed without a graph, and say so if one asks for it.

    PyTorch's own decorator takes them for constants where the incoming gradient is one.
    """

    @functools.wraps(backward)
    def compute(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        with torch.no_grad():
            gradients = backward(ctx, grad)
        if not torch.is_grad_enabled():  # nobody asks for a graph of this backward pass
            return gradients
        refuse = torch._C._functions.DelayedError(
            b"a native step of a cell can be differentiated once only: set CYDAS_NATIVE=0 for second derivatives",
            len(gradients),
        )
        leaves: list[Any]  # of None, too, which PyTorch's annotation leaves out
        leaves = [None if gradient is None else gradient.detach().requires_grad_() for gradient in gradients]
        return refuse(*leaves)

    return compute


def gradients_like(parameters: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[Tensor | None]:
    """Uninitialised gradients of the wanted parameters, cut from one buffer."""
    chosen = [present(p) for p, want in zip(parameters, wanted, strict=True) if want]
    if not chosen:
        return [None] * len(parameters)
    flat = chosen[0].new_empty(sum(p.numel() for p in chosen))
    pieces = iter(torch._utils._unflatten_dense_tensors(flat, chosen))
    return [next(pieces) if want else None for want in wanted]
