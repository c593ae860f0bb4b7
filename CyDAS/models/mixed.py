"""A whole cell, search or evaluation, as one native step: the same numbers as its modules, sooner and in less memory.

The modules hold parameters and buffers and are the formula; what is here only gathers them and calls
``CyDAS/models/native``. Wherever the native step does not apply (other devices and types, autocast, no compiler) the
cell computes its formula with PyTorch.
"""

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from CyDAS.models.native.tensors import function, gradients_like, is_native, padded, pointer, to_nhwc
from CyDAS.models.operations import ConvUnit, DilConv, FactorizedReduce, SepConv, Zero
from CyDAS.models.projection import is_plain_norm

MAX_POOL, AVG_POOL, IDENTITY, CONVOLUTION = range(4)


class Operation(NamedTuple):
    """One operation on one edge of a cell."""

    source: int  #: the state that it reads: 0 and 1 are the cell's inputs (input 1 may be absent), 2 the first node
    node: int  #: the node that it is added to, counted from 0
    module: nn.Module


class Unit(NamedTuple):
    """ReLU, depthwise convolution (or a stride-2 choice of pixels), pointwise convolution, batch norm.

    Or, ``dense``, with a whole convolution of stride 1 in the pointwise one's place.
    """

    convolutions: tuple[nn.Conv2d | None, nn.Conv2d, nn.Conv2d | None]  #: depthwise, pointwise, second pointwise
    norm: nn.BatchNorm2d
    dense: bool = False

    def geometry(self) -> tuple[int, int, int, int]:
        """(kernel, dilation, stride, dense); kernel 0 where there is a choice of pixels."""
        if self.dense:
            return self.convolutions[1].kernel_size[0], 1, 1, 1
        depthwise = self.convolutions[0]
        return (depthwise.kernel_size[0], depthwise.dilation[0], depthwise.stride[0], 0) if depthwise else (0, 1, 2, 0)

    def places(self) -> list[tuple[dict, str]]:
        """Where depthwise, pointwise, second pointwise weight, gamma and beta are found; None where they are not."""
        norm = self.norm._parameters
        weights = [(conv._parameters, "weight") if conv else None for conv in self.convolutions]
        return [*weights, *((norm, name) if norm[name] is not None else None for name in ("weight", "bias"))]


class CellPlan:
    """What a cell consists of, in the native library's terms. Built once per cell.

    ``outputs``: how many of the nodes, the last ones, the cell gives out (default: all).
    Raises ``TypeError`` for an operation that the library does not know.
    """

    def __init__(self, operations: Sequence[Operation], channels: int, reduction: bool, outputs: int | None = None):
        self.channels = channels
        self.stride = 2 if reduction else 1
        self.units: list[Unit] = []
        self.nodes = 1 + max(operation.node for operation in operations)
        self.outputs = outputs or self.nodes
        rows = [self._branch(index, operation) for index, operation in enumerate(operations)]
        rows = [row for row in rows if row]
        self.n_operations = len(operations)
        self.n_branches = len(rows)
        self.branches = (ctypes.c_int64 * (6 * len(rows)))(*(number for row in rows for number in row))
        geometry = [number for unit in self.units for number in unit.geometry()]
        self.geometry = (ctypes.c_int64 * len(geometry))(*geometry)
        places = [place for unit in self.units for place in unit.places()]
        self.slots = [slot for slot, place in enumerate(places) if place]
        self.holders = [place for place in places if place]
        self.norms = [unit.norm for unit in self.units]
        if not all(is_plain_norm(norm) for norm in self.norms):
            raise TypeError("only batch norms with a momentum and running statistics")
        if len({(norm.eps, norm.momentum) for norm in self.norms}) > 1:
            raise TypeError("only batch norms of one kind")

    def _branch(self, index: int, operation: Operation) -> tuple[int, ...] | None:
        first = len(self.units)
        kind = {nn.MaxPool2d: MAX_POOL, nn.AvgPool2d: AVG_POOL, nn.Identity: IDENTITY}.get(type(operation.module))
        if kind is None:
            units = _units(operation.module)
            if not units:
                return None
            kind = CONVOLUTION
            self.units.extend(units)
        return operation.source, operation.node, kind, index, first, len(self.units) - first

    def applies(self, x: Tensor, training: bool) -> bool:
        """Whether the native step computes this cell on ``x``: [N, C, H, W] here and now."""
        alike = all(norm.training == training and norm.running_mean.dtype == x.dtype for norm in self.norms)
        return alike and is_native(x, self.stride, training)

    def parameters(self) -> list[Tensor]:
        """All parameters that there are, unit by unit."""
        return [holder[name] for holder, name in self.holders]

    def pointers(self, tensors: Sequence[Tensor | None]) -> ctypes.Array:
        """Five addresses a unit of parameters or of their gradients, 0 for what there is not."""
        addresses = (ctypes.c_int64 * (5 * len(self.units)))()
        for slot, tensor in zip(self.slots, tensors, strict=True):
            if tensor is not None:
                addresses[slot] = tensor.data_ptr()
        return addresses

    def buffer_pointers(self) -> ctypes.Array:
        """Three addresses a unit: running mean, running variance, number of batches."""
        names = ("running_mean", "running_var", "num_batches_tracked")
        addresses = [norm._buffers[name].data_ptr() for norm in self.norms for name in names]
        return (ctypes.c_int64 * len(addresses))(*addresses)


def _units(module: nn.Module) -> list[Unit]:
    """The convolution units of an operation; none for ``none``. Raises ``TypeError`` for an unknown operation."""
    if isinstance(module, Zero):
        return []
    if isinstance(module, SepConv):
        return [unit for half in module.net for unit in _units(half)]
    if isinstance(module, DilConv):
        _, depthwise, pointwise, norm = module.net
        if depthwise.kernel_size[0] not in (3, 5) or depthwise.dilation[0] > 2:
            raise TypeError(f"no native kernel for {depthwise}")
        return [Unit((depthwise, pointwise, None), norm)]
    if isinstance(module, ConvUnit):
        _, convolution, norm = module.op
        return [Unit((None, convolution, None), norm, dense=True)]
    if isinstance(module, FactorizedReduce):
        return [Unit((None, module.conv1, module.conv2), module.bn)]
    raise TypeError(f"no native kernel for {type(module).__name__}")


class _Cell(ctypes.Structure):
    """``Cell`` of native/cell.cpp."""

    _fields_ = [
        *(
            (name, ctypes.c_int64)
            for name in ("n", "h", "w", "c", "channels", "stride", "nodes", "n_branches", "n_units")
        ),
        *((name, ctypes.c_int64) for name in ("threads", "training", "weight_gradients", "mix_gradients")),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("branches", "geometry", "parameters", "buffers", "gradients")),
        *((name, ctypes.c_void_p) for name in ("input0", "input1", "output", "z", "mean", "inv_std")),
        *((name, ctypes.c_void_p) for name in ("mix", "drop", "grad_input0", "grad_input1", "grad_output", "grad_mix")),
    ]


def _call(plan: CellPlan, tensors: dict[str, Tensor | None], parameters, gradients, *, training: bool, backward: bool):
    """Run the native cell. ``tensors``: by the names of ``Cell``'s fields, images in NHWC."""
    output = tensors["output"]
    n, h, w, channels = output.shape
    weight_gradients = any(gradient is not None for gradient in gradients)
    arrays = [plan.branches, plan.geometry, plan.pointers(parameters), plan.buffer_pointers(), plan.pointers(gradients)]
    norm = plan.norms[0] if plan.norms else nn.BatchNorm2d(1)
    cell = _Cell(
        n, h, w, channels // plan.nodes, plan.channels, plan.stride, plan.nodes, plan.n_branches, len(plan.units),
        min(torch.get_num_threads(), n), training, weight_gradients, tensors.get("grad_mix") is not None,
        norm.eps, norm.momentum, *map(ctypes.addressof, arrays),
        **{name: pointer(tensor) for name, tensor in tensors.items()},
    )  # fmt: skip
    function("cell", output.dtype)(ctypes.byref(cell), int(backward))


def _forward(
    plan, training, keep, drop, input0, input1, mix, parameters
) -> tuple[dict[str, Tensor | None], list[Tensor]]:
    """The tensors and parameters of a forward pass; without ``keep`` no pointwise outputs: there is no way back."""
    parameters = [p.contiguous() for p in parameters]
    c = padded(plan.channels)
    input0, input1 = to_nhwc(input0), None if input1 is None else to_nhwc(input1)
    n, h, w = len(input0), input0.shape[1] // plan.stride, input0.shape[2] // plan.stride
    output = input0.new_empty(n, h, w, plan.nodes * c)
    z = input0.new_empty(len(plan.units), n, h, w, c) if keep else None
    mean, inv_std = input0.new_empty(2, len(plan.units), c)
    tensors = {"input0": input0, "input1": input1, "output": output, "z": z, "mean": mean, "inv_std": inv_std}
    tensors |= {"mix": mix.contiguous(), "drop": drop}
    _call(plan, tensors, parameters, [None] * len(parameters), training=training, backward=False)
    return tensors, parameters


class _CellFunction(torch.autograd.Function):
    """Keeps for backward the states, each unit's pointwise output and its batch statistics."""

    @staticmethod
    def forward(ctx, plan, training, drop, input0, input1, mix, *parameters):
        tensors, parameters = _forward(plan, training, True, drop, input0, input1, mix, parameters)
        ctx.plan, ctx.training, ctx.names = plan, training, list(tensors)
        ctx.save_for_backward(*tensors.values(), *parameters)
        return _from_nhwc(tensors["output"], plan)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        plan, wanted = ctx.plan, ctx.needs_input_grad
        saved = ctx.saved_tensors  # read once: checkpointing computes them again
        tensors, parameters = dict(zip(ctx.names, saved, strict=False)), saved[len(ctx.names) :]
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
        _call(plan, tensors, parameters, gradients, training=ctx.training, backward=True)
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
    None, one more factor for each sample.
    """
    arguments = drop, *inputs, *[None] * (2 - len(inputs)), mix.to(inputs[0].dtype)
    if training or torch.is_grad_enabled():
        return _CellFunction.apply(plan, training, *arguments, *plan.parameters())
    tensors, _ = _forward(plan, training, False, *arguments, plan.parameters())
    return _from_nhwc(tensors["output"], plan)
