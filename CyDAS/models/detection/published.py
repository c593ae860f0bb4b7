"""Names of the published detector's weights, and what they are called here."""

import re
from typing import Any

from CyDAS.models.detection.retinanet import RetinaNet

#: From the start of a published name to the start of ours.
NAMES = (
    (r"neck\.lateral_convs\.(\d)\.conv\.", r"fpn.inner_blocks.\1.0."),
    (r"neck\.fpn_convs\.([012])\.conv\.", r"fpn.layer_blocks.\1.0."),
    (r"neck\.fpn_convs\.3\.conv\.", "fpn.extra_blocks.p6."),
    (r"neck\.fpn_convs\.4\.conv\.", "fpn.extra_blocks.p7."),
    (r"bbox_head\.cls_convs\.(\d)\.conv\.", r"head.classification_head.conv.\1.0."),
    (r"bbox_head\.reg_convs\.(\d)\.conv\.", r"head.regression_head.conv.\1.0."),
    (r"bbox_head\.retina_cls\.", "head.classification_head.cls_logits."),
    (r"bbox_head\.retina_reg\.", "head.regression_head.bbox_reg."),
)
BACKBONE = "backbone."
#: A parameter that tells the number of classes, and one that tells the width of the pyramid.
OF_CLASSES, OF_WIDTH = "head.classification_head.cls_logits.bias", "fpn.inner_blocks.0.0.bias"


def renamed(weights: dict[str, Any]) -> dict[str, Any]:
    """A detector's weights under the names of :class:`RetinaNet`; those that have them already stay."""
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    for published, ours in NAMES:
        name, found = re.subn(f"^{published}", ours, name)
        if found:
            break
    return name


def without_head(network: RetinaNet, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights without those of the classifier that the published backbone keeps and does not use."""
    own = {name.removeprefix(BACKBONE): value for name, value in weights.items() if name.startswith(BACKBONE)}
    kept = {BACKBONE + name: value for name, value in network.backbone.without_head(own).items()}
    return kept | {name: value for name, value in weights.items() if not name.startswith(BACKBONE)}
