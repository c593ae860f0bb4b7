"""Optimisers, learning rates, and the one way in which parameters are updated."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, AdamW, Optimizer

from CyDAS.config import DetectConfig, RetrainConfig, SearchConfig, SegmentConfig, TrainingConfig
from CyDAS.data.batch import images_in, split
from CyDAS.models.joint import JointNetwork
from CyDAS.utils.distributed import all_sum, average_gradients
from CyDAS.utils.flags import some_of
from CyDAS.utils.present import present

#: Named scalars of a step, for the log.
Figures = dict[str, Tensor]
#: From a batch to a loss, the mean over the images, and figures.
LossOf = Callable[[Any], tuple[Tensor, Figures]]


class Precision:
    """Automatic mixed precision: off, bfloat16, or float16 with loss scaling."""

    def __init__(self, device: torch.device, enabled: bool, dtype: str):
        self.device = device
        self.enabled = enabled
        self.dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[dtype]
        self.scaler = torch.amp.GradScaler(device.type, enabled=enabled and dtype == "fp16")

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.enabled)


def learn(
    loss_of: LossOf, batch: Any, parts: int, optimisers: Sequence[Optimizer], max_norm: float,
    scaler: torch.amp.GradScaler, apart: bool = False, skip_bad: bool = False,
) -> tuple[Figures, Tensor]:  # fmt: skip
    """One :func:`update` by a batch that goes through the network in ``parts`` of at least two images, one by one.

    A part's share in loss and figures is that of its images. Returns the figures and the gradient's norm.
    """
    images = images_in(batch)
    parts = max(1, min(parts, images // 2))  # batch norm cannot take a single image
    totals: Figures = {}

    def losses() -> Iterable[Tensor]:
        for part in split(batch, parts):
            share = images_in(part) / images
            loss, figures = loss_of(part)
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + share * value.detach()
            yield share * loss

    norm = update(losses(), optimisers, max_norm, scaler, apart, skip_bad, images)
    return totals, norm


def update(
    losses: Iterable[Tensor],
    optimisers: Sequence[Optimizer],
    max_norm: float,
    scaler: torch.amp.GradScaler,
    apart: bool = False,
    skip_bad: bool = False,
    images: int = 1,
) -> Tensor:
    """Change exactly the parameters that the optimisers hold by the gradient of the sum of ``losses``.

    Each loss is differentiated before the next one is asked for, so that only one graph is in memory. No other gradient
    is computed, and a parameter that no loss depends on does not move. The gradients are averaged over all processes,
    each counting by its ``images``, and clipped to ``max_norm`` by their joint norm (``apart``: each optimiser's by its
    own). Returns the norm before clipping; 0 where the scaler leaves the update out, since float16 overflowed (which
    :class:`~CyDAS.engine.guard.StepGuard` sees by the scale).
    With ``skip_bad`` a loss or gradient that is not finite changes nothing.
    """
    groups = [[p for group in optimiser.param_groups for p in group["params"]] for optimiser in optimisers]
    parameters = [p for group in groups for p in group]
    total: Tensor | None = None
    for parameter in parameters:
        parameter.grad = None
    for loss in losses:
        gradients = torch.autograd.grad(scaler.scale(loss), parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        total = loss.detach() if total is None else total + loss.detach()
    average_gradients(parameters, images)
    if scaler.is_enabled():
        _share_overflow(groups)
    for optimiser in optimisers:
        scaler.unscale_(optimiser)
    norms = [clip_grad_norm_(group, max_norm) for group in (groups if apart else [parameters])]
    bad = False
    if skip_bad:
        finite = torch.isfinite(torch.stack([*norms, present(total)])).all()
        bad = float(all_sum((~finite).double())) > 0
    for optimiser in optimisers:
        if not bad:
            scaler.step(optimiser)  # which leaves out an overflow by itself
        optimiser.zero_grad(set_to_none=True)
    scaler.update()
    norm = torch.stack(norms).norm()
    return norm.nan_to_num(0.0, 0.0) if scaler.is_enabled() else norm


def _share_overflow(groups: Sequence[Sequence[Tensor]]) -> None:
    """Where any gradient has overflowed, put a NaN into each optimiser's: all leave this update out, or none."""
    owned = [[p.grad for p in group if p.grad is not None] for group in groups]
    poison = torch.nn.utils.get_total_norm([g for gradients in owned for g in gradients]) * 0.0
    for gradients in owned:
        for gradient in gradients[:1]:
            gradient += poison


def make_optimiser(
    parameters: Sequence[Any], lr: float, momentum: float, weight_decay: float, nesterov: bool = False
) -> Optimizer:
    """The optimiser of a network's weights, in a search as in a training: SGD with momentum.

    ``parameters``: tensors or, as PyTorch takes them, groups of them. ``foreach`` takes them all in one call for each
    operation, to the same bits, also on CPUs, where it is not PyTorch's default; ``fused`` is faster still there, and
    wrong (torch 2.14) where a gradient does not lie in memory as its parameter does.
    """
    return SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov, foreach=True)


def optimiser_of(network: nn.Module, config: RetrainConfig | DetectConfig | SegmentConfig) -> Optimizer:
    """The optimiser of a network's training, as the flags say; with ``--no_decay_1d`` it has two groups."""
    parameters: Sequence[Any] = list(network.parameters())
    if config.no_decay_1d:
        flat, others = ([p for p in parameters if (p.ndim < 2) == is_flat] for is_flat in (True, False))
        parameters = [{"params": flat, "weight_decay": 0.0}, {"params": others}]
    if config.optimizer == "sgd":
        nesterov = getattr(config, "nesterov", False)
        return make_optimiser(parameters, config.lr, config.momentum, config.weight_decay, nesterov)
    if config.optimizer == "adamw":
        return AdamW(parameters, config.lr, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)
    from timm.optim import create_optimizer_v2  # late: timm takes seconds to import

    return create_optimizer_v2(
        parameters, config.optimizer, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay,
        alpha=config.opt_alpha, eps=config.opt_eps,
    )  # fmt: skip


class SearchOptimisers:
    """The three optimisers of a cycle, made new in each: SGD for either network, Adam for the alphas.

    The stem stands in both SGDs, with a momentum in each; so does the last layer with ``share_fc``.
    """

    def __init__(self, joint: JointNetwork, config: SearchConfig):
        self.w = make_optimiser(joint.parameters_of("search"), config.w_lr, config.w_momentum, config.w_weight_decay)
        self.nas = make_optimiser(
            joint.parameters_of("evaluation"), config.nasnet_lr, config.w_momentum, config.w_weight_decay
        )
        alphas = joint.parameters_of("alphas")
        self.alpha = Adam(
            alphas, config.alpha_lr, betas=(0.5, 0.999), weight_decay=config.alpha_weight_decay,
            # it counts its steps on the device where CUDA graphs replay them, else on the host
            capturable=config.cuda_graphs and alphas[0].is_cuda,
        )  # fmt: skip

    def learning_rates(self) -> tuple[tuple[str, float], ...]:
        """Each optimiser's name and rate."""
        return tuple((name, optimiser.param_groups[0]["lr"]) for name, optimiser in vars(self).items())

    def set_lr(self, w: float, nas: float) -> None:
        for optimiser, lr in ((self.w, w), (self.nas, nas)):
            for group in optimiser.param_groups:
                group["lr"] = lr

    def set_alpha_lr(self, alpha: float) -> None:
        for group in self.alpha.param_groups:
            group["lr"] = alpha

    def state_dict(self) -> dict[str, dict]:
        return {name: optimiser.state_dict() for name, optimiser in vars(self).items()}

    def load_state_dict(self, states: dict[str, dict]) -> None:
        """Go back to saved states, whether or not CUDA graphs were used where they were saved."""
        capturable = self.alpha.param_groups[0]["capturable"]
        for name, optimiser in vars(self).items():
            optimiser.load_state_dict(states[name])
        self.alpha.param_groups[0]["capturable"] = capturable
        for parameter, state in self.alpha.state.items():
            state["step"] = state["step"].to(parameter.device if capturable else "cpu")


def scale_learning_rates(config: TrainingConfig | SegmentConfig | DetectConfig, processes: int) -> list[str]:
    """With ``--scale_lr``, multiply SGD's learning rates by the global batch over ``--reference_batch``.

    Linear scaling (Goyal et al. 2017); the architecture parameters' Adam keeps its rate. Returns lines for the log.
    """
    batch, meant = config.global_batch(processes), config.reference_batch
    if not config.scale_lr:
        differs = meant is not None and batch != meant
        return [f"the learning rates are meant for {meant} images an update, here are {batch}: --scale_lr"] * differs
    lines, factor = [], batch / present(meant)
    for name, rate in some_of(config, "w_lr", "w_lr_min", "nasnet_lr", "lr").items():
        setattr(config, name, rate * factor)
        lines.append(f"--{name} {rate * factor:g}: {rate:g} times {factor:g}, the global batch over --reference_batch")
    return lines


def cosine(start: float, end: float, progress: float) -> float:
    """From ``start`` at progress 0 to ``end`` at progress 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2
