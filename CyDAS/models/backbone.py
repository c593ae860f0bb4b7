"""Backbones: a found network without its head, giving features at strides 4, 8, 16 and 32 to detectors and segmenters.

Each family of networks has its own, in its folder.
"""

from typing import Any

from torch import Tensor, nn

#: How many times smaller than the image each feature is.
STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """What every backbone has. It loads the weights of a classifier too: what belongs to the head is left out."""

    #: The first names of a classifier's parts that a backbone does not have, with their dots.
    head_parts: tuple[str, ...] = ()
    strides: tuple[int, ...] = STRIDES
    channels: tuple[int, ...]  #: of each feature
    recipe: dict[str, Any] | None = None  #: what it was made from, in plain values, where a user has named it

    def __init__(self):
        super().__init__()
        self.register_load_state_dict_pre_hook(_leave_out_head)

    def without_head(self, weights: dict[str, Any]) -> dict[str, Any]:
        """A classifier's weights without those that have no place here."""
        return {name: value for name, value in weights.items() if not name.startswith(self.head_parts)}

    def features(self, x: Tensor) -> list[Tensor]:
        """``x``: [N, C, H, W]. One [N, channels, H / stride, W / stride] for each of ``strides``."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.features(x)


def _leave_out_head(module: Backbone, weights: dict[str, Any], prefix: str, *_: Any) -> None:
    """:meth:`Backbone.without_head` on the loader's own copy, in which a parent's ``prefix`` may stand."""
    for name in [name for name in weights if name.startswith(tuple(prefix + part for part in module.head_parts))]:
        del weights[name]


def check_size(x: Tensor) -> None:
    """Cells halve a state in two halves that must be alike. Raises ``ValueError`` for other sizes."""
    height, width = x.shape[-2:]
    if height % STRIDES[-1] or width % STRIDES[-1]:
        raise ValueError(
            f"height and width must be multiples of {STRIDES[-1]}, not {height} and {width}: pad the image"
        )
