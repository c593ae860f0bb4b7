"""A search space of one's own, all of it: three places in a cell, one of four operations at each.

python CyDAS/search.py --extension demo/tiny_space.py --space tiny --cells_per_stage 1 --search_iter 32 --name tiny
"""

from torch import nn

from CyDAS.models.cells.operations import ConvUnit
from CyDAS.spaces import TableSpace, register_space

PLACES = ("first", "second", "third")
OPERATIONS = ("skip", "conv_1x1", "conv_3x3", "conv_5x5")


def make_operation(name, channels, affine):
    if name == "skip":
        return nn.Identity()
    return ConvUnit(channels, channels, int(name[-1]), 1, affine)


class SearchCell(nn.Module):
    """At each place ``x + sum_o weight_o * o(x)``."""

    def __init__(self, channels, affine):
        super().__init__()
        rows = [[make_operation(name, channels, affine) for name in OPERATIONS] for _ in PLACES]
        self.places = nn.ModuleList(nn.ModuleList(row) for row in rows)

    def forward(self, state, mixture):
        (x,) = state  # [N, C, H, W]
        for operations, weights in zip(self.places, mixture, strict=True):  # mixture: [places, operations]
            x = x + sum(weight * operation(x) for weight, operation in zip(weights, operations, strict=True))
        return (x,)


class EvaluationCell(nn.Module):
    """The same of the chosen operations."""

    def __init__(self, channels, architecture, affine):
        super().__init__()
        self.names = architecture
        self.layers = nn.ModuleList(make_operation(name, channels, affine) for name in architecture)

    def named_operations(self):  # what the weight pool keeps from cycle to cycle
        return [(f"{place}.{n}", layer) for place, n, layer in zip(PLACES, self.names, self.layers, strict=True)]

    def forward(self, state):
        (x,) = state
        for layer in self.layers:
            x = x + layer(x)
        return (x,)


@register_space("tiny")
class TinySpace(TableSpace):
    places, operations, penalised = PLACES, OPERATIONS, ("skip",)
    search_cell, evaluation_cell = SearchCell, EvaluationCell
