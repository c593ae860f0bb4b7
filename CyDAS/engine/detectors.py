"""Detectors as the flags and checkpoints say them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from CyDAS.config import DetectConfig
from CyDAS.data.boxes import PrepareScene, padded
from CyDAS.data.classes import recorded_data
from CyDAS.data.pixel_range import ToUnit, choose_range
from CyDAS.models.detection.anchors import PER_PLACE
from CyDAS.models.detection.published import OF_CLASSES, OF_WIDTH, renamed, without_head
from CyDAS.models.detection.retinanet import RetinaNet
from CyDAS.runs.checkpoint import load_checkpoint, refusing
from CyDAS.runs.resume import find_file
from CyDAS.runs.weights import Found, averaged_key, find_weights, load_weights
from CyDAS.spaces.backbones import build_backbone, open_backbone
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import recall_network
from CyDAS.utils.profile import count_macs, count_parameters

#: Flags that a detector's checkpoint completes where they were not given.
_REMEMBERED = ("data_dir", "test_json", "test_dir", "short_side", "long_side")


class Detector(NamedTuple):
    """A trained network and where it comes from."""

    network: RetinaNet
    path: Path
    recorded: dict[str, Any] | None  #: the record of the data that it was trained on
    notes: list[str]  #: for the person who asks

    def steps(self, config: DetectConfig) -> PrepareScene:
        """What is done to an image: deep ones have the range of the training's, unless the flags say another."""
        white, _ = choose_range(config.pixel_range, (self.recorded or {}).get("pixel_range"), None)
        return PrepareScene(ToUnit(white), (config.short_side, config.long_side))

    def names(self) -> tuple[list[str], list[int]]:
        """Names and category ids of its classes: their numbers where the checkpoint names none."""
        numbers = list(range(self.network.n_classes))
        known = self.recorded or {"classes": list(map(str, numbers)), "category_ids": numbers}
        return known["classes"], known["category_ids"]

    def check_classes(self, classes: Sequence[str], where: str) -> None:
        """Raise :class:`CydasError` where ``classes`` are not as many as it tells apart."""
        if len(classes) != self.network.n_classes:
            raise CydasError(
                f"checkpoint {self.path} is of a detector of {self.network.n_classes} classes, but {where} has "
                f"{len(classes)}: test it on images of its own classes"
            )


def folder_of(config: DetectConfig) -> Path:
    """The run's folder."""
    return config.output_dir / "detect" / config.name


def describe(network: RetinaNet, config: DetectConfig) -> tuple[str, dict[str, int]]:
    """How large the network is, and how much it computes for the largest image: in words, and as figures."""
    height, width = padded((config.short_side, config.long_side))
    figures = {"parameters": count_parameters(network), "macs": count_macs(network, (3, height, width))}
    backbone = count_parameters(network.backbone)
    return (
        f"network: {figures['parameters'] / 1e6:.3f} M parameters, {backbone / 1e6:.3f} M of them the backbone's; "
        f"{figures['macs'] / 1e9:.1f} G multiply-accumulates for {width} x {height} pixels"
    ), figures


def new_detector(config: DetectConfig, n_classes: int) -> tuple[RetinaNet, list[str]]:
    """The network that is to be trained, and lines for the log on its backbone's weights."""
    backbone, lines = open_backbone(config.backbone, config.backbone_checkpoint)
    return RetinaNet(backbone, n_classes, config.width), lines


def open_detector(config: DetectConfig, given: set[str]) -> Detector:
    """The detector that a test or a prediction is of, from a checkpoint of this program or a published one.

    ``config`` is completed by what the checkpoint says of the network, the sizes of images and the test images. Raises
    :class:`CydasError`.
    """
    notes: list[str] = []
    named = "resume_name" in given
    path = find_file(config.resume_name or "last.pth.tar", folder_of(config), named, notes.append)
    content = load_checkpoint(path)
    found = find_weights(content, path, config.weights_key or averaged_key(content))
    recorded, saved = recorded_data(found.about, path), found.about.get("config")
    if recorded and isinstance(saved, dict):
        void = given | {"test_json", "test_dir"} if "data_dir" in given else given
        names = [name for name in _REMEMBERED if name not in void]
        recall_network(config, given, saved, names, f"checkpoint {path}")
    return Detector(trained_detector(config, found, path), path, recorded, notes)


def trained_detector(config: DetectConfig, found: Found, path: Path) -> RetinaNet:
    """The network whose weights were found in a checkpoint of this program, which says its backbone, or in a published
    one, whose backbone ``config.backbone`` says.

    Raises :class:`CydasError` where they are no detector's, or another's.
    """
    weights, recipe = renamed(found.weights), found.about.get("backbone")
    if OF_CLASSES not in weights or OF_WIDTH not in weights:
        raise CydasError(f"checkpoint {path} holds no detector: {OF_CLASSES} is missing")
    if isinstance(recipe, dict):
        with refusing(f"checkpoint {path} does not say which backbone it has"):
            backbone = build_backbone(recipe)
    else:
        backbone, _ = open_backbone(config.backbone)
    network = RetinaNet(backbone, len(weights[OF_CLASSES]) // PER_PLACE, len(weights[OF_WIDTH]))
    load_weights(network, without_head(network, weights), path)
    return network
