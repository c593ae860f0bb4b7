"""Train and use a detector of objects: ``python CyDAS/detect.py --help``."""

import logging
import sys
from functools import partial
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import DetectConfig
from CyDAS.data.dataset import say_data
from CyDAS.data.given import find_images
from CyDAS.data.scenes import load_scenes
from CyDAS.effects import idle_flags
from CyDAS.engine.continuing import check_training
from CyDAS.engine.detectors import describe, folder_of, new_detector, open_detector
from CyDAS.engine.estimate import estimate_training, print_estimate
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.finding import Finder, Gallery, predict
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision, optimiser_of, scale_learning_rates
from CyDAS.engine.results import report_training
from CyDAS.engine.schedules import step_decay
from CyDAS.engine.training import Extent, Training
from CyDAS.models import native
from CyDAS.runs.opening import opened
from CyDAS.runs.start import started
from CyDAS.tasks.detection import Detection
from CyDAS.utils.distributed import Process, copy_from_main, place
from CyDAS.utils.errors import run_program
from CyDAS.utils.flags import parse, plain
from CyDAS.utils.present import present
from CyDAS.utils.texts import OneLine, say


def main(arguments: list[str] | None = None) -> None:
    present(logging.lastResort).setFormatter(OneLine())  # a test has no log of its own; warnings go to stderr
    config, given = parse(DetectConfig, "Train a detector of objects, test it, or find objects with it.", arguments)
    with started(config) as process:
        (train_detector if config.is_training else use_detector)(config, given, process)


def train_detector(config: DetectConfig, given: set[str], process: Process) -> None:
    """One training in this process, or together with the others."""
    notes = idle_flags(config, given, process)
    by_rule = scale_learning_rates(config, process.world_size)
    data = load_scenes(config, process)
    train, test = data.train_batches(range(data.train_size), stream=3), data.test_batches()
    network, loaded = new_detector(config, len(data.classes))
    size, figures = describe(network, config)
    copy_from_main(network := place(network, config, process.device))
    training = Training(
        network,
        Detection(data.classes),
        optimiser_of(network, config),
        step_decay(config.lr, present(config.lr_epochs), config.warmup_steps, len(train)),
        Extent(config.epochs, config.accum_steps, config.grad_clip, config.print_freq, config.ema_decay),
        Precision(process.device, config.use_amp, config.amp_dtype),
        StepGuard(config.on_nan),
        end_epoch=Gallery(data, config.pictures, config.show_score, folder_of(config) / "pictures"),
    )
    if config.dry_run:
        estimate = estimate_training(training, train, test)
        print_estimate([*notes, *data.report("train", "test"), *loaded, size, *estimate], process)
        return
    record, file, named = data.record(), config.resume_name or "detect_resume.pth.tar", "resume_name" in given
    accept = partial(check_training, config, None, record)
    with opened("detect", config, process, file, accept, record, native.record, notes, may_be_path=named) as run:
        for line in (*loaded, size, *by_rule):
            run.log.info("%s", line)
        say_data(data, ("train", "test"), run.checkpoint, process, run.log)
        run.begin(config.seed, training.resume)
        content = {"config": plain(config), "data": record, "backbone": network.backbone.recipe}
        training.run(train, test, run.keeper, content | {"about": run.about})
        if process.is_main:
            report_training(training, figures | {"about": run.about}, run)


def use_detector(config: DetectConfig, given: set[str], process: Process) -> None:
    """Test a detector, or find objects in images with it."""
    detector = open_detector(config, given)
    size, _ = describe(detector.network, config)
    lines = [*detector.notes, *idle_flags(config, given, process), f"{detector.path}: {size}"]
    network = place(detector.network, config, process.device)
    precision = Precision(process.device, config.use_amp, config.amp_dtype)
    if config.predict and process.is_main:
        (classes, category_ids), folder = detector.names(), config.predict_dir or folder_of(config) / "predictions"
        finder = Finder(network, precision, classes, detector.steps(config), config.show_score)
        predict(finder, find_images(config.predict), folder, category_ids)
        lines.append(f"written: {folder}")
    elif config.eval_only:
        data = load_scenes(config, process, with_training=False, recorded=detector.recorded)
        detector.check_classes(data.classes, data.place("test"))
        result = evaluate(network, Detection(data.classes), data.test_batches(), precision)
        lines += [*data.report("test"), *result.table(), f"{result.words('  ')}  on {result.images} test images"]
    for line in lines if process.is_main else ():
        say(line)


def run_main() -> None:
    run_program(main, lasting=True)


if __name__ == "__main__":
    run_main()
