"""The cost term of a search: a constraint whose multiplier adapts, not a weight that has to be guessed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from CyDAS.models.chain.alphas import ArchitectureParameters
from CyDAS.models.chain.cost_table import CostTable

#: Excesses beyond this are far: 2 percent of the target.
NEAR = 0.02
#: No target needs alphas that differ by more than so many from the cheapest to the dearest operation: all of the
#: weight then is on one of them.
STEEPEST = 1000.0


class CostConstraint:
    """Expected cost = target, by an augmented Lagrangian (Hestenes 1969, Powell 1969).

    With g = expected / target - 1 the loss's term is ``lambda g + rho / 2 g^2``, and after each update of the
    architecture parameters lambda grows by ``rate * g``: it comes to rest where g is 0, whatever the loss pulls at.
    Where g is far from 0, lambda grows no faster than at :data:`NEAR`: it would be far too large when g gets there.
    """

    def __init__(self, table: CostTable, target: float, rho: float = 10.0, rate: float = 0.1):
        """``target``: as the table counts. Raises :class:`CydasError` for one that no network has."""
        table.check_target(target)
        self.table, self.target, self.rho, self.rate = table, target, rho, rate
        self.multiplier = torch.zeros((), dtype=torch.float64)  #: lambda, a checkpoint's to keep

    def excess(self, mixtures: Sequence[Tensor]) -> Tensor:
        """g, a scalar: 0.02 is a network 2 percent above the target."""
        return self.table.expected(mixtures) / self.target - 1

    def penalty(self, mixtures: Sequence[Tensor]) -> Tensor:
        """What is added to the loss: a scalar."""
        excess = self.excess(mixtures)
        self.multiplier = self.multiplier.to(excess.device)  # a copy in the first step only
        return (self.multiplier * excess + self.rho / 2 * excess**2).to(mixtures[0].dtype)

    @torch.no_grad()
    def adapt(self, mixtures: Sequence[Tensor]) -> None:
        """To be called after each update of the architecture parameters."""
        self.multiplier += self.rate * self.excess(mixtures).clamp(-NEAR, NEAR)

    @torch.no_grad()
    def start_from(self, alphas: ArchitectureParameters) -> None:
        """Shift alphas that say nothing yet so that the cost expected is the target.

        Each alpha falls in proportion to its cost: of all mixtures with this cost that is the one nearest to the start
        (in Kullback-Leibler divergence), as little as possible is decided before the search. Cheap targets favour the
        identity, dear ones avoid it.
        """
        before = [alpha.clone() for alpha in alphas]
        unit = max(float(costs.max()) for costs in self.table.stages)
        low, high = -STEEPEST, STEEPEST
        for _ in range(60):  # halves the interval: the cost falls with the slope
            slope = (low + high) / 2
            for alpha, start, costs in zip(alphas, before, self.table.stages, strict=True):
                alpha.copy_(start - slope * costs.to(alpha) / unit)
            low, high = (slope, high) if self.excess(alphas.mixtures()) > 0 else (low, slope)
