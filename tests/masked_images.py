"""Small data sets of images with masks, whose classes are plain to see."""

import numpy as np
import torch
from PIL import Image

#: Class of each colour: a mask can be read off its image.
COLOURS = {0: (250, 20, 20), 1: (20, 250, 20), 2: (20, 20, 250)}
NAMES = ("red", "green", "blue")
#: A network of the chain space that is small enough for tests.
SMALL = "[[0], [0], [1], [2], [3], [0], [0]]"


def draw(seed, height=64, width=80, classes=3):
    """uint8 [H, W, 3] and its mask: a rectangle of each class somewhere, on a ground of class 0."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((height, width), dtype=np.uint8)
    for number in range(1, classes):
        top, left = generator.integers(0, max(1, height // 2)), generator.integers(0, max(1, width // 2))
        mask[top : top + max(1, height // 3), left : left + max(1, width // 3)] = number
    return np.array([COLOURS[number] for number in range(3)], dtype=np.uint8)[mask], mask


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_folder(root, train=6, test=2, ids=(0, 1, 2), **size):
    """train/ and val/ with images/ and masks/, and a class list."""
    for part, count in (("train", train), ("val", test)):
        for number in range(count):
            pixels, mask = draw(10 * number + (part == "val"), **size)
            save(root / part / "images" / f"{number}.png", pixels)
            save(root / part / "masks" / f"{number}.png", np.array(ids, dtype=np.uint8)[mask])
    (root / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in zip(ids, NAMES, strict=True)))
    return root


def small_flags(root, tmp, *more):
    """Flags of a training of seconds."""
    (tmp / "small.json").write_text(SMALL)
    return [
        *f"--data_dir {root} --backbone {tmp / 'small.json'} --c_last 32 --decoder_width 1 --crop_size 64 64".split(),
        *f"--batch_size 2 --epochs 2 --warmup_steps 1 --lr 0.02 --workers 0 --threads 1 --output_dir {tmp}".split(),
        *"--device cpu --bn_momentum 0.1 --checkpoint_minutes 0 --print_freq 1".split(),
        *more,
    ]


def classes_seen(image):
    """The class that each pixel of a normalised image [3, H, W] looks like."""
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (image * std + mean).argmax(dim=0)
