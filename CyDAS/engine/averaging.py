"""The weights of a training: those that are trained and, with a decay, their running mean over the updates."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from CyDAS.runs.checkpoint import buffers_of, set_buffers
from CyDAS.runs.weights import AVERAGED_KEY, PLAIN_KEY, load_weights


class Weights:
    """A network and, where ``ema_decay`` is above 0, timm's running mean of its parameters and buffers.

    The mean starts at the weights as they are; every update leaves ``ema_decay`` of it. It is never compiled.
    """

    def __init__(self, network: nn.Module, ema_decay: float = 0.0, plain_name: str = PLAIN_KEY):
        """``plain_name``: where checkpoints of this family hold the plain weights."""
        self.network = network
        self.plain_name = plain_name
        self.average = _mean_of(network, ema_decay) if ema_decay else None

    def update(self) -> None:
        """After every update of the network."""
        if self.average:
            self.average.update(self.network)

    def networks(self) -> dict[str, nn.Module]:
        """The plain one and, where there is one, the averaged, by their names in checkpoints."""
        averaged = {AVERAGED_KEY: self.average.module} if self.average else {}
        return {self.plain_name: self.network} | averaged

    def reported(self) -> nn.Module:
        """The network whose results count: the averaged one where there is one."""
        return [*self.networks().values()][-1]

    def state_dicts(self) -> dict[str, dict[str, Tensor]]:
        return {name: network.state_dict() for name, network in self.networks().items()}

    def load(self, content: dict[str, Any], path: Path) -> None:
        """Take over :meth:`state_dicts` from a checkpoint's content. Raises ``KeyError`` where one is missing."""
        for name, network in self.networks().items():
            load_weights(network, content[name], path)

    def buffers(self) -> dict[str, Any]:
        """What differs between processes within an epoch: batch norm statistics above all."""
        plain, *averaged = map(buffers_of, self.networks().values())
        return {"buffers": plain} | ({"average_buffers": averaged[0]} if averaged else {})

    def set_buffers(self, own: dict[str, Any]) -> None:
        """Put back what :meth:`buffers` returned."""
        for name, network in zip(("buffers", "average_buffers"), self.networks().values(), strict=False):
            set_buffers(network, own[name])


def _mean_of(network: nn.Module, decay: float) -> Any:
    from timm.utils import ModelEmaV3  # late: timm takes seconds to import

    return ModelEmaV3(network, decay=decay)
