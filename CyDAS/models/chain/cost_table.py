"""What a chain costs, from a table computed once: expected under a mixture, of an architecture, and its range."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from CyDAS.models.chain.alphas import one_hot
from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED, Architecture
from CyDAS.models.chain.blocks import Classifier, Stem, make_operation
from CyDAS.models.chain.layout import BlockShape, ChainLayout
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_macs

#: Units of costs, and how much one of them is: millions of operations, milliseconds.
UNITS = {"M": 1e6, "ms": 1.0}
#: Counts a module's cost for one image or state of [C, H, W]: MACs, or the FLOPs of the published tables.
Counter = Callable[[nn.Module, tuple[int, int, int]], int]


class CostTable:
    """The cost of every block and of the parts that are in every network, in the way of ``unit``.

    Counted costs are of one image at the layout's resolution. A block's cost depends on its stage and on whether it is
    the first one, not on the blocks around it: sums of the table are what is counted of the whole network, exactly
    (float64 holds whole numbers up to 2**53).
    """

    def __init__(self, fixed: float, stages: Sequence[Tensor], unit: str = "M"):
        """``fixed``: of stem, stages 0 and 6 and head. ``stages``: one [blocks, 7] in float64 for each stage with a
        choice: the operations, then the identity, which costs nothing. ``unit``: one of :data:`UNITS`.
        """
        self.fixed = fixed
        self.stages = list(stages)
        self.unit = unit
        self.depth = len(self.stages[0])
        self._placed = {torch.device("cpu"): torch.stack(self.stages)}

    @classmethod
    def of_blocks(cls, fixed: float, blocks: Sequence[Sequence[Sequence[float]]], depth: int, unit: str) -> "CostTable":
        """``blocks``: of each stage with a choice, the operations' costs as its first block and as a later one."""
        stages = [[[*row, 0.0] for row in (first, *[later] * (depth - 1))] for first, later in blocks]
        return cls(fixed, [torch.tensor(stage, dtype=torch.float64) for stage in stages], unit)

    @classmethod
    def counted(cls, layout: ChainLayout, count: Counter = count_macs) -> "CostTable":
        """Multiply-accumulates, unless they are counted otherwise."""
        with torch.device("meta"):
            stem, classifier = Stem(layout.input_channels), Classifier(layout)
        image, state = (layout.input_channels, layout.image_size), layout.stage_output(SEARCHED[-1])
        fixed = count(stem, _square(*image)) + count(classifier, _square(*state))
        return cls.of_blocks(fixed, [_block_costs(layout, stage, count) for stage in SEARCHED], layout.depth, "M")

    def expected(self, mixtures: Sequence[Tensor]) -> Tensor:
        """The cost expected under ``mixtures``, [blocks, 7] for each stage: a scalar, to be differentiated by them."""
        device = mixtures[0].device
        if device not in self._placed:  # once: a copy to the device would hold up every step
            self._placed[device] = self._placed[torch.device("cpu")].to(device)
        return self.fixed + (self._placed[device] * torch.stack(list(mixtures))).sum()

    def of(self, architecture: Architecture) -> float:
        """The cost of an architecture. Raises ``ValueError`` for one that is deeper than the layout."""
        return float(self.expected(one_hot(architecture, self.depth)))

    @property
    def range(self) -> tuple[float, float]:
        """The least and the most that a network of the search can cost."""
        lowest = sum(float(table[0, :-1].min()) for table in self.stages)
        highest = sum(float(table[:, :-1].max(dim=1).values.sum()) for table in self.stages)
        return self.fixed + lowest, self.fixed + highest

    def in_units(self, cost: float) -> float:
        """A cost in millions or milliseconds."""
        return cost / UNITS[self.unit]

    def say(self, cost: float) -> str:
        """A cost as it is written."""
        value = self.in_units(cost)
        return f"{value:.1f} {self.unit}" if value >= 100 else f"{value:.3g} {self.unit}"

    def say_range(self) -> str:
        lowest, highest = map(self.say, self.range)
        return f"{lowest} to {highest}"

    def check_target(self, target: float) -> None:
        """Raise :class:`CydasError` for a target that no network of the space has, with those that there are."""
        lowest, highest = self.range
        if not lowest <= target <= highest:
            raise CydasError(
                f"no network of this space costs {self.say(target)}: they cost {self.say_range()} at this image size "
                f"and with {self.depth} blocks a stage"
            )


def places(layout: ChainLayout, stage: int) -> list[tuple[BlockShape, tuple[int, int, int]]]:
    """Shape and input, [C, H, W], of a stage's first block and of a later one."""
    found = []
    for index in (0, 1):
        shape, size = layout.block(stage, index), layout.resolution(stage if index else stage - 1)
        found.append((shape, _square(shape.c_in, size)))
    return found


def _square(channels: int, size: int) -> tuple[int, int, int]:
    return channels, size, size


def _block_costs(layout: ChainLayout, stage: int, count: Counter) -> list[list[int]]:
    """The operations as a stage's first block, and as a later one."""
    rows = []
    for shape, state in places(layout, stage):
        with torch.device("meta"):
            blocks = [make_operation(shape, operation) for operation in range(len(OPERATIONS))]
        rows.append([count(block, state) for block in blocks])
    return rows
