"""The architecture parameters of the chain space, what they weigh and what they prefer."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from CyDAS.models.chain.architecture import IDENTITY, OPERATIONS, SEARCHED, Architecture, without_gaps
from CyDAS.models.joint import Alphas

#: Columns of alpha: the operations, then the identity.
COLUMNS = len(OPERATIONS) + 1


class ArchitectureParameters(nn.ParameterList, Alphas):
    """One alpha a stage with a choice, [blocks, 7]; the identity, the last column, is not for a stage's first block.

    The identity starts with as much weight as all operations together: whether there is a block is as open as which
    one it is. With a seventh only, what a search prefers would be deep and made of the cheapest operations.
    """

    def __init__(self, depth: int):
        super().__init__(nn.Parameter(1e-3 * torch.randn(depth, COLUMNS)) for _ in SEARCHED)
        with torch.no_grad():
            for alpha in self:
                alpha[:, IDENTITY] += math.log(len(OPERATIONS))

    def choices(self) -> dict[str, Tensor]:
        """The alphas by their names, minus infinity where there is no choice."""
        return {name: p.masked_fill(_no_choice(p), float("-inf")) for name, p in self.named_parameters()}

    def mixtures(self) -> list[Tensor]:
        """``softmax(alpha)`` of each stage, 0 where there is no choice. In float32 at least, also under autocast."""
        return [alpha.softmax(dim=-1) for alpha in self.choices().values()]


def _no_choice(alpha: Tensor) -> Tensor:
    mask = torch.zeros_like(alpha, dtype=torch.bool)
    mask[0, IDENTITY] = True
    return mask


@torch.no_grad()
def preferred(mixtures: Sequence[Tensor]) -> Architecture:
    """Each block's most probable operation, where it more probably has one than not. ``mixtures``: [blocks, 7] for
    each stage with a choice.
    """
    stages = []
    for mixture in mixtures:
        operations = mixture[:, :IDENTITY].argmax(dim=-1)
        stages.append(torch.where(mixture[:, IDENTITY] > 0.5, IDENTITY, operations).tolist())
    return from_columns(stages)


def from_columns(stages: Sequence[Sequence[int]]) -> Architecture:
    """The architecture of each stage's blocks' columns; identities are left out."""
    chosen = [[IDENTITY if column in (IDENTITY, len(OPERATIONS)) else column for column in stage] for stage in stages]
    return without_gaps([[0], *chosen, [0]])


def one_hot(architecture: Architecture, depth: int) -> list[Tensor]:
    """The mixtures that are an architecture: [depth, 7] for each stage with a choice; blocks it lacks are identities.

    Raises ``ValueError`` where a stage has more blocks than ``depth``.
    """
    mixtures = [torch.zeros(depth, COLUMNS) for _ in SEARCHED]
    for mixture, stage in zip(mixtures, SEARCHED, strict=True):
        operations = architecture.stages[stage]
        if len(operations) > depth:
            raise ValueError(f"stage {stage} has {len(operations)} blocks, the networks of this layout have {depth}")
        columns = [*operations, *[IDENTITY] * (depth - len(operations))]
        mixture[torch.arange(depth), columns] = 1.0
    return mixtures
