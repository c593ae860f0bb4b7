"""COCO's average precision of boxes, by faster-coco-eval."""

from collections.abc import Sequence
from typing import Any

import numpy as np

#: Detections of an image that count, the best ones.
MOST = 100


def average_precision(
    truth: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], n_classes: int
) -> tuple[list[float], list[float]]:
    """(AP, AP50, AP75, APs, APm, APl) over all classes and the AP of each class, percent; -1 where there is no object.

    ``truth``: of each image its ``id`` and ``objects``, as :class:`CyDAS.data.coco.Object`. ``found``: boxes in COCO's
    format for results, whose categories are class numbers.
    """
    from faster_coco_eval import COCO, COCOeval_faster  # late: a training asks for it after its first epoch

    images = sorted({image["id"] for image in truth})  # a process may have been given an image twice
    annotations = [
        {
            "id": number, "image_id": image["id"], "category_id": label, "area": area, "iscrowd": int(is_crowd),
            "bbox": [left, top, right - left, bottom - top],
        }
        for number, (image, ((left, top, right, bottom), label, area, is_crowd)) in enumerate(
            ((image, thing) for image in truth for thing in image["objects"]), start=1
        )
    ]  # fmt: skip
    categories = [{"id": label, "name": str(label)} for label in range(n_classes)]
    there = COCO({"images": [{"id": image} for image in images], "annotations": annotations, "categories": categories})
    entries = [
        entry | {"id": number, "area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0}
        for number, entry in enumerate(found, start=1)
    ]
    given = COCO({"images": there.dataset["images"], "annotations": entries, "categories": categories})
    evaluation = COCOeval_faster(there, given, "bbox", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"]  # [IoU, recall, class, area, most detections]
    everything = [_mean(precision[:, :, :, 0, -1]), _mean(precision[0, :, :, 0, -1]), _mean(precision[5, :, :, 0, -1])]
    by_area = [_mean(precision[:, :, :, area, -1]) for area in (1, 2, 3)]
    return everything + by_area, [_mean(precision[:, :, label, 0, -1]) for label in range(n_classes)]


def _mean(precision: np.ndarray) -> float:
    """Percent; entries of -1 are of classes without objects."""
    known = precision[precision > -1]
    return float(known.mean()) * 100 if known.size else -1.0
