"""What is exported: a trained network as a plain function of tensors, and what is known of it."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from CyDAS.models.detection.boxes import BoxCoder
from CyDAS.models.detection.retinanet import FEATURES, RetinaNet


class Subject(NamedTuple):
    """A trained network on the CPU in eval mode, and what it was made from."""

    network: nn.Module  #: as the programs have it
    task: str  #: classification, detection or segmentation
    image: tuple[int, int, int]  #: channels, height and width of an image
    mean: tuple[float, ...]  #: of each channel, what an image in 0 to 1 is normalised by
    std: tuple[float, ...]
    facts: dict[str, Any]  #: space, architecture, sizes, classes, ...: plain values
    config: dict[str, Any]  #: the training's settings; empty where the checkpoint does not say them
    path: Path  #: the checkpoint
    where: str  #: the key of the weights in it
    epoch: int | None = None  #: how many epochs they have been trained

    @property
    def classes(self) -> list[str] | None:
        return self.facts["classes"]

    def plain(self) -> "Plain":
        """The network as other programs know networks."""
        kinds: dict[str, type[Plain]]
        kinds = {"classification": PlainClassifier, "detection": PlainDetector, "segmentation": PlainSegmenter}
        return kinds[self.task](self.network, self.image).eval()


class Plain(nn.Module):
    """From images [N, C, H, W] to a tuple of tensors; ``scales``: how large a difference counts as 1 in each."""

    outputs: tuple[str, ...] = ("logits",)

    def __init__(self, network: nn.Module, image: tuple[int, int, int]):
        super().__init__()
        self.network = network
        self.scales: tuple[float, ...] = (1.0,)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


class PlainClassifier(Plain):
    """Logits [N, classes]."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.network(images).logits,)


class PlainSegmenter(Plain):
    """Logits [N, classes, H, W] of whole images, without sliding windows."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return (self.network(images).logits,)


class PlainDetector(Plain):
    """Boxes [N, A, 4], in pixels of the image and cut off at its borders, and scores [N, A, classes], 0 to 1, of all
    A anchors, before any suppression. The anchors are those of one image size.
    """

    outputs = ("boxes", "scores")
    network: RetinaNet
    anchors: Tensor

    def __init__(self, network: RetinaNet, image: tuple[int, int, int]):
        super().__init__(network, image)
        self.size = image[1:]
        self.scales = (float(max(self.size)), 1.0)
        self.coder = BoxCoder()
        with torch.no_grad():
            output = network(torch.zeros(1, *image))
        self.register_buffer("anchors", torch.cat(output.anchors), persistent=True)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        network = self.network
        said = network.head(network.fpn.levels(network.backbone.features(images)[FEATURES]))
        deltas, logits = said["bbox_regression"], said["cls_logits"]
        # not len(): the exporters would take the number of images for a constant
        anchors = self.anchors.expand(deltas.shape[0], -1, -1).reshape(-1, 4)
        boxes = self.coder.decode_single(deltas.reshape(-1, 4), anchors).reshape(deltas.shape)
        height, width = self.size
        least, most = boxes.new_tensor([0, 0, 1, 1]), boxes.new_tensor([width - 1, height - 1, width, height])
        return boxes.clamp(least, most), logits.sigmoid()
