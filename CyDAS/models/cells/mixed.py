"""A whole cell, search or evaluation, as one native step: the same numbers as its modules, sooner and in less memory.

The modules hold parameters and buffers and are the formula; what is here only gathers them and calls
``CyDAS/models/native``. Wherever the native step does not apply (other devices and types, autocast, changed modules, no
compiler) the cell computes its formula with PyTorch.
"""

import ctypes
import math
from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from CyDAS.models.cells.cell_plan import CellPlan, Operation
from CyDAS.models.native.tensors import differentiable_once, function, gradients_like, padded, pointer, to_nhwc
from CyDAS.models.native.threads import shares
from CyDAS.utils.present import present

__all__ = ["CellPlan", "Operation", "run_cell"]

#: How large a piece of the pointwise outputs may be.
PIECE_BYTES = 1 << 24


class _Cell(ctypes.Structure):
    """``Cell`` of native/cell.cpp."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("n", "h", "w", "c", "channels", "stride", "nodes", "n_branches", "n_units")
        ),
        *((name, ctypes.c_int64) for name in ("parts", "threads", "training", "weight_gradients", "mix_gradients")),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("branches", "geometry", "parameters", "buffers", "gradients", "z")),
        *((name, ctypes.c_void_p) for name in ("input0", "input1", "output", "mean", "inv_std")),
        *((name, ctypes.c_void_p) for name in ("mix", "drop", "grad_input0", "grad_input1", "grad_output", "grad_mix")),
    ]


def _call(
    plan: CellPlan, tensors: dict[str, Tensor | None], z, parameters, gradients, *, training: bool, backward: bool
):
    """Run the native cell. ``tensors``: by the names of ``Cell``'s fields, images in NHWC. ``z``: of ``_pieces``."""
    output = present(tensors["output"])
    n, h, w, channels = output.shape
    weight_gradients = any(gradient is not None for gradient in gradients)
    # a backward pass needs no running statistics, and its modules may have moved on
    statistics = [] if backward else [present(buffer).data_ptr() for buffer in plan.parts.buffers()]
    buffers = statistics or [0] * (3 * len(plan.units))
    addresses = [address for piece in z for address in _unit_addresses(piece)]
    lists = plan.parts.addresses(parameters), buffers, plan.parts.addresses(gradients), addresses
    arrays = [plan.branches, plan.geometry, *(array("q", numbers) for numbers in lists)]
    cell = _Cell(
        n, h, w, channels // plan.nodes, plan.channels, plan.stride, plan.nodes, plan.n_branches, len(plan.units),
        *shares(n), training, weight_gradients, tensors.get("grad_mix") is not None,
        *plan.parts.eps_and_momentum(), *(numbers.buffer_info()[0] if numbers else 0 for numbers in arrays),
        **{name: pointer(tensor) for name, tensor in tensors.items()},
    )  # fmt: skip
    function("cell", output.dtype)(ctypes.byref(cell), int(backward))


def _forward(
    plan, training, keep, drop, input0, input1, mix, parameters
) -> tuple[dict[str, Tensor | None], list[Tensor], list[Tensor]]:
    """The tensors, pointwise outputs and parameters of a forward pass; without ``keep`` none of the second: there is
    no way back.
    """
    parameters = [p.contiguous() for p in parameters]
    c = padded(plan.channels)
    input0, input1 = to_nhwc(input0), None if input1 is None else to_nhwc(input1)
    n, h, w = len(input0), input0.shape[1] // plan.stride, input0.shape[2] // plan.stride
    output = input0.new_empty(n, h, w, plan.nodes * c)
    z = _pieces(input0, len(plan.units), (n, h, w, c)) if keep else []
    mean, inv_std = input0.new_empty(2, len(plan.units), c)
    tensors = {"input0": input0, "input1": input1, "output": output, "mean": mean, "inv_std": inv_std}
    tensors |= {"mix": mix.contiguous(), "drop": drop}
    _call(plan, tensors, z, parameters, [None] * len(parameters), training=training, backward=False)
    return tensors, z, parameters


def _pieces(like: Tensor, units: int, shape: tuple[int, ...]) -> list[Tensor]:
    """What the pointwise outputs of so many units, [units, *shape], are written to: pieces [some units, *shape].

    What is larger than 32 MB glibc takes from the kernel and gives back, fresh pages in every step; pieces, if one
    unit is no larger, get those of the last step.
    """
    together = max(1, PIECE_BYTES // (math.prod(shape) * like.element_size()))
    return [like.new_empty(min(together, units - first), *shape) for first in range(0, units, together)]


def _unit_addresses(piece: Tensor) -> range:
    start = pointer(piece)
    return range(start, start + piece.nbytes, piece.nbytes // len(piece))


class _CellFunction(torch.autograd.Function):
    """Keeps for backward the states, each unit's pointwise output and its batch statistics."""

    @staticmethod
    def forward(ctx, plan, training, drop, input0, input1, mix, *parameters):
        tensors, z, kept = _forward(plan, training, True, drop, input0, input1, mix, parameters)
        ctx.plan, ctx.training, ctx.names, ctx.pieces = plan, training, list(tensors), len(z)
        ctx.save_for_backward(*tensors.values(), *z, *kept)
        return _from_nhwc(present(tensors["output"]), plan)

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        plan, wanted = ctx.plan, ctx.needs_input_grad
        saved = ctx.saved_tensors  # read once: checkpointing computes them again
        tensors, others = dict(zip(ctx.names, saved, strict=False)), saved[len(ctx.names) :]
        z, parameters = others[: ctx.pieces], others[ctx.pieces :]
        input0, mix = tensors["input0"], tensors["mix"]
        n, h, w, channels = tensors["output"].shape
        tensors["grad_output"] = grad.new_empty(n, h, w, channels)  # its own: the native step adds to it
        nodes = tensors["grad_output"].view(n, h, w, plan.nodes, -1)
        nodes[..., plan.channels :] = 0
        nodes[..., : -plan.outputs, :] = 0
        nodes[..., -plan.outputs :, : plan.channels] = grad.permute(0, 2, 3, 1).unflatten(
            3, (plan.outputs, plan.channels)
        )
        tensors["grad_input0"] = torch.zeros_like(input0)
        tensors["grad_input1"] = None if tensors["input1"] is None else torch.zeros_like(input0)
        tensors["grad_mix"] = torch.zeros_like(mix) if wanted[5] else None
        gradients = gradients_like(parameters, wanted[6:])
        _call(plan, tensors, z, parameters, gradients, training=ctx.training, backward=True)
        inputs = [
            tensors[name].permute(0, 3, 1, 2)[:, : plan.channels] if want else None
            for name, want in zip(("grad_input0", "grad_input1"), wanted[3:5], strict=True)
        ]
        return None, None, None, *inputs, tensors["grad_mix"], *gradients


def _from_nhwc(output: Tensor, plan: CellPlan) -> Tensor:
    """``[N, H, W, nodes * padded]`` to ``[N, outputs * C, H, W]`` (a view where all of it is given out)."""
    n, h, w, channels = output.shape
    nodes = output.view(n, h, w, plan.nodes, channels // plan.nodes)[..., -plan.outputs :, : plan.channels]
    return nodes.reshape(n, h, w, plan.outputs * plan.channels).permute(0, 3, 1, 2)


def run_cell(
    plan: CellPlan, inputs: Sequence[Tensor], mix: Tensor, training: bool, drop: Tensor | None = None
) -> Tensor:
    """The nodes that a cell gives out, ``[N, outputs * C, H, W]``. Only where ``plan.applies``.

    ``inputs``: one or two of [N, C, H, W]; ``mix``: [operations], what multiplies each; ``drop``: [operations, N] or
    None, one more factor for each sample. The result can be differentiated once.
    Raises ``RuntimeError`` for inputs or factors of other shapes.
    """
    first, *others = inputs
    fits = len(others) in ((1,) if plan.reads_second else (0, 1)) and mix.shape == (plan.n_operations,)
    fits &= all(x.shape == first.shape and x.dtype == first.dtype for x in others)
    if not fits or (drop is not None and drop.shape != (plan.n_operations, len(first))):
        shapes = ", ".join(str(tuple(x.shape)) for x in (*inputs, mix, drop) if x is not None)
        raise RuntimeError(f"a cell's inputs must be alike, with a factor for each operation: {shapes}")
    arguments = drop, first, others[0] if others else None, mix.to(first.dtype)
    if training or torch.is_grad_enabled():
        return _CellFunction.apply(plan, training, *arguments, *plan.parts.parameters())
    tensors, *_ = _forward(plan, training, False, *arguments, plan.parts.parameters())
    return _from_nhwc(present(tensors["output"]), plan)
