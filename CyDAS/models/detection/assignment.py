"""Which box each anchor shall find: by their overlap (IoU), and every box by the anchors that overlap it most."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

#: What stands for a box where an anchor has none: it shall find nothing, or it does not count.
NOTHING, IGNORED = Matcher.BELOW_LOW_THRESHOLD, Matcher.BETWEEN_THRESHOLDS


class BestForEachBox(Matcher):
    """IoU of 0.5 and more: the anchor's best box; below 0.4: nothing; between them the anchor does not count.

    Whatever that IoU is, a box then takes all anchors that it overlaps most; of several boxes the last one takes an
    anchor. torchvision would give such an anchor to the box that the anchor overlaps most.
    """

    def __init__(self, positive: float = 0.5, negative: float = 0.4):
        super().__init__(positive, negative, allow_low_quality_matches=True)

    def set_low_quality_matches_(self, matches: Tensor, all_matches: Tensor, match_quality_matrix: Tensor) -> None:
        best = match_quality_matrix == match_quality_matrix.max(dim=1, keepdim=True).values
        number = torch.arange(1, len(best) + 1, device=best.device)[:, None]
        last = (best * number).max(dim=0).values - 1
        matches.copy_(torch.where(last >= 0, last, matches))


def assign(matcher: Matcher, anchors: Tensor, inside: Tensor, boxes: Tensor) -> Tensor:
    """For each of ``anchors`` [A, 4] the number of its box in ``boxes`` [M, 4], :data:`NOTHING` or :data:`IGNORED`.

    int64 [A]. Anchors that are not ``inside`` (bool [A]) are ignored, and no box takes them.
    """
    matches = torch.where(inside, NOTHING, IGNORED)
    if len(boxes):
        matches[inside] = matcher(box_iou(boxes.to(anchors.dtype), anchors[inside]))
    return matches
