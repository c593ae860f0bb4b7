"""A small data set in COCO's format: pictures of rectangles, one colour a category."""

import json

import numpy as np
from PIL import Image

#: Category ids with gaps, as COCO's have.
CATEGORIES = {3: "red", 7: "green"}
COLOURS = {3: (220, 40, 40), 7: (40, 220, 40)}
#: Width and height of each image and its boxes: category, left, top, width, height.
SCENES = (
    ((64, 48), [(3, 8, 8, 24, 24), (7, 36, 10, 20, 30)]),
    ((48, 64), [(7, 4, 20, 30, 36)]),
    ((64, 48), [(3, 20, 4, 36, 36)]),
    ((64, 64), []),
    ((48, 64), [(3, 10, 10, 20, 20), (7, 14, 34, 28, 24)]),
    ((80, 48), [(7, 30, 6, 40, 30)]),
)


def content(scenes=SCENES):
    """The JSON of these scenes."""
    annotations = [
        {"image_id": image, "category_id": category, "bbox": list(box), "area": box[2] * box[3], "iscrowd": 0}
        for image, (_, boxes) in enumerate(scenes, start=1)
        for category, *box in boxes
    ]
    return {
        "images": [
            {"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]}
            for number, (size, _) in enumerate(scenes, start=1)
        ],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
        "categories": [{"id": number, "name": name} for number, name in CATEGORIES.items()],
    }


def write_part(folder, name="train", scenes=SCENES, change=lambda content: None):
    """``NAME.json`` and its images in ``NAME/``; ``change`` may spoil the JSON before it is written."""
    images = folder / name
    images.mkdir(parents=True, exist_ok=True)
    for number, (size, boxes) in enumerate(scenes, start=1):
        pixels = np.full((size[1], size[0], 3), 90 + number, np.uint8)
        for category, x, y, width, height in boxes:
            pixels[max(y, 0) : y + height, max(x, 0) : x + width] = COLOURS[category]
        Image.fromarray(pixels).save(images / f"{number}.png")
    own = content(scenes)
    change(own)
    (folder / f"{name}.json").write_text(json.dumps(own))
    return folder / f"{name}.json", images


def flags_of(folder):
    """The program's flags for ``train`` and ``test`` in a folder."""
    return [
        *("--train_json", str(folder / "train.json"), "--train_dir", str(folder / "train")),
        *("--test_json", str(folder / "test.json"), "--test_dir", str(folder / "test")),
    ]
