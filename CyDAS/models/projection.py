"""ReLU, 1x1 convolution, batch norm in one native step: the two preprocessings of a cell's inputs."""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from CyDAS.models.native.tensors import (
    differentiable_once,
    function,
    gradients_like,
    is_native,
    padded,
    pointer,
    to_nchw,
    to_nhwc,
)
from CyDAS.models.native.threads import shares
from CyDAS.models.native.watch import BUFFERS, Parts, is_convolution


class _Call(ctypes.Structure):
    """``ProjectionCall`` of native/projection.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("n", "h", "w", "c", "channels", "in_c", "in_channels")),
        *((name, ctypes.c_int64) for name in ("stride", "parts", "threads", "training", "weight_gradients")),
        ("eps", ctypes.c_double),
        ("momentum", ctypes.c_double),
        *((name, ctypes.c_void_p) for name in ("weight", "weight2", "gamma", "beta")),
        *((name, ctypes.c_void_p) for name in ("running_mean", "running_var", "batches", "grad_gamma", "grad_beta")),
        *((name, ctypes.c_void_p) for name in ("input", "output", "z", "mean", "inv_std")),
        *((name, ctypes.c_void_p) for name in ("grad_output", "grad_input", "grad_weight", "grad_weight2")),
    ]


class ProjectionPlan:
    """The modules of a preprocessing, and whether the native step stands for them. Built once.

    ``convolutions``: one, or with stride 2 two, those on even and on odd pixels, whose outputs lie side by side;
    ``holder``: whose children ``modules`` are, all that the step replaces.
    Raises ``TypeError`` for modules that the library does not know.
    """

    def __init__(
        self, convolutions: Sequence[nn.Conv2d], norm: nn.BatchNorm2d, holder: nn.Module, modules: Sequence[nn.Module]
    ):
        self.stride = len(convolutions)
        self.in_channels = convolutions[0].in_channels
        self.channels = norm.num_features
        own = self.channels // self.stride
        if not all(is_convolution(convolution, self.in_channels, own) for convolution in convolutions):
            raise TypeError("only 1x1 convolutions without a bias")
        weights = [(convolution, "weight") for convolution in convolutions] + [None] * (2 - self.stride)
        self.norm = norm
        self.parts = Parts([*weights, (norm, "weight"), (norm, "bias")], [norm], modules, holder)

    def applies(self, x: Tensor) -> bool:
        training = self.norm.training
        fits = is_native(x, self.stride, training) and x.shape[1] == self.in_channels
        return fits and self.parts.hold(x.dtype, training)

    def parameters(self) -> list[Tensor | None]:
        """Both weights, gamma, beta; None for what there is not."""
        found = iter(self.parts.parameters())
        return [next(found) if slot in self.parts.slots else None for slot in range(4)]


def project(x: Tensor, plan: ProjectionPlan) -> Tensor | None:
    """``norm(conv(relu(x)))``; with two convolutions those on even and on odd pixels, side by side.

    ``x``: [N, C_in, H, W]. None where the native step does not apply; PyTorch says what is wrong, if anything is.
    """
    if not plan.applies(x):
        return None
    training, parameters = plan.norm.training, plan.parameters()
    if training or torch.is_grad_enabled():
        return _Projection.apply(plan.norm, training, x, *parameters)
    return _forward(plan.norm, training, False, x, parameters)[0]


def _run(
    norm, training: bool, tensors: dict[str, Tensor | None], parameters, gradients, shape, *, backward: bool
) -> None:
    """``shape``: the output's, NHWC."""
    weight, weight2, gamma, beta = parameters
    stride = 1 if weight2 is None else 2
    n, h, w, c = shape
    pointers = dict(weight=weight, weight2=weight2, gamma=gamma, beta=beta)
    if not backward:
        pointers |= dict(zip(("running_mean", "running_var", "batches"), map(norm._buffers.get, BUFFERS), strict=True))
    pointers |= dict(zip(("grad_weight", "grad_weight2", "grad_gamma", "grad_beta"), gradients, strict=True)) | tensors
    call = _Call(
        n, h, w, c, norm.num_features, padded(weight.shape[1]), weight.shape[1], stride,
        *shares(n), training, any(g is not None for g in gradients[:2]), norm.eps, norm.momentum,
        **{name: pointer(tensor) for name, tensor in pointers.items()},
    )  # fmt: skip
    function("projection", weight.dtype)(ctypes.byref(call), int(backward))


def _forward(norm, training: bool, keep: bool, x: Tensor, parameters) -> tuple[Tensor, dict[str, Tensor | None], list]:
    """Output, what a backward pass needs (without ``keep`` not all of it: there is no way back), and parameters."""
    parameters = [None if p is None else p.contiguous() for p in parameters]
    stride = 1 if parameters[1] is None else 2
    image = to_nhwc(x)
    shape = len(image), image.shape[1] // stride, image.shape[2] // stride, padded(norm.num_features)
    output, z = x.new_empty(shape), x.new_empty(shape) if keep else None
    mean, inv_std = x.new_empty(2, shape[-1])
    tensors = {"input": image, "z": z, "mean": mean, "inv_std": inv_std}
    _run(norm, training, tensors | {"output": output}, parameters, [None] * 4, shape, backward=False)
    return to_nchw(output, norm.num_features), tensors, parameters


class _Projection(torch.autograd.Function):
    """Keeps its input, the convolution's output z and z's statistics."""

    @staticmethod
    def forward(ctx, norm, training, x, *parameters):
        output, tensors, kept = _forward(norm, training, True, x, parameters)
        ctx.norm, ctx.training, ctx.names = norm, training, list(tensors)
        ctx.save_for_backward(*tensors.values(), *kept)
        return output

    @staticmethod
    @differentiable_once
    def backward(ctx, grad):
        wanted = ctx.needs_input_grad
        saved = ctx.saved_tensors  # read once: checkpointing computes them again
        tensors, parameters = dict(zip(ctx.names, saved, strict=False)), saved[len(ctx.names) :]
        gradients = gradients_like(parameters, wanted[3:])
        image = tensors["input"]
        tensors["grad_output"] = to_nhwc(grad)
        if wanted[2]:
            tensors["grad_input"] = torch.empty_like(image)
            if parameters[1] is not None:
                tensors["grad_input"].zero_()  # not every pixel is read with a stride
        _run(ctx.norm, ctx.training, tensors, parameters, gradients, tensors["z"].shape, backward=True)
        grad_input = to_nchw(tensors["grad_input"], parameters[0].shape[1]) if wanted[2] else None
        return None, None, grad_input, *gradients
