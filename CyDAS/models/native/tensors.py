"""Tensors as the native kernels take them: NHWC, channels a multiple of 4, large buffers used again and again."""

import ctypes
import weakref
from collections import defaultdict
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from CyDAS.models.native import library

SUFFIXES = {torch.float32: "float32", torch.float64: "float64"}
#: Below this size (bytes) PyTorch's own allocator is as fast.
LARGE = 1 << 20

_free: dict[int, list[int]] = defaultdict(list)


def is_native(x: Tensor) -> bool:
    """Whether the native kernels apply: float32 or float64 on a CPU, neither autocast nor tracing, and a library."""
    return (
        not torch.compiler.is_compiling()
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


def buffer(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """An uninitialised tensor. A large one takes the memory of an earlier one of its size that nobody holds any more.

    Memory fresh from the system is cleared page by page, which takes as long as much of the arithmetic.
    """
    size = prod(shape) * dtype.itemsize
    if size < LARGE:
        return torch.empty(shape, dtype=dtype)
    address = _take(size)
    lease = (ctypes.c_char * size).from_address(address)  # lives as long as the tensor's storage
    weakref.finalize(lease, _free[size].append, address).atexit = False
    return torch.frombuffer(lease, dtype=dtype).view(shape)


def _take(size: int) -> int:
    """The address of ``size`` bytes that nobody holds. Where new memory is needed, idle buffers of other sizes go."""
    try:
        return _free[size].pop()
    except IndexError:
        release_buffers()
    library().cydas_allocate.restype = ctypes.c_void_p
    address = library().cydas_allocate(ctypes.c_size_t(size))
    if not address:
        raise MemoryError(f"no memory for a buffer of {size} bytes")
    return address


def release_buffers() -> None:
    """Give the memory of all idle buffers back to the system."""
    for addresses in list(_free.values()):
        while addresses:
            library().cydas_release(ctypes.c_void_p(addresses.pop()))
