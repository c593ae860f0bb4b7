"""Which mask belongs to which image: Cityscapes, ADE20K, and any folders of images and masks."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from CyDAS.config import SegmentConfig
from CyDAS.data.contents import IMAGE_EXTENSIONS, extension, is_hidden
from CyDAS.data.masks import VOID, Ids, read_classes
from CyDAS.utils.errors import CydasError
from CyDAS.utils.texts import few


class Pair(NamedTuple):
    """An image and its mask."""

    name: str  #: wherever the data lie
    image: str
    mask: str


class Layout(NamedTuple):
    """What a data set is made of."""

    train: list[Pair]
    test: list[Pair]
    ids: Ids
    notes: list[str]


#: Cityscapes' ids of the 19 classes that are judged, in the order of their trainIds.
CITYSCAPES = {
    7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light",
    20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck",
    28: "bus", 31: "train", 32: "motorcycle", 33: "bicycle",
}  # fmt: skip
ADE20K_CLASSES = 150
#: How folders may lie: images and masks of a part.
FOLDERS = (("{}/images", "{}/masks"), ("images/{}", "masks/{}"), ("{}", "{}annot"))
TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("val", "valid", "validation", "test", "testing")
#: Of images in one folder, every so manyth one is for tests.
EVERY = 5


def find_layout(config: SegmentConfig) -> Layout:
    """The data set that the flags name. Raises :class:`CydasError` where it is none."""
    if not config.data_dir.is_dir():
        raise CydasError(f"--data_dir: there is no folder {config.data_dir}")
    if config.dataset != "folder" and (config.classes or config.void_ids):
        raise CydasError(f"--classes, --void_ids: the classes of --dataset {config.dataset} are known; leave them out")
    layouts: dict[str, Callable[[SegmentConfig], Layout]] = {
        "cityscapes": _cityscapes, "ade20k": _ade20k, "folder": _folders,
    }  # fmt: skip
    return layouts[config.dataset](config)


def _cityscapes(config: SegmentConfig) -> Layout:
    parts, raw = [], set()
    for part in ("train", "val"):
        images = _files(config.data_dir / "leftImg8bit" / part, "_leftImg8bit.png")
        masks = config.data_dir / "gtFine" / part
        kinds = ("labelTrainIds", "labelIds")
        has_train_ids = (masks / f"{images[0].removesuffix('_leftImg8bit.png')}_gtFine_labelTrainIds.png").exists()
        kind = kinds[0] if has_train_ids else kinds[1]
        raw.add(not has_train_ids)
        names = [name.removesuffix("_leftImg8bit.png") + f"_gtFine_{kind}.png" for name in images]
        parts.append(_pairs(config.data_dir / "leftImg8bit" / part, masks, images, names))
    if len(raw) > 1:
        raise CydasError(f"{config.data_dir}: one part has labelTrainIds, the other labelIds alone: make both alike")
    names = list(CITYSCAPES.values())
    if True in raw:
        void = [number for number in (*range(34), VOID) if number not in CITYSCAPES]
        ids = Ids(names, list(CITYSCAPES), void, "Cityscapes")
    else:
        ids = Ids(names, range(len(names)), [VOID], "Cityscapes (trainIds)")
    return Layout(parts[0], parts[1], ids, [f"masks are Cityscapes' {'ids' if True in raw else 'trainIds'}"])


def _ade20k(config: SegmentConfig) -> Layout:
    parts = []
    for part in ("training", "validation"):
        images = _files(config.data_dir / "images" / part)
        names = [f"{os.path.splitext(name)[0]}.png" for name in images]
        parts.append(_pairs(config.data_dir / "images" / part, config.data_dir / "annotations" / part, images, names))
    ids = range(1, ADE20K_CLASSES + 1)
    names = _ade20k_names(config.data_dir / "objectInfo150.txt") or [f"class {number}" for number in ids]
    return Layout(parts[0], parts[1], Ids(names, ids, [0], "ADE20K"), [])


def _ade20k_names(path: Path) -> list[str] | None:
    """The names in the table that comes with the images, its last column; None where it is not there."""
    try:
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        return None
    names = [f"{row[0].strip()} {row[-1].split(',')[0].strip()}" for row in rows if row[0].strip().isdecimal()]
    return names if len(names) == ADE20K_CLASSES else None


def _folders(config: SegmentConfig) -> Layout:
    root, void, notes = config.data_dir, config.void_ids or [VOID], []
    train, test = (_find_part(root, names) for names in (TRAIN_NAMES, TEST_NAMES))
    if train and test:
        parts = [_matched(*folders) for folders in (train, test)]
    elif (root / "images").is_dir() and (root / "masks").is_dir():
        pairs = _matched(root / "images", root / "masks")
        if len(pairs) < EVERY:
            parts = [pairs, pairs]
            notes.append(f"{len(pairs)} images are too few to be parted: they are for training and for tests")
        else:
            parts = [
                [p for n, p in enumerate(pairs) if (n % EVERY == EVERY - 1) is is_test] for is_test in (False, True)
            ]
            notes.append(f"{root} has no parts: every {EVERY}th image is for tests, {len(parts[1])} of {len(pairs)}")
    else:
        raise CydasError(
            f"--data_dir {root} has neither images/ and masks/, nor train/ and val/ with both, nor images/train and "
            "the like, nor train/ and trainannot/; is the folder above or below it meant?"
        )
    path = config.classes or root / "classes.txt"
    if not path.exists():
        raise CydasError(
            f"there is no class list {path}: write one, with a line for every class, ID NAME, as the masks have them, "
            "or name it with --classes; ids that count nowhere: --void_ids"
        )
    return Layout(parts[0], parts[1], read_classes(path, void), notes)


def _find_part(root: Path, names: Sequence[str]) -> tuple[Path, Path] | None:
    """The folders of a part's images and masks."""
    for images, masks in FOLDERS:
        for name in names:
            pair = root / images.format(name), root / masks.format(name)
            if all(folder.is_dir() for folder in pair):
                return pair
    return None


def _matched(images: Path, masks: Path) -> list[Pair]:
    """Images and masks of the same name but for its ending. Raises :class:`CydasError` for an image without a mask, or
    for two masks of one name.
    """
    mask_of: dict[str, str] = {}
    for name in _files(masks):
        stem = os.path.splitext(name)[0]
        if stem in mask_of:
            raise CydasError(f"{masks}: {mask_of[stem]} and {name} are two masks of one image: remove one")
        mask_of[stem] = name
    names = _files(images)
    stems = [os.path.splitext(name)[0] for name in names]
    missing = [name for name, stem in zip(names, stems, strict=True) if stem not in mask_of]
    if missing:
        raise CydasError(f"{images}: {few(missing)} have no mask of the same name in {masks}")
    return _pairs(images, masks, names, [mask_of[stem] for stem in stems])


def _pairs(images: Path, masks: Path, names: list[str], mask_names: list[str]) -> list[Pair]:
    missing = [name for name in mask_names if not (masks / name).is_file()]
    if missing:
        raise CydasError(f"{masks}: there is no {few(missing)}, the mask of an image in {images}")
    paired = zip(names, mask_names, strict=True)
    return [Pair(name, str(images / name), str(masks / mask)) for name, mask in paired]


def _files(folder: Path, ending: str = "") -> list[str]:
    """Images below the folder, by their names in it. Raises :class:`CydasError` where there are none."""
    if not folder.is_dir():
        raise CydasError(f"there is no folder {folder}")
    found = []
    for place, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(files):
            if not is_hidden(name) and name.endswith(ending) and extension(name) in IMAGE_EXTENSIONS:
                found.append(os.path.relpath(os.path.join(place, name), folder))
    if not found:
        raise CydasError(f"{folder} holds no images{f' whose names end in {ending}' if ending else ''}")
    return found
