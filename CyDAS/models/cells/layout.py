"""How many cells, how wide, at which resolution: the shape of search and evaluation networks, and their stems."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

#: A cell concatenates its four intermediate nodes.
NODES = 4

#: What a cell passes on: the outputs of the last two cells (``[N, C, H, W]`` each).
State = tuple[Tensor, Tensor]


class CellShape(NamedTuple):
    """Widths and strides of one cell."""

    c_pp: int  #: channels of input 0, the output of cell k-2
    c_p: int  #: channels of input 1, the output of cell k-1
    channels: int  #: channels of a node
    halve_input0: bool  #: input 0 has twice the resolution of input 1
    reduction: bool  #: edges from the inputs have stride 2


@dataclass(frozen=True)
class Layout:
    """Everything that fixes the macro-structure of both networks (paper section 4.1, table of spec networks).

    Raises ``ValueError`` where no network of this shape exists.
    """

    model_type: str = "cifar"  #: ``cifar`` or ``imagenet``
    init_channels: int = 16  #: channels of a node in the first stage
    stem_multiplier: int = 3  #: the stem has stem_multiplier * init_channels channels
    layer_num: int = 3  #: number of stages
    n_classes: int = 10
    input_channels: int = 3
    image_size: int = 32  #: height and width of an image, pixels
    res_stem: bool = False  #: ImageNet only: the stem of a ResNet, reductions at the start of a stage

    def __post_init__(self):
        if self.model_type not in ("cifar", "imagenet"):
            raise ValueError(f"model_type is cifar or imagenet, not {self.model_type!r}")
        if self.res_stem and self.model_type == "cifar":
            raise ValueError("res_stem is an ImageNet stem: use it with model_type imagenet")
        for name in ("init_channels", "stem_multiplier", "n_classes", "input_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.layer_num < 3:
            raise ValueError(f"layer_num must be at least 3 (both heads sit after a stage), not {self.layer_num}")
        if self.init_channels % 2:
            raise ValueError(f"init_channels must be even (reductions split it in two), not {self.init_channels}")
        smallest = self.total_stride * (3 if self.model_type == "cifar" else 2)
        if self.image_size % self.total_stride or self.image_size < smallest:
            raise ValueError(
                f"image_size must be a multiple of {self.total_stride} and at least {smallest} "
                f"for this network (model_type {self.model_type}), not {self.image_size}: "
                f"{nearest_sizes(self.image_size, self.total_stride, smallest)}"
            )

    @property
    def search_cells(self) -> tuple[int, ...]:
        """Cells of the search network per stage."""
        return (2,) * self.layer_num if self.res_stem else (3,) * (self.layer_num - 1) + (2,)

    @property
    def evaluation_cells(self) -> tuple[int, ...]:
        """Cells of the evaluation network per stage."""
        if self.res_stem:
            return tuple(3 + stage % 2 for stage in range(self.layer_num))
        deep = 7 if self.model_type == "cifar" else 5
        return (deep,) * (self.layer_num - 1) + (deep - 1,)

    @property
    def stem_stride(self) -> int:
        """How much smaller than the image the first cell's input 1 is."""
        return {"cifar": 1, "imagenet": 4 if self.res_stem else 8}[self.model_type]

    @property
    def total_stride(self) -> int:
        return self.stem_stride * 2 ** (self.layer_num - 1)

    def has_reduction(self, stage: int) -> bool:
        """Whether a cell of the stage (counted from 0) halves the resolution."""
        return stage > 0 if self.res_stem else stage < self.layer_num - 1

    def shapes(self, cells_per_stage: tuple[int, ...]) -> list[list[CellShape]]:
        """The shape of every cell, stage by stage.

        The published bookkeeping at a stage's border, different for the two kinds of stem, is what follows from
        carrying the last two widths along: the reduction is a stage's last cell, with ``res_stem`` its first.
        """
        c_pp = c_p = self.stem_multiplier * self.init_channels
        channels = self.init_channels
        halve = self.model_type == "imagenet" and not self.res_stem  # stem0 is twice as large as stem1
        stages: list[list[CellShape]] = []
        for stage, cells in enumerate(cells_per_stage):
            where = 0 if self.res_stem else cells - 1
            stages.append([])
            for index in range(cells):
                reduction = self.has_reduction(stage) and index == where
                channels *= 2 if reduction else 1
                stages[-1].append(CellShape(c_pp, c_p, channels, halve, reduction))
                c_pp, c_p, halve = c_p, NODES * channels, reduction
        return stages

    def stage_output(self, stage: int) -> tuple[int, int]:
        """(channels, height = width) of a stage's last cell; stages count from 0."""
        halvings = sum(self.has_reduction(s) for s in range(stage + 1))
        return NODES * self.init_channels * 2**halvings, self.image_size // self.stem_stride // 2**halvings


def nearest_sizes(size: int, stride: int, smallest: int) -> str:
    """Which sizes a network takes that are next to one it does not: multiples of ``stride`` from ``smallest`` on."""
    below = max(smallest, size // stride * stride)
    return f"take {smallest}" if size < smallest else f"take {below} or {below + stride}"


class Stem(nn.ModuleList):
    """The first convolutions, shared by both networks: ``[N, C_in, H, W]`` to the first cell's two inputs."""

    def forward(self, x: Tensor) -> State:
        s0 = self[0](x)
        return s0, (self[1](s0) if len(self) > 1 else s0)


def make_stem(layout: Layout) -> Stem:
    """The stem of the layout; its batch norms are always affine."""
    c_in, c = layout.input_channels, layout.stem_multiplier * layout.init_channels

    def conv(c_in, c_out, kernel, stride):
        return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)

    if layout.model_type == "cifar":
        return Stem([nn.Sequential(conv(c_in, c, 3, 1), nn.BatchNorm2d(c))])
    if layout.res_stem:
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        return Stem([nn.Sequential(conv(c_in, c, 7, 2), nn.BatchNorm2d(c), nn.ReLU(), pool)])
    half = c // 2
    stem0 = [conv(c_in, half, 3, 2), nn.BatchNorm2d(half), nn.ReLU(), conv(half, c, 3, 2), nn.BatchNorm2d(c)]
    stem1 = [nn.ReLU(), conv(c, c, 3, 2), nn.BatchNorm2d(c)]
    return Stem([nn.Sequential(*stem0), nn.Sequential(*stem1)])
