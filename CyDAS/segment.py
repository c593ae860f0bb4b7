"""Train a segmenter, test it, or let it predict: ``python CyDAS/segment.py --help``."""

import logging
import sys
from functools import partial
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import SegmentConfig
from CyDAS.data.dataset import say_data
from CyDAS.data.segmentation import load_segmentation
from CyDAS.effects import idle_flags
from CyDAS.engine.continuing import check_training
from CyDAS.engine.estimate import estimate_training, print_estimate
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision, optimiser_of, scale_learning_rates
from CyDAS.engine.pictures import ValidationPictures
from CyDAS.engine.results import report_training
from CyDAS.engine.schedules import poly_schedule
from CyDAS.engine.training import Extent, Training
from CyDAS.models import native
from CyDAS.runs.opening import opened
from CyDAS.runs.start import started
from CyDAS.segmenting import PAD, make_segmenter, make_task, use_checkpoint
from CyDAS.tasks.segmentation import table
from CyDAS.utils.distributed import Process, copy_from_main, place
from CyDAS.utils.errors import run_program
from CyDAS.utils.flags import parse, plain
from CyDAS.utils.present import present
from CyDAS.utils.texts import OneLine, say


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(SegmentConfig, "Train a segmenter, test it, or let it predict.", arguments)
    with started(config) as process:
        notes = idle_flags(config, given, process)
        if config.is_training:
            train_once(config, process, notes)
            return
        present(logging.lastResort).setFormatter(OneLine())  # there is no log; warnings go to stderr
        for note in notes if process.is_main else ():
            say(note)
        use_checkpoint(config, given, process)


def train_once(config: SegmentConfig, process: Process, notes: list[str]) -> None:
    """One training in this process, or together with the others."""
    by_rule = scale_learning_rates(config, process.world_size)
    data = load_segmentation(config, process, PAD)
    train, test = data.train_batches([*range(data.train_size)] * config.repeats, stream=3), data.test_batches()
    network, about_network = make_segmenter(config, data.n_classes)
    recipe = network.backbone.recipe
    network = place(network, config, process.device)
    copy_from_main(network)
    training = Training(
        network,
        make_task(config, data.n_classes),
        optimiser_of(network, config),
        poly_schedule(config.lr, config.epochs * len(train), config.warmup_steps, config.warmup_lr),
        Extent(config.epochs, config.accum_steps, config.grad_clip, config.print_freq, config.ema_decay),
        Precision(process.device, config.use_amp, config.amp_dtype),
        StepGuard(config.on_nan),
        end_epoch=ValidationPictures(
            data, config.pictures, PAD, config.output_dir / "segment" / config.name / "pictures"
        ),
    )
    if config.dry_run:
        figures = estimate_training(training, train, test)
        print_estimate([*notes, *data.report("train", "test"), *about_network, *figures], process)
        return
    record, named = data.record(), config.resume_name is not None
    accept = partial(check_training, config, None, record)
    file = config.resume_name or "segment_resume.pth.tar"
    with opened("segment", config, process, file, accept, record, native.record, notes, may_be_path=named) as run:
        for line in (*about_network, *by_rule):
            run.log.info("%s", line)
        say_data(data, ("train", "test"), run.checkpoint, process, run.log)
        run.begin(config.seed, training.resume)
        content = {"config": plain(config), "n_classes": data.n_classes, "data": record, "backbone": recipe}
        training.run(train, test, run.keeper, content | {"about": run.about})
        if process.is_main:
            for line in table(data.classes, training.last):
                run.log.info("%s", line)
            report_training(training, {"classes": data.classes, "network": about_network, "about": run.about}, run)


def run_main() -> None:
    run_program(main, lasting=True)


if __name__ == "__main__":
    run_main()
