"""What makes a search depend less on chance: none of it is in the published method, all of it is off by default."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer
from torch.utils._pytree import tree_map_only

from CyDAS.data.loaders import seeded_generator
from CyDAS.models.alpha_mean import choices
from CyDAS.models.joint import Alphas

#: What mutations and sampled mixtures depend on beside the search's seed and its step.
STREAM, SAMPLING = 9, 11


def mutate(mixtures: Any, probability: float, *key: int) -> Any:
    """Mixtures in which an edge is, with a probability, one operation alone, drawn by its weights (EM-DARTS, 2024).

    ``mixtures``: tensors [edges, operations] in any nesting; one that stands in it several times is changed once. A
    row keeps its sum. ``key``: what the draw depends on, alike in all processes. The result has no gradient: this is
    for updates of weights.
    """
    if not probability:
        return mixtures
    generator, known = seeded_generator(*key), {}

    def change(mixture: Tensor) -> Tensor:
        if id(mixture) not in known:
            known[id(mixture)] = _mutated(mixture.detach(), probability, generator)
        return known[id(mixture)]

    return tree_map_only(Tensor, change, mixtures)


def _mutated(mixture: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    edges, operations = mixture.shape
    chances = torch.rand(edges, 1, generator=generator).to(mixture.device, non_blocking=True)
    noise = gumbel((edges, operations), generator).to(mixture, non_blocking=True)
    chosen = (mixture.log() + noise).argmax(dim=1, keepdim=True)
    alone = torch.zeros_like(mixture).scatter_(1, chosen, mixture.sum(dim=1, keepdim=True))
    return torch.where(chances < probability, alone, mixture)


def gumbel(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Noise: the largest of log(weight) + noise is each of several with its weight's probability."""
    return -(-torch.rand(*shape, generator=generator).clamp_min(1e-12).log()).log()


@torch.no_grad()
def add_noise(architecture: nn.Module, scale: float, generator: torch.Generator) -> None:
    """Gumbel noise of a scale on the trained architecture parameters that have a row for each edge or block."""
    for alpha in filter(_is_alpha, architecture.parameters()):
        alpha.add_((scale * gumbel(alpha.shape, generator)).to(alpha))


class _Mixtures(nn.Module):
    """Calls ``mixtures`` of architecture parameters, so that others can be put in their place."""

    def __init__(self, architecture: Alphas):
        super().__init__()
        self.architecture = architecture

    def forward(self) -> Any:
        return self.architecture.mixtures()


def sample_mixtures(architecture: Alphas, *key: int) -> Any:
    """``mixtures()`` with a sample of Dirichlet(elu(alpha) + 1) in the place of each row's softmax (DrNAS, 2021).

    It is differentiable by alpha. ``key``: what the draw depends on, alike in all processes.
    """
    alphas = {name: alpha for name, alpha in architecture.named_parameters() if _is_alpha(alpha)}
    device = next(iter(alphas.values())).device
    generator = torch.Generator(device).manual_seed(seeded_generator(*key).initial_seed())
    samples = {}
    for name, alpha in alphas.items():
        gammas = torch._standard_gamma(F.elu(alpha) + 1, generator).clamp_min(torch.finfo(alpha.dtype).tiny)
        samples[f"architecture.{name}"] = gammas.log()  # their softmax is the sample
    return functional_call(_Mixtures(architecture), samples, ())


def _is_alpha(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.dim() == 2


def growing(last: float, index: int, rounds: int) -> float:
    """From 0 in the first round to ``last`` in the last one, in equal steps."""
    return last * index / max(1, rounds - 1)


def mean_logsumexp(alphas: Sequence[Tensor]) -> Tensor:
    """Mean over all edges of ``log sum_o exp(alpha_o)``: beta-decay (Ye et al. 2022). ``alphas``: [edges, operations].

    Its gradient is softmax(alpha): it holds back what is ahead.
    """
    return torch.cat([alpha.logsumexp(dim=-1) for alpha in alphas]).mean()


def alphas_of(architecture: nn.Module) -> list[Tensor]:
    """The trained architecture parameters that have a row for each edge or block; edge weights (beta) have none."""
    return [alpha for alpha in choices(architecture).values() if _is_alpha(alpha)]


def keep_moments(old: Optimizer, new: Optimizer) -> None:
    """Give a new optimiser the old one's state of every parameter that both have."""
    for group in new.param_groups:
        for parameter in group["params"]:
            if parameter in old.state:
                new.state[parameter] = old.state[parameter]
