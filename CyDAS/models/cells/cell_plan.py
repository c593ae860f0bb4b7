"""What the native step of a cell computes, in the native library's terms, and whether it still applies."""

import logging
from array import array
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor, nn

from CyDAS.models.cells.operations import ConvUnit, DilConv, FactorizedReduce, SepConv, Zero
from CyDAS.models.native.tensors import is_native, is_plain
from CyDAS.models.native.watch import SETTINGS, Parts, is_convolution

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

    def places(self) -> list[tuple[nn.Module, str] | None]:
        """Where depthwise, pointwise, second pointwise weight, gamma and beta are found."""
        weights = [(conv, "weight") if conv else None for conv in self.convolutions]
        return [*weights, (self.norm, "weight"), (self.norm, "bias")]

    def is_known(self, channels: int, stride: int) -> bool:
        """Whether the library computes this unit, on so many channels."""
        kernel, dilation, own_stride, dense = self.geometry()
        half = channels // 2
        depthwise, pointwise, second = self.convolutions
        if depthwise:
            shapes = is_convolution(depthwise, channels, channels, kernel, stride, dilation, groups=channels)
            shapes &= kernel in (3, 5) and dilation in (1, 2) and is_convolution(pointwise, channels, channels)
        elif dense:
            shapes = kernel in (1, 3, 5, 7, 9) and is_convolution(pointwise, channels, channels, kernel)
        else:
            shapes = 2 * half == channels and all(is_convolution(conv, channels, half) for conv in (pointwise, second))
        return shapes and own_stride == stride and self.norm.num_features == channels


class CellPlan:
    """What a cell consists of, in the native library's terms. Built once per cell.

    ``outputs``: how many of the nodes, the last ones, the cell gives out (default: all). ``holder``: the cell, whose
    child ``name`` holds all the operations, so that their replacement is noticed.
    Raises ``TypeError`` for an operation that the library does not know, ``ValueError`` for one that reads a later
    node.
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        channels: int,
        reduction: bool,
        outputs: int | None = None,
        holder: nn.Module | None = None,
        name: str = "",
    ):
        self.channels = channels
        self.stride = 2 if reduction else 1
        self.units: list[Unit] = []
        self.nodes = 1 + max(operation.node for operation in operations)
        self.outputs = outputs or self.nodes
        branches = [self._branch(index, operation) for index, operation in enumerate(operations)]
        rows = [row for row in branches if row]
        self.reads_second = any(operation.source == 1 for operation in operations)
        self.n_operations = len(operations)
        self.n_branches = len(rows)
        self.branches = array("q", (number for row in rows for number in row))
        self.geometry = array("q", (number for unit in self.units for number in unit.geometry()))
        places = [place for unit in self.units for place in unit.places()]
        roots = [getattr(holder, name)] if holder else [operation.module for operation in operations]
        self.parts = Parts(places, [unit.norm for unit in self.units], roots, holder)

    def _branch(self, index: int, operation: Operation) -> tuple[int, ...] | None:
        source, node, module = operation
        if not 0 <= source < node + 2:
            raise ValueError(f"node {node} cannot read state {source}")
        first, stride = len(self.units), self.stride if source < 2 else 1
        kind = {nn.MaxPool2d: MAX_POOL, nn.AvgPool2d: AVG_POOL, nn.Identity: IDENTITY}.get(type(module), CONVOLUTION)
        units = _units(module) if kind == CONVOLUTION else []
        strides = [stride, *[1] * (len(units) - 1)]
        known = all(unit.is_known(self.channels, own) for unit, own in zip(units, strides, strict=False))
        if kind != CONVOLUTION:
            known = _is_known_without_parameters(module, stride)
        if not known:
            raise TypeError(f"no native kernel, on {self.channels} channels with stride {stride}, for {module}")
        self.units.extend(units)
        is_zero = kind == CONVOLUTION and not units
        return None if is_zero else (source, node, kind, index, first, len(units))

    def applies(self, states: Tensor | Sequence[Tensor], training: bool, mixture: Sequence[Tensor] = ()) -> bool:
        """Whether the native step computes this cell here and now.

        ``states``: the cell's inputs, of [N, C, H, W], or the first of them; ``mixture``: what its operations will be
        multiplied by, in tensors of any shape.
        """
        first, *others = [states] if isinstance(states, Tensor) else states
        return (
            is_native(first, self.stride, training)
            and first.shape[1] == self.channels
            and all(is_plain(x, training) and _are_alike(x, first) for x in others)
            and all(is_plain(weights) and weights.is_floating_point() for weights in mixture)
            and self.parts.hold(first.dtype, training)
        )


class NoPlan(CellPlan):
    """Of a cell with an operation that the library does not know: PyTorch computes it."""

    def __init__(self) -> None:
        """There is nothing to be known: it never applies."""

    def applies(self, *_: Any, **__: Any) -> bool:
        return False


def plan_cell(operations: Sequence[Operation], channels: int, reduction: bool, **options: Any) -> CellPlan:
    """The plan of a cell; where it has an operation of somebody's own, :class:`NoPlan`, which is said once."""
    try:
        return CellPlan(operations, channels, reduction, **options)
    except TypeError as error:
        _say_once(str(error).rpartition(" for ")[2].partition("(")[0])
        return NoPlan()


@cache
def _say_once(operation: str) -> None:
    logging.getLogger("CyDAS").warning("no native kernel for %s: cells with it are computed by PyTorch", operation)


def _are_alike(x: Tensor, y: Tensor) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype


def _is_known_without_parameters(module: nn.Module, stride: int) -> bool:
    """Whether the library computes this pooling, or this identity."""
    if isinstance(module, nn.Identity):
        return True
    is_max = isinstance(module, nn.MaxPool2d)
    alike = nn.MaxPool2d(3, stride, 1) if is_max else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
    read = SETTINGS[type(module)]
    return read(vars(module)) == read(vars(alike))


def _units(module: nn.Module) -> list[Unit]:
    """The convolution units of an operation; none for ``none``. Raises ``TypeError`` for an unknown operation."""
    match module:
        case Zero():
            return []
        case SepConv():
            return [unit for half in module.net for unit in _units(half)]
        case DilConv():
            _, depthwise, pointwise, norm = _layers(module.net)
            return [Unit((depthwise, pointwise, None), norm)]
        case ConvUnit():
            _, convolution, norm = _layers(module.op)
            return [Unit((None, convolution, None), norm, dense=True)]
        case FactorizedReduce():
            return [Unit((None, module.conv1, module.conv2), module.bn)]
    raise TypeError(f"no native kernel for {type(module).__name__}")


def _layers(net: nn.Sequential) -> list[Any]:
    """The layers of an operation, each of the kind that the operation's class gives it."""
    return [*net]
