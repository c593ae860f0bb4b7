"""Backbones: a found network without its head, giving features at strides 4, 8, 16 and 32 to detectors and segmenters.

A cell's output is a sum without an activation, as the next cell's operations start with one.
"""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any

from torch import Tensor, nn

from CyDAS.models import nats
from CyDAS.models.cells.genotype import Genotype
from CyDAS.models.cells.layout import NODES, Layout, make_stem
from CyDAS.models.cells.nasnet import make_evaluation_stages
from CyDAS.models.nats.architecture import Architecture

#: How many times smaller than the image each feature is.
STRIDES = (4, 8, 16, 32)


class Backbone(nn.Module):
    """What every backbone has. It loads the weights of a classifier too: what belongs to the head is left out."""

    #: The first names of a classifier's parts that a backbone does not have, with their dots.
    head_parts: tuple[str, ...] = ()
    strides: tuple[int, ...] = STRIDES
    channels: tuple[int, ...]  #: of each feature

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


def _check_size(x: Tensor) -> None:
    """Cells halve a state in two halves that must be alike. Raises ``ValueError`` for other sizes."""
    height, width = x.shape[-2:]
    if height % STRIDES[-1] or width % STRIDES[-1]:
        raise ValueError(
            f"height and width must be multiples of {STRIDES[-1]}, not {height} and {width}: pad the image"
        )


class CellBackbone(Backbone):
    """A network of DARTS cells. Its state dict is that of the network as it is retrained, without the heads.

    ``layout`` must reach stride 32 (model_type imagenet with 3 stages, or 4 with ``res_stem``), and has a genotype for
    each stage. Raises ``ValueError`` for another. Images must be multiples of 32 high and wide.
    """

    head_parts = ("fc.", "aux_head.")

    def __init__(self, layout: Layout, genotypes: Sequence[Genotype]):
        super().__init__()
        if layout.model_type != "imagenet" or layout.total_stride != STRIDES[-1]:
            raise ValueError(
                f"cells at strides up to {STRIDES[-1]} are those of model_type imagenet with 3 stages, or 4 with "
                f"res_stem, not {layout.model_type} with {layout.layer_num}"
            )
        self.feature_extractor = make_stem(layout)
        self.nas_layers = make_evaluation_stages(layout, genotypes, affine=True)
        shapes = list(chain.from_iterable(layout.shapes(layout.evaluation_cells)))
        #: For each cell, whether its output is the last at its resolution.
        self._is_last = [*(after.reduction for _, after in pairwise(shapes)), True]
        self._stem_is_first = layout.stem_stride > STRIDES[0]
        stem = (layout.stem_multiplier * layout.init_channels,) if self._stem_is_first else ()
        last = zip(shapes, self._is_last, strict=True)
        self.channels = (*stem, *(NODES * shape.channels for shape, is_last in last if is_last))

    def features(self, x: Tensor) -> list[Tensor]:
        _check_size(x)
        state = self.feature_extractor(x)
        outputs = [state[0]] if self._stem_is_first else []
        for cell, is_last in zip(chain.from_iterable(self.nas_layers), self._is_last, strict=True):
            state = cell(state)
            if is_last:
                outputs.append(state[1])
        return outputs


class NatsBackbone(Backbone):
    """A network of one NATS-Bench cell: the benchmark's three stages, at strides 8, 16 and 32.

    The benchmark's own stem works at the image's resolution; here it is the one of DARTS for ImageNet, whose middle is
    the feature at stride 4. Images must be multiples of 32 high and wide.
    """

    def __init__(self, architecture: Architecture, init_channels: int = 16, cells: int = 5, input_channels: int = 3):
        super().__init__()
        layout = nats.NatsLayout(init_channels, cells, input_channels=input_channels)
        self.feature_extractor = make_stem(
            Layout("imagenet", init_channels, stem_multiplier=1, input_channels=input_channels, image_size=64)
        )
        self.nas_layers = nats.make_stages(layout, nats.EvaluationCell, architecture, True)
        self.channels = (init_channels, *(layout.channels(stage) for stage in range(nats.STAGES)))

    def features(self, x: Tensor) -> list[Tensor]:
        _check_size(x)
        middle, output = self.feature_extractor(x)
        outputs, state = [middle], (output,)
        for stage in self.nas_layers:
            for block in stage:
                if isinstance(block, nats.ResidualBlock):  # it halves: what was before it is the stage's feature
                    outputs.append(state[0])
                state = block(state)
        return [*outputs, state[0]]
