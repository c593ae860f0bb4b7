"""What ``segment.py`` is made of: its network, and what it does with a checkpoint instead of training."""

from pathlib import Path
from typing import Any

from CyDAS.config import SegmentConfig
from CyDAS.data.classes import recorded_data
from CyDAS.data.given import find_images
from CyDAS.data.mask_steps import Padded
from CyDAS.data.masks import Ids
from CyDAS.data.pixel_range import ToUnit
from CyDAS.data.segmentation import SegmentationData, load_segmentation
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.optim import Precision
from CyDAS.engine.pictures import Predictor, write_png
from CyDAS.models.segmentation.decoder import initialise
from CyDAS.models.segmentation.segmenter import LEAST, MULTIPLE, Segmenter
from CyDAS.runs.checkpoint import load_checkpoint, refusing
from CyDAS.runs.resume import find_file
from CyDAS.runs.weights import Found, averaged_key, find_weights, load_weights
from CyDAS.spaces.backbones import build_backbone, open_backbone
from CyDAS.tasks.segmentation import Segmentation, table
from CyDAS.utils.distributed import Process, gather, place
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import recall_network
from CyDAS.utils.overlays import legend
from CyDAS.utils.present import present
from CyDAS.utils.profile import count_macs
from CyDAS.utils.texts import few, say

#: What a network takes: sides of multiples, from the smallest on.
PAD = Padded(MULTIPLE, LEAST)
#: Channels of a chain's last stage in the published segmenters.
C_LAST = 320
#: What a checkpoint says of its data, for what is not given.
_DATA = ("dataset", "data_dir", "classes", "void_ids", "crop_size", "test_long_side", "window")


def make_segmenter(config: SegmentConfig, n_classes: int) -> tuple[Segmenter, list[str]]:
    """The segmenter that the flags name, and lines that say where its weights come from and how large it is."""
    default = None if config.backbone_checkpoint else C_LAST
    backbone, lines = open_backbone(config.backbone, config.backbone_checkpoint, config.c_last or default)
    if not config.backbone_checkpoint:
        initialise(backbone)
    network = Segmenter(backbone, n_classes, config.decoder_width, config.bn_momentum)
    network.window = _window(config)
    return network, [*lines, describe(network, config)]


def _window(config: SegmentConfig) -> tuple[int, int] | None:
    if not config.window:
        return None
    height, width = config.window
    return height, width


def describe(network: Segmenter, config: SegmentConfig) -> str:
    everything, at_work = network.count_parameters()
    height, width = present(config.crop_size)
    return (
        f"network: {at_work / 1e6:.3f} M parameters ({everything / 1e6:.3f} M with auxiliary heads), "
        f"{count_macs(network, (3, height, width)) / 1e9:.3f} G multiply-accumulates at {width} x {height} pixels"
    )


def make_task(config: SegmentConfig, n_classes: int) -> Segmentation:
    return Segmentation(n_classes, config.aux_weight, config.ohem_threshold, config.ohem_share)


def use_checkpoint(config: SegmentConfig, given: set[str], process: Process) -> None:
    """``--eval_only`` or ``--predict``, with the checkpoint that the flags name."""
    notes: list[str] = []
    name = config.resume_name or "last.pth.tar"
    path = find_file(name, config.output_dir / "segment" / config.name, config.resume_name is not None, notes.append)
    content = load_checkpoint(path)
    found = find_weights(content, path, config.weights_key or averaged_key(content))
    recall(config, given, found, path)
    recorded = recorded_data(found.about, path)
    (test if config.eval_only else predict)(config, process, found, recorded, path)
    for note in notes if process.is_main else ():
        say(note)


def recall(config: SegmentConfig, given: set[str], found: Found, path: Path) -> None:
    """Complete the flags by the settings that a checkpoint was made with. Raises :class:`CydasError` for a given flag
    that contradicts the network in it.
    """
    saved = found.about.get("config")
    if not isinstance(saved, dict) or "backbone" not in found.about:  # of another program: flags say what it is
        return
    data_given = {"data_dir", "dataset"} & given
    void = given | ({"classes", "void_ids"} if data_given else set())
    recall_network(config, given, saved, [flag for flag in _DATA if flag not in void], f"checkpoint {path}")


def trained_segmenter(config: SegmentConfig, found: Found, n_classes: int, path: Path) -> Segmenter:
    """The network whose weights were found in a checkpoint, in eval mode. Raises :class:`CydasError`."""
    recipe = found.about.get("backbone")
    if isinstance(recipe, dict):
        with refusing(f"checkpoint {path} does not say which backbone it has"):
            network = Segmenter(build_backbone(recipe), n_classes, config.decoder_width, config.bn_momentum)
    else:
        network = Segmenter(open_backbone(config.backbone, None, config.c_last or C_LAST)[0], n_classes,
                            config.decoder_width, config.bn_momentum)  # fmt: skip
    load_weights(network, network.without_head(found.weights), path)
    network.window = _window(config)
    return network.eval()


def _load(config: SegmentConfig, process: Process, found: Found, n_classes: int, path: Path) -> Segmenter:
    return place(trained_segmenter(config, found, n_classes, path), config, process.device)


def test(config: SegmentConfig, process: Process, found: Found, recorded: dict[str, Any] | None, path: Path) -> None:
    data = load_segmentation(config, process, PAD, with_training=False, recorded=recorded)
    network = _load(config, process, found, data.n_classes, path)
    precision = Precision(process.device, config.use_amp, config.amp_dtype)
    result = evaluate(network, make_task(config, data.n_classes), data.test_batches(), precision)
    if process.is_main:
        for line in (f"{path}: {describe(network, config)}", *data.report("test"), *table(data.classes, result)):
            say(line)
        say(f"{result.words('  ')}  on {result.images} test images of {config.data_dir}")


def predict(config: SegmentConfig, process: Process, found: Found, recorded: dict[str, Any] | None, path: Path) -> None:
    """Every process answers its share of the images; one that is none is named at the end."""
    ids = _ids(config, process, recorded, path)
    network = _load(config, process, found, len(ids.names), path)
    folder = config.predict_dir or config.output_dir / "segment" / config.name / "predictions"
    white = (recorded or {}).get("pixel_range")
    predictor = Predictor(
        network, ids, ToUnit(tuple(white) if white else None), PAD,
        Precision(process.device, config.use_amp, config.amp_dtype), folder,
    )  # fmt: skip
    problems = []
    for file, name in find_images(present(config.predict))[process.rank :: process.world_size]:
        try:
            say(predictor.write(file, name))
        except CydasError as error:
            problems.append(str(error))
    problems = [problem for some in gather(problems) for problem in some]
    if process.is_main:
        write_png(folder / "legend.png", legend(ids.names))
        say(f"written: {folder}")
    if problems:
        raise CydasError(f"{len(problems)} file(s) have no prediction: {few(problems)}")


def _ids(config: SegmentConfig, process: Process, recorded: dict[str, Any] | None, path: Path) -> Ids:
    """The classes of a checkpoint; one that names none is of the data that the flags name."""
    if recorded:
        with refusing(f"checkpoint {path} does not say which ids its classes have"):
            return Ids(recorded["classes"], recorded["ids"], [], f"checkpoint {path}")
    return SegmentationData(config, process, False, {}, PAD).ids
