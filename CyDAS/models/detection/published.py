"""Names of the published detector's weights, and what they are called here."""

import re
from typing import Any

#: From the start of a published name, and its number if any, to the start of ours.
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


def renamed(weights: dict[str, Any]) -> dict[str, Any]:
    """A detector's weights under the names of :class:`RetinaNet`; those that have them already stay."""
    return {_renamed(name): value for name, value in weights.items()}


def _renamed(name: str) -> str:
    for published, ours in NAMES:
        name, found = re.subn(f"^{published}", ours, name)
        if found:
            break
    return name
