"""What all search spaces have in common: unless they say so, no benchmark knows them and they keep no state."""

from typing import Any

from CyDAS.models.joint import JointNetwork
from CyDAS.runs.weights import PLAIN_KEY


class SearchSpace:
    """The base of a space; what else it must have is :class:`CyDAS.engine.updates.Space`."""

    #: Under which name checkpoints of trained networks hold the weights, as the published ones of the family do.
    weights_name = PLAIN_KEY

    def after_alphas(self, joint: JointNetwork) -> None:
        """To be told of every update of the architecture parameters that was taken. It must not wait for the device."""

    def figures(self, joint: JointNetwork, architecture: Any) -> dict[str, float]:
        """What else a finished round, which prefers ``architecture``, shows."""
        return {}

    def costs(self, architecture: Any) -> dict[str, Any]:
        """What else a result says of the architecture that was found."""
        return {}

    def to_state(self, architecture: Any) -> dict[str, str]:
        """An architecture as a search's checkpoint holds it, with all that the rest of the search depends on."""
        return self.to_strings(architecture)

    def known(self, architecture: Any) -> Any:
        """What a benchmark says of an architecture, where there is one: :class:`CyDAS.engine.updates.Known`."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """What the rest of a search depends on and no network holds; it is in the search's checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go back to a saved state; an empty one where the checkpoint is older than it."""
