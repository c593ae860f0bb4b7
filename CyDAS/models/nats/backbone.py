"""A network of NATS-Bench's cells as a backbone."""

from torch import Tensor

from CyDAS.models.backbone import Backbone, check_size
from CyDAS.models.cells.layout import Layout, make_stem
from CyDAS.models.nats.architecture import Architecture
from CyDAS.models.nats.networks import STAGES, EvaluationCell, NatsLayout, ResidualBlock, make_stages


class NatsBackbone(Backbone):
    """A network of one NATS-Bench cell: the benchmark's three stages, at strides 8, 16 and 32.

    The benchmark's own stem works at the image's resolution; here it is the one of DARTS for ImageNet, whose middle is
    the feature at stride 4. Images must be multiples of 32 high and wide.
    """

    def __init__(self, architecture: Architecture, init_channels: int = 16, cells: int = 5, input_channels: int = 3):
        super().__init__()
        layout = NatsLayout(init_channels, cells, input_channels=input_channels)
        self.feature_extractor = make_stem(
            Layout("imagenet", init_channels, stem_multiplier=1, input_channels=input_channels, image_size=64)
        )
        self.nas_layers = make_stages(layout, EvaluationCell, architecture, True)
        self.channels = (init_channels, *(layout.channels(stage) for stage in range(STAGES)))

    def features(self, x: Tensor) -> list[Tensor]:
        check_size(x)
        middle, output = self.feature_extractor(x)
        outputs, state = [middle], (output,)
        for stage in self.nas_layers:
            for block in stage:
                if isinstance(block, ResidualBlock):  # it halves: what was before it is the stage's feature
                    outputs.append(state[0])
                state = block(state)
        return [*outputs, state[0]]
