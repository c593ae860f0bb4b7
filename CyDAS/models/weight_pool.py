"""Weights of the evaluation network's operations, kept from the cycle that last chose them to the next that does."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from CyDAS.models.modules import Stages

#: Parameters and buffers of one operation, by their names within it.
OperationState = dict[str, Tensor]


class WeightPool:
    """A store of operation weights under the key ``stage.slot.<place in the cell>.<operation>``.

    It lies in main memory, outside every optimiser and graph, and holds only operations that were ever chosen.
    A cell of any space takes part by having ``named_operations()``. Where cells may be left out of a stage, each names
    its place among all that there may be, ``slot``; elsewhere that is its position.
    """

    def __init__(self) -> None:
        self._states: dict[str, OperationState] = {}

    def __len__(self) -> int:
        return len(self._states)

    @staticmethod
    def _operations(stages: Stages) -> Iterator[tuple[str, nn.Module]]:
        cell: Any  # of any space
        for stage, cells in enumerate(stages):
            for index, cell in enumerate(cells):
                slot = getattr(cell, "slot", index)
                for key, operation in cell.named_operations():
                    yield f"{stage}.{slot}.{key}", operation

    @torch.no_grad()
    def store(self, stages: Stages) -> None:
        """Keep a copy of every operation's parameters and buffers."""
        for key, operation in self._operations(stages):
            state = {name: tensor.to("cpu", copy=True) for name, tensor in operation.state_dict().items()}
            if state:
                self._states[key] = state

    @torch.no_grad()
    def fill(self, stages: Stages) -> int:
        """Give every operation that was chosen before its last weights; the others keep theirs. Returns how many."""
        known = [(key, operation) for key, operation in self._operations(stages) if key in self._states]
        for key, operation in known:
            operation.load_state_dict(self._states[key])
        return len(known)

    def state_dict(self) -> dict[str, OperationState]:
        return self._states

    def load_state_dict(self, states: dict[str, OperationState]) -> None:
        self._states = dict(states)
