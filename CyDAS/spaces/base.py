"""What a search space is to the search and to the programs. An architecture is opaque to them.

Unless a space says so, no benchmark knows its architectures and it keeps no state.
"""

from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from CyDAS.config import CommonConfig
from CyDAS.data import LabelledImages
from CyDAS.models.heads import RetrainedNetwork
from CyDAS.models.joint import JointNetwork
from CyDAS.runs.weights import PLAIN_KEY
from CyDAS.spaces.penalty import Progress, falling_penalty, strength_at
from CyDAS.utils.errors import CydasError


class Known(Protocol):
    """What a benchmark says of an architecture; as a string, in one line."""

    @property
    def arch(self) -> str: ...
    @property
    def accuracies(self) -> dict[str, float]: ...  # percent
    def as_dict(self) -> dict[str, Any]: ...


class SearchSpace:
    """The base of a space, which must have all that raises ``NotImplementedError`` here."""

    #: Under which name checkpoints of trained networks hold the weights, as the published ones of the family do.
    weights_name = PLAIN_KEY
    #: The flags that say how large a network is.
    sizes: tuple[str, ...] = ("init_channels", "cells_per_stage")
    #: Of the operations of :meth:`changes` one that passes its input on, where there are too many changes to try all.
    shortcut: int | None = None

    # -- networks ------------------------------------------------------------------------------------------------

    @classmethod
    def from_config(cls, config: CommonConfig, data: LabelledImages) -> "SearchSpace":
        """The space for the flags of any program. Raises :class:`CydasError` where they make none."""
        raise NotImplementedError

    def build(self) -> JointNetwork:
        """Both networks of a search; the evaluation network is empty until :meth:`set_evaluation`."""
        raise NotImplementedError

    def set_evaluation(self, joint: JointNetwork, architecture: Any) -> None:
        """Give the joint network a freshly initialised evaluation network of this architecture."""
        raise NotImplementedError

    def retrain_network(self, architecture: Any, auxiliary: bool) -> RetrainedNetwork:
        """The network of an architecture as it is trained by itself, with an ``auxiliary`` head."""
        raise NotImplementedError

    # -- architecture parameters ---------------------------------------------------------------------------------

    def discretise(self, joint: JointNetwork) -> Any:
        """The architecture that the search network now prefers. Raises :class:`CydasError` for alphas not finite."""
        raise NotImplementedError

    def changes(self, joint: JointNetwork) -> list[tuple[Any, int]]:
        """Every (place, operation) that :meth:`changed` takes, in the order of :func:`least_decided_first`, but those
        first that change more of a network.

        Raises :class:`CydasError` where the space has no places that can be changed one at a time.
        """
        raise CydasError("--finalist_sweep: this space has no places whose operations could be changed one at a time")

    def changed(self, architecture: Any, place: Any, operation: int) -> Any:
        """The architecture with another operation in one place, and all others as they are."""
        raise NotImplementedError

    @staticmethod
    def preferred(alphas: dict[str, Tensor], state: dict[str, Any] | None = None) -> Any:
        """What the state dict of a search's architecture parameters prefers, with the :meth:`state_dict` of its space.

        Raises ``RuntimeError`` for another.
        """
        raise NotImplementedError

    def penalty(self, joint: JointNetwork, progress: Progress) -> Tensor:
        """What is added to the loss by which the architecture parameters learn: :meth:`regulariser`, falling to nothing
        over the first cycles, unless a space has another.
        """
        return falling_penalty(joint, progress, self.regulariser)

    def penalty_constants(self, progress: Progress) -> Hashable:
        """What the penalty computes with beside tensors."""
        return strength_at(progress)

    def regulariser(self, joint: JointNetwork) -> Tensor:
        """What ``--regular`` holds down; a space with a penalty of its own has none."""
        raise NotImplementedError

    def alpha_entropy(self, joint: JointNetwork) -> float:
        """How undecided the search is: 1 is undecided, 0 decided."""
        raise NotImplementedError

    def after_alphas(self, joint: JointNetwork) -> None:
        """To be told of every update of the architecture parameters that was taken. It must not wait for the device."""

    def state_dict(self) -> dict[str, Any]:
        """What the rest of a search depends on and no network holds; it is in the search's checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state; an empty one where the checkpoint is older than it."""

    # -- architectures -------------------------------------------------------------------------------------------

    @staticmethod
    def parse(entries: Any, stages: int | None, source: str) -> Any:
        """The architecture that :meth:`to_strings` has written, for a network of so many stages, or of any.

        Raises :class:`CydasError` naming ``source``.
        """
        raise NotImplementedError

    @staticmethod
    def to_strings(architecture: Any) -> dict[str, str]:
        """An architecture as files hold it."""
        raise NotImplementedError

    def to_state(self, architecture: Any) -> dict[str, str]:
        """An architecture as a search's checkpoint holds it, with all that the rest of the search depends on."""
        return self.to_strings(architecture)

    @staticmethod
    def brief(architecture: Any) -> str:
        """It, on one line."""
        raise NotImplementedError

    @staticmethod
    def describe(architecture: Any) -> dict[str, int]:
        """How often each operation stands in it."""
        raise NotImplementedError

    @staticmethod
    def draw(architecture: Any, folder: Path, name: str) -> list[Path]:
        """Pictures of it, ``name`` in their names. Returns their paths."""
        raise NotImplementedError

    # -- what is said of architectures ---------------------------------------------------------------------------

    def figures(self, joint: JointNetwork, architecture: Any) -> dict[str, float]:
        """What else a finished round, which prefers ``architecture``, shows."""
        return {}

    def costs(self, architecture: Any) -> dict[str, Any]:
        """What else a result says of the architecture that was found."""
        return {}

    def known(self, architecture: Any) -> Known | None:
        """What a benchmark says of an architecture, where there is one."""
        return None


def least_decided_first(places: Iterable[tuple[Any, Tensor]]) -> list[tuple[Any, int]]:
    """Every (place, operation): the places whose two likeliest operations are the closest first, and of each the
    likelier operations first. ``places``: of each place its operations' weights.
    """
    rows = [(place, weights.sort(descending=True, stable=True)) for place, weights in places if len(weights) > 1]
    rows.sort(key=lambda row: row[1].values[0].item() - row[1].values[1].item())
    return [(place, operation) for place, row in rows for operation in row.indices.tolist()]
