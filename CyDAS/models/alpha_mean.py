"""Architecture parameters averaged over the last rounds of a search."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def choices(architecture: nn.Module) -> dict[str, Tensor]:
    """The parameters by their names; a space whose softmax leaves something out has a method of this name."""
    own = getattr(architecture, "choices", None)
    return own() if own else dict(architecture.named_parameters())


@torch.no_grad()
def mean_alphas(kept: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Alphas whose softmax is the mean of ``kept``, softmaxes by their parameters' names."""
    means = {name: torch.stack([each[name] for each in kept]).mean(dim=0) for name in kept[0]}
    return {name: mean.clamp_min(torch.finfo(torch.float32).tiny).log() for name, mean in means.items()}


class AlphaMean:
    """``softmax`` of the architecture parameters in the last rounds; with one round, those that there are."""

    def __init__(self, rounds: int):
        self.rounds = rounds
        self._kept: list[dict[str, Tensor]] = []

    @torch.no_grad()
    def add(self, architecture: nn.Module) -> None:
        """At the end of a round."""
        own = {name: alpha.double().softmax(dim=-1).cpu() for name, alpha in choices(architecture).items()}
        self._kept = [*self._kept, own][-self.rounds :]

    @torch.no_grad()
    def apply(self, architecture: nn.Module) -> dict[str, Tensor]:
        """Put in alphas whose softmax is the mean; returns the module's own, for ``load_state_dict``."""
        own = {name: value.clone() for name, value in architecture.state_dict().items()}
        if self.rounds > 1 and self._kept:
            means = mean_alphas(self._kept)
            for name, parameter in architecture.named_parameters():
                parameter.copy_(means[name])
        return own

    def state_dict(self) -> list[dict[str, Tensor]]:
        return self._kept if self.rounds > 1 else []

    def load_state_dict(self, kept: list[dict[str, Tensor]]) -> None:
        self._kept = list(kept)
