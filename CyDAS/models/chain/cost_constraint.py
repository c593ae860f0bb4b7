"""The cost term of a search: a constraint whose multiplier adapts, not a weight that has to be guessed."""

from collections.abc import Sequence

import torch
from torch import Tensor

from CyDAS.models.chain.cost_table import CostTable


class CostConstraint:
    """Expected cost = target, by an augmented Lagrangian (Hestenes 1969, Powell 1969).

    With g = expected / target - 1 the loss's term is ``lambda g + rho / 2 g^2``, and after each update of the
    architecture parameters lambda grows by ``rate * g``: it comes to rest where g is 0, whatever the loss pulls at.
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
        self.multiplier += self.rate * self.excess(mixtures)
