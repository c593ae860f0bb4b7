"""The segmenter: a backbone and the published decoder, one class for every pixel of an image."""

from typing import Any, NamedTuple

from torch import Tensor, nn

from CyDAS.models.backbone import STRIDES, Backbone
from CyDAS.models.segmentation.decoder import Decoder
from CyDAS.models.segmentation.layers import resize
from CyDAS.models.segmentation.windows import slide

#: Images are multiples of it, high and wide (smaller ones are padded): every feature is then twice the next one.
MULTIPLE = STRIDES[-1]
#: The least height and width: the auxiliary heads halve the smallest feature.
LEAST = 2 * MULTIPLE
#: How fast the running statistics of all batch norms move, the backbone's too.
BN_MOMENTUM = 0.01


class SegmentationOutput(NamedTuple):
    """What a segmenter says of a batch of N images."""

    logits: Tensor  #: [N, classes, H, W]
    auxiliary: tuple[Tensor, ...] = ()  #: the same of both auxiliary heads, strides 16 and 32, in training


class Segmenter(Decoder):
    """[N, 3, H, W] to :class:`SegmentationOutput`; H and W are multiples of 32 and at least 64.

    State dicts have the published names. ``window``: height and width of the windows that an image is cut into in a
    test (default: none). Initialised as published, but for the backbone, which comes as it is.
    """

    def __init__(self, backbone: Backbone, n_classes: int, width: float = 6, bn_momentum: float = BN_MOMENTUM):
        super().__init__(backbone.channels, n_classes, width)
        self.backbone = backbone
        self.n_classes = n_classes
        self.window: tuple[int, int] | None = None
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = bn_momentum

    def forward(self, x: Tensor) -> SegmentationOutput:
        if self.training:
            features = self.backbone(x)
            logits = [self.decode(features), *self.auxiliary(features)]
            main, *auxiliary = (resize(part, x.shape[-2:]) for part in logits)
            return SegmentationOutput(main, tuple(auxiliary))
        return SegmentationOutput(slide(self._whole, x, self.window, MULTIPLE) if self.window else self._whole(x))

    def _whole(self, x: Tensor) -> Tensor:
        return resize(self.decode(self.backbone(x)), x.shape[-2:])

    def without_head(self, weights: dict[str, Any]) -> dict[str, Any]:
        """Weights of the published layout without the ImageNet head that its backbone carries along unused."""
        own = tuple(f"backbone.{part}" for part in self.backbone.head_parts)
        return {name: value for name, value in weights.items() if not name.startswith(own)}

    def count_parameters(self) -> tuple[int, int]:
        """(all, those at work outside of training)."""
        everything = sum(p.numel() for p in self.parameters())
        return everything, everything - sum(p.numel() for m in (self.heads16, self.heads32) for p in m.parameters())
