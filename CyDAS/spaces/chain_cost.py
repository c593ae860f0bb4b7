"""What a found chain shall cost: from the flags of a search to a table of costs, a target, and a constraint."""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from CyDAS.config import SearchConfig
from CyDAS.models.chain.alphas import ArchitectureParameters, preferred
from CyDAS.models.chain.architecture import Architecture
from CyDAS.models.chain.choice import preferred_within
from CyDAS.models.chain.cost import count_published_flops
from CyDAS.models.chain.cost_constraint import CostConstraint
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.spaces.chain_latency import read_latency_table
from CyDAS.utils.errors import CydasError
from CyDAS.utils.present import present

#: What the letters behind a number say.
_LETTERS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
#: Flags of which a search takes one at most.
TARGETS = ("target_flops", "target_flops_published", "target_latency")


class CostAim:
    """Which architectures a search may find: all, or those that cost a target within a tolerance."""

    def __init__(self, table: CostTable, target: float | None = None, tolerance: float = 0.02):
        """``target``: as the table counts. Raises :class:`CydasError` for one that no network comes near enough."""
        self.table = table
        self.tolerance = tolerance
        self.constraint = None if target is None else CostConstraint(table, target)
        if target is not None:
            self.choose(ArchitectureParameters(table.depth).mixtures())  # there is one

    def choose(self, mixtures: Sequence[Tensor]) -> Architecture:
        """The most probable architecture that may be found. ``mixtures``: [blocks, 7] for each stage."""
        if self.constraint is None:
            return preferred(mixtures)
        target = self.constraint.target
        window = (1 - self.tolerance) * target, (1 + self.tolerance) * target
        return preferred_within(mixtures, self.table, window)

    def figures(self, mixtures: Sequence[Tensor], found: Architecture) -> dict[str, float]:
        """For the log: the cost expected, that of the architecture found, and the multiplier."""
        costs = {"expected": float(self.table.expected(mixtures)), "found": self.table.of(found)}
        figures = {f"cost/{name}_{self.table.unit}": self.table.in_units(cost) for name, cost in costs.items()}
        if self.constraint is None:
            return figures
        return figures | {"cost/multiplier": float(self.constraint.multiplier)}

    def state_dict(self) -> dict[str, Any]:
        """All of it, as plain values and tensors."""
        table, constraint = self.table, self.constraint
        state = {"fixed": table.fixed, "stages": table.stages, "unit": table.unit, "tolerance": self.tolerance}
        if constraint is None:
            return state
        return state | {"target": constraint.target, "multiplier": constraint.multiplier.detach().cpu().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a saved multiplier; all else follows from the flags, but for what a latency table says.

        Raises :class:`CydasError` where that is another than the search was begun with.
        """
        table = self.table
        costs = [torch.as_tensor(stage) for stage in state.get("stages", table.stages)]
        if state.get("fixed", table.fixed) != table.fixed or not torch.equal(
            torch.stack(costs), torch.stack(table.stages)
        ):
            raise CydasError("the operations' costs are not those that the search began with: was the table made anew?")
        if self.constraint is not None:
            self.constraint.multiplier = torch.as_tensor(state["multiplier"]).double()

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "CostAim":
        """The aim that was saved."""
        table = CostTable(state["fixed"], state["stages"], state["unit"])
        return cls(table, state.get("target"), state["tolerance"])


def make_aim(config: SearchConfig, layout: ChainLayout) -> CostAim:
    """What the flags of a search aim at. Raises :class:`CydasError` where no network can be found by them."""
    given = [name for name in TARGETS if getattr(config, name) is not None]
    if len(given) > 1:
        raise CydasError(f"{' and '.join(f'--{name}' for name in given)} are two targets: give one of them")
    if (config.target_latency is None) != (config.latency_table is None):
        raise CydasError("--target_latency and --latency_table belong together: milliseconds, and what takes how many")
    if config.target_latency is not None:
        table = read_latency_table(present(config.latency_table), layout)
        return CostAim(table, config.target_latency, config.target_tolerance)
    count = {"count": count_published_flops} if config.target_flops_published else {}
    target = read_amount(getattr(config, given[0]), given[0]) if given else None
    return CostAim(CostTable.counted(layout, **count), target, config.target_tolerance)


def read_amount(text: str, flag: str) -> float:
    """A number that may end in k, M or G. Raises :class:`CydasError` naming the flag for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?(?:[eE]\d+)?)\s?([kMG]?)", text.strip(), re.ASCII)
    value = float(match[1]) * _LETTERS[match[2]] if match else math.nan
    if not math.isfinite(value):
        raise CydasError(f"--{flag} is a number of operations like 294M, 0.3G or 294000000, not {text[:40]!r}")
    return value
