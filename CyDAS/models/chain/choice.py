"""Architectures that cost what they shall: the most probable of a mixture, and random ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from CyDAS.models.chain.alphas import from_columns
from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED, Architecture
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.utils.errors import CydasError

#: Least and most that an architecture may cost.
Window = tuple[float, float]

#: Steps of cost over a network's range in the search for the best sum: finer than 0.01 percent of any network.
_STEPS = 20_000
#: Random architectures that are drawn at a time, and how often, before a window counts as empty.
_DRAWS, _ROUNDS = 10_000, 100


@torch.no_grad()
def preferred_within(mixtures: Sequence[Tensor], table: CostTable, window: Window) -> Architecture:
    """The most probable architecture whose cost lies in ``window``, by dynamic programming over blocks and cost.

    Costs are rounded to steps, so that one within a ten-thousandth of the window's ends may be missed. Raises
    :class:`CydasError` for a window without any architecture.
    """
    scores = torch.cat([mixture.double().cpu().clamp_min(1e-300).log() for mixture in mixtures])
    scores[:: table.depth, -1] = float("-inf")  # a stage's first block
    step = table.range[1] / _STEPS
    steps = (torch.cat(list(table.stages)) / step).round().long()
    best, choices = _best_sums(scores, steps)
    slack = step * len(scores) / 2
    for cost in best.argsort(descending=True).tolist():
        if not torch.isfinite(best[cost]):
            break
        if not window[0] - slack <= table.fixed + cost * step <= window[1] + slack:
            continue
        architecture = from_columns(_walk_back(choices, steps, cost).view(len(SEARCHED), -1).tolist())
        if window[0] <= table.of(architecture) <= window[1]:
            return architecture
    raise _nothing_in(window, table)


def _best_sums(scores: Tensor, steps: Tensor) -> tuple[Tensor, list[Tensor]]:
    """For every cost, in steps, the best sum of scores of one column a row; and each row's column in it."""
    best = torch.full((int(steps.max(dim=1).values.sum()) + 1,), float("-inf"), dtype=torch.float64)
    best[0], choices = 0.0, []
    for row_scores, row_steps in zip(scores, steps, strict=True):
        candidates = torch.full((len(row_scores), len(best)), float("-inf"), dtype=torch.float64)
        for column, (score, cost) in enumerate(zip(row_scores.tolist(), row_steps.tolist(), strict=True)):
            candidates[column, cost:] = best[: len(best) - cost] + score
        best, chosen = candidates.max(dim=0)
        choices.append(chosen)
    return best, choices


def _walk_back(choices: list[Tensor], steps: Tensor, cost: int) -> Tensor:
    """The columns, first row to last, of the best sum at ``cost``."""
    columns = []
    for chosen, row in zip(reversed(choices), reversed(steps.tolist()), strict=True):
        columns.append(int(chosen[cost]))
        cost -= row[columns[-1]]
    return torch.tensor(columns[::-1])


def random_architecture(table: CostTable, window: Window, generator: torch.Generator) -> Architecture:
    """One of the architectures whose cost lies in ``window``: a stage's number of blocks is drawn, then its operations.

    Within the window all keep the probability that they have without it. Raises :class:`CydasError` where none of a
    million draws lies in it.
    """
    for _ in range(_ROUNDS):
        stages, costs = [], torch.full((_DRAWS,), float(table.fixed), dtype=torch.float64)
        for costs_of_stage in table.stages:
            columns = torch.randint(len(OPERATIONS), (_DRAWS, table.depth), generator=generator)
            blocks = torch.randint(1, table.depth + 1, (_DRAWS, 1), generator=generator)
            columns[torch.arange(table.depth) >= blocks] = len(OPERATIONS)
            costs += costs_of_stage[torch.arange(table.depth), columns].sum(dim=1)
            stages.append(columns)
        inside = ((costs >= window[0]) & (costs <= window[1])).nonzero()
        if len(inside):
            return from_columns([stage[inside[0, 0]].tolist() for stage in stages])
    raise _nothing_in(window, table)


def _nothing_in(window: Window, table: CostTable) -> CydasError:
    low, high = map(table.say, window)
    return CydasError(f"no network of this space was found that costs {low} to {high}; they cost {table.say_range()}")
