"""Crop, flip, normalisation and cutout of a batch in one native pass, to the same bits as with PyTorch's operations."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from CyDAS.models.native import library
from CyDAS.models.native.tensors import is_eager, is_plain, pointer
from CyDAS.models.native.threads import shares
from CyDAS.utils.present import present


class _Call(ctypes.Structure):
    """``AugmentCall`` of native/augment.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "c", "h", "w", "padding", "length", "plane", "pixel", "threads")),
        *((name, ctypes.c_void_p) for name in ("images", "rows", "columns", "mirrored", "top", "left")),
        *((name, ctypes.c_void_p) for name in ("normalised", "output")),
    ]


def applies(images: Tensor) -> bool:
    """Whether there is a native pass for these images, [N, C, H, W]."""
    if not (images.dtype == torch.uint8 and is_plain(images) and is_eager() and images.numel()):
        return False
    return library() is not None


def augment(
    images: Tensor, padding: int, window: Tensor, mirrored: Tensor | None, square: Sequence[Tensor], length: int,
    normalised: Tensor,
) -> Tensor:  # fmt: skip
    """Float32 images, in the memory format that PyTorch's operations give them. Only where :func:`applies`.

    ``window``: [2, N, 1], the row and column of the padded image in which each begins; ``mirrored``: [N] of bool;
    ``square``: [N, 1] twice, the row and column in which a square of ``length`` zeros begins; empty for none;
    ``normalised``: [C, 256], what becomes of a pixel. Raises ``ValueError`` for other shapes.
    """
    images, normalised = images.contiguous(), normalised.contiguous()
    n, c, h, w = images.shape
    fits = window.shape == (2, n, 1) and normalised.shape == (c, 256) and normalised.dtype == torch.float32
    fits = fits and all(x.shape == (n, 1) for x in square)
    if not fits or (mirrored is not None and mirrored.shape != (n,)):
        raise ValueError(f"a batch of {n} images of {c} channels needs as many windows, squares and tables")
    shape = (n, c, h, w) if square else (n, h, w, c)
    output = torch.empty(shape, dtype=torch.float32)
    output = output if square else output.permute(0, 3, 1, 2)
    rows, columns = window.unbind()
    top, left = square or (None, None)
    tensors = (images, rows, columns, mirrored, top, left, normalised, output)
    strides = output.stride(1), output.stride(3)
    call = _Call(n, c, h, w, padding, length if square else 0, *strides, shares(n)[1], *map(pointer, tensors))
    present(library()).cydas_augment(ctypes.byref(call))
    return output
