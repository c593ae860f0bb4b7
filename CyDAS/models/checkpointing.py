"""Activation checkpointing: a cell's inner tensors are not kept for the backward pass but computed again in it."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run(cell: nn.Module, again: bool, *inputs: Any) -> Any:
    """``cell(*inputs)``; with ``again`` the cell runs again in the backward pass instead of keeping its tensors.

    Outputs, gradients, random choices and running statistics are the same either way.
    """
    if not (again and torch.is_grad_enabled()):
        return cell(*inputs)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), _statistics_kept(cell)

    return checkpoint(cell, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def _statistics_kept(cell: nn.Module) -> Iterator[None]:
    """The second run moves copies of the running statistics: the first one has moved them already."""
    norms = [module for module in cell.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    buffers = [dict(norm._buffers) for norm in norms]
    for norm, own in zip(norms, buffers, strict=True):
        norm._buffers.update({name: tensor.clone() for name, tensor in own.items() if tensor is not None})
    try:
        yield
    finally:
        for norm, own in zip(norms, buffers, strict=True):
            norm._buffers.update(own)
