"""Trained networks of ``retrain.py``, ``detect.py`` and ``segment.py``, opened for what comes after them.

Data sets are not needed: what a network takes and tells apart stands in its checkpoint.
"""

from pathlib import Path
from typing import Any, NamedTuple

from CyDAS.config import FOLDER_PIXELS, IN_MEMORY, DetectConfig, EvaluationConfig, SegmentConfig
from CyDAS.data.boxes import padded
from CyDAS.data.classes import recorded_data
from CyDAS.data.sets import normalisation
from CyDAS.engine.detectors import open_detector
from CyDAS.exporting.subject import Subject
from CyDAS.models.segmentation.segmenter import LEAST, MULTIPLE
from CyDAS.remembered import find_architecture, is_ours, recall
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.weights import Found, averaged_key, find_weights, load_weights
from CyDAS.segmenting import recall as recall_segmenter
from CyDAS.segmenting import trained_segmenter
from CyDAS.spaces import SPACES, identify_architecture, make_space
from CyDAS.utils.errors import CydasError
from CyDAS.utils.normalisation import IMAGENET_MEAN, IMAGENET_STD
from CyDAS.utils.present import present
from CyDAS.utils.profile import count_macs, count_parameters

#: The programs' folders of runs.
KINDS = ("retrain", "detect", "segment")
LAST = "last.pth.tar"
#: The last layer's bias, and the first layer's weight.
_LAST_LAYER, _FIRST_LAYER = ("fc.bias", "classifier.bias"), ("feature_extractor.0.0.weight", "conv_stem.weight")


class Images(NamedTuple):
    """What a space asks of a data set."""

    n_classes: int
    input_channels: int
    image_size: int


def find_checkpoint(name: str, output_dir: Path) -> Path:
    """The file ``name``, the last checkpoint in the folder ``name``, or that of the run of this name in ``output_dir``.

    Raises :class:`CydasError` where there is none, or where runs of several programs have the name.
    """
    path = Path(name)
    if path.is_file():
        return path
    places = [path, output_dir / path, *(output_dir / kind / path for kind in KINDS)]
    found = list(dict.fromkeys(place / LAST for place in places if (place / LAST).is_file()))
    if len(found) > 1:
        raise CydasError(f"{name} may be any of {', '.join(str(file.parent) for file in found)}: name its folder")
    if not found:
        folders = ", ".join(str(output_dir / kind) for kind in KINDS)
        raise CydasError(f"{name} is neither a file nor a run with a {LAST}: looked in {path}, {folders}")
    return found[0]


def open_trained(
    path: Path,
    weights_key: str | None = None,
    image_size: tuple[int, int] | None = None,
    cell_file: Path | None = None,
    published: str | None = None,
) -> tuple[Subject, list[str]]:
    """The network of a checkpoint, with the averaged weights of a training that has such, else the plain ones; and
    lines for the person who asks.

    ``image_size``: height and width, for detectors and segmenters. ``cell_file``, ``published``: as ``test.py`` has
    them, for checkpoints of other programs. Raises :class:`CydasError`.
    """
    content = load_checkpoint(path)
    found = find_weights(content, path, weights_key or averaged_key(content))
    notes = [f"{path}: the weights under {found.where or 'no key'}"]
    if found.others:
        notes.append(f"others (--weights_key): {', '.join(found.others)}")
    saved = found.about.get("config")
    if "backbone" in found.about and isinstance(saved, dict):
        make = _segmenter if "decoder_width" in saved else _detector
        subject = make(path, found, weights_key, image_size)
    elif image_size:
        raise CydasError("--image_size is for detectors and segmenters: a classifier has the size of its training")
    else:
        subject, more = _classifier(path, found, cell_file, published)
        notes += more
    return subject, notes


def _classifier(path: Path, found: Found, cell_file: Path | None, published: str | None) -> tuple[Subject, list[str]]:
    config, notes = EvaluationConfig(cell_file=cell_file, published=published), []
    config.fill_in(set())
    if is_ours(found.about):
        notes = recall(config, {"cell_file"}, found.about["config"], path)
    elif cell_file is not None:
        config.space, _ = identify_architecture(cell_file)
        if config.space == "chain":
            config.dataset = "imagenet"
            config.c_last = len(found.weights.get("blocks.6.0.conv.weight", [])) or config.c_last
    architecture = find_architecture(config, found.about, path)
    weights = {name: value for name, value in found.weights.items() if not name.startswith("aux_head.")}
    images = Images(
        _size(weights, _LAST_LAYER, 0, path),
        _size(weights, _FIRST_LAYER, 1, path),
        config.image_size or IN_MEMORY.get(config.dataset, FOLDER_PIXELS),
    )
    recorded = recorded_data(found.about, path) or {}
    classes = recorded.get("classes")
    if classes and len(classes) != images.n_classes:
        raise CydasError(f"checkpoint {path} names {len(classes)} classes, and its network has {images.n_classes}")
    network = make_space(config, images).retrain_network(architecture, False)
    load_weights(network, weights, path)
    facts = {
        "space": config.space,
        "architecture": SPACES[config.space].to_strings(architecture),
        "sizes": {name: getattr(config, name) for name in SPACES[config.space].sizes},
        "n_classes": images.n_classes,
        "dataset": config.dataset,
        "crop_pct": 1.0 if config.dataset in IN_MEMORY else config.crop_pct,
        "interpolation": "bilinear" if config.dataset in IN_MEMORY else config.test_interpolation,
    }
    shape = images.input_channels, images.image_size, images.image_size
    return _subject(network, "classification", shape, normalisation(config.dataset), facts, classes, found, path), notes


def _size(weights: dict[str, Any], names: tuple[str, ...], axis: int, path: Path) -> int:
    """How large one of these tensors is along an axis. Raises :class:`CydasError` where there is none of them."""
    for name in names:
        shape = getattr(weights.get(name), "shape", ())
        if len(shape) > axis:
            return shape[axis]
    raise CydasError(f"checkpoint {path} holds no classifier: {' or '.join(names)} is missing")


def _detector(path: Path, found: Found, key: str | None, image_size: tuple[int, int] | None) -> Subject:
    config = DetectConfig(resume_name=str(path.resolve()), weights_key=key)
    config.fill_in(set())
    detector = open_detector(config, {"resume_name"})
    size = _checked(image_size or padded((config.short_side, config.long_side)), MULTIPLE)
    facts = {"backbone": found.about["backbone"], "sizes": {"width": config.width}, "dataset": config.dataset}
    classes, facts["category_ids"] = detector.names()
    normal = IMAGENET_MEAN, IMAGENET_STD
    return _subject(detector.network.eval(), "detection", (3, *size), normal, facts, classes, found, path)


def _segmenter(path: Path, found: Found, key: str | None, image_size: tuple[int, int] | None) -> Subject:
    config = SegmentConfig(weights_key=key)
    config.fill_in(set())
    recall_segmenter(config, set(), found, path)
    recorded = recorded_data(found.about, path)
    if recorded is None:
        raise CydasError(f"checkpoint {path} does not name its classes")
    config.window = None  # whole images: windows are how a test goes through large ones
    network = trained_segmenter(config, found, len(recorded["classes"]), path)
    height, width = present(config.crop_size)
    size = _checked(image_size or (height, width), LEAST)
    facts = {"backbone": found.about["backbone"], "sizes": {"decoder_width": config.decoder_width}}
    facts |= {"dataset": config.dataset, "ids": recorded.get("ids")}
    normal = IMAGENET_MEAN, IMAGENET_STD
    return _subject(network, "segmentation", (3, *size), normal, facts, recorded["classes"], found, path)


def _checked(size: tuple[int, int], least: int) -> tuple[int, int]:
    if any(side % MULTIPLE or side < least for side in size):
        raise CydasError(f"--image_size is a height and a width, multiples of {MULTIPLE} from {least} on, not {size}")
    return size


def _subject(
    network: Any, task: str, image: tuple[int, int, int], normal: tuple[tuple[float, ...], tuple[float, ...]],
    facts: dict[str, Any], classes: list[str] | None, found: Found, path: Path,
) -> Subject:  # fmt: skip
    macs = count_macs(network, image)
    facts = facts | {"classes": classes, "parameters": count_parameters(network), "macs": macs}
    saved, epoch = found.about.get("config"), found.about.get("epoch")
    config = saved if isinstance(saved, dict) else {}
    return Subject(
        network.eval(), task, image, *normal, facts, config, path, found.where, epoch if type(epoch) is int else None
    )
