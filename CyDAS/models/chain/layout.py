"""The macro-structure of the chain space's two networks in a search: which block is how wide, and where it halves."""

from dataclasses import dataclass
from typing import NamedTuple

from CyDAS.models.chain.architecture import MAX_BLOCKS, STRIDES, WIDTHS

#: Of a search: its second distillation head needs 2x2 pixels at 1/16.
SMALLEST_IMAGE = 32


class BlockShape(NamedTuple):
    """Widths and stride of one block."""

    c_in: int
    c_out: int
    stride: int

    @property
    def may_be_left_out(self) -> bool:
        """Whether its output is like its input: so it is for all but a stage's first block."""
        return self.stride == 1 and self.c_in == self.c_out


@dataclass(frozen=True)
class ChainLayout:
    """Everything that fixes the shape of both networks. Raises ``ValueError`` where none of this shape exists."""

    depth: int = 4  #: blocks of a stage of the search network: the most that a found network can have
    c_last: int = 960  #: channels of stage 6
    n_classes: int = 1000
    input_channels: int = 3
    image_size: int = 224  #: height and width of an image, pixels

    def __post_init__(self):
        for name in ("c_last", "n_classes", "input_channels", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 1 <= self.depth <= MAX_BLOCKS:
            raise ValueError(f"a stage has 1 to {MAX_BLOCKS} blocks, not {self.depth}")

    @staticmethod
    def block(stage: int, index: int) -> BlockShape:
        """The shape of block ``index`` of a stage with a choice (1 to 5)."""
        width = WIDTHS[stage]
        return BlockShape(WIDTHS[stage - 1], width, STRIDES[stage]) if index == 0 else BlockShape(width, width, 1)

    def resolution(self, stage: int) -> int:
        """Height and width of a stage's output, pixels; -1 is the stem."""
        size = (self.image_size + 1) // 2
        for stride in STRIDES[: stage + 1]:
            size = (size + stride - 1) // stride
        return size

    def stage_output(self, stage: int) -> tuple[int, int]:
        """(channels, height = width) of the output of stages 0 to 5."""
        return WIDTHS[stage], self.resolution(stage)
