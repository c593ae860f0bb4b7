"""A network of DARTS cells as a backbone.

A cell's output is a sum without an activation, as the next cell's operations start with one.
"""

from collections.abc import Sequence
from itertools import chain, pairwise

from torch import Tensor

from CyDAS.models.backbone import STRIDES, Backbone, check_size
from CyDAS.models.cells.genotype import Genotype
from CyDAS.models.cells.layout import NODES, Layout, make_stem
from CyDAS.models.cells.nasnet import make_evaluation_stages


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
        check_size(x)
        state = self.feature_extractor(x)
        outputs = [state[0]] if self._stem_is_first else []
        for cell, is_last in zip(chain.from_iterable(self.nas_layers), self._is_last, strict=True):
            state = cell(state)
            if is_last:
                outputs.append(state[1])
        return outputs
