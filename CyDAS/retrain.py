"""Train a found architecture: ``python CyDAS/retrain.py --help``."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from functools import partial
from typing import Any

from CyDAS.config import RetrainConfig
from CyDAS.data import ImagesInFolders, load_data
from CyDAS.data.classes import check_same_data
from CyDAS.data.dataset import say_data
from CyDAS.data.loaders import Batches
from CyDAS.effects import idle_flags
from CyDAS.engine.estimate import estimate_retrain, print_estimate
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision, retrain_lr, scale_learning_rates, sgd
from CyDAS.engine.supervised import Training, evaluate, train_epoch
from CyDAS.models import native
from CyDAS.runs import run
from CyDAS.runs.about import how_made
from CyDAS.runs.checkpoint import RuledOut, refusing
from CyDAS.runs.keeper import Keeper
from CyDAS.runs.logs import RunLog
from CyDAS.runs.resume import check_continuation, choose_checkpoint, find_file
from CyDAS.runs.weights import check_finite
from CyDAS.spaces import check_genotype, load_architecture, make_space
from CyDAS.utils.distributed import Process, copy_from_main, place
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.flags import parse, plain
from CyDAS.utils.profile import count_macs, count_parameters

#: Published rule for CIFAR: below so many parameters (without auxiliary head), (weight decay, drop path).
SIZE_RULE = ((3.0e6, (3e-4, 0.2)), (3.5e6, (3e-4, 0.3)), (float("inf"), (5e-4, 0.3)))


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(RetrainConfig, "Train the architecture of a genotype file.", arguments)
    folder = config.output_dir / "retrain" / config.name
    cell_file = config.cell_file or config.output_dir / "search" / config.name / "genotype.json"
    architecture = load_architecture(cell_file, config.layer_num, config.space)
    with run.started(config) as process:
        retrain_once(config, given, process, folder, cell_file, architecture)


def retrain_once(
    config: RetrainConfig, given: set[str], process: Process, folder: Path, cell_file: Path, architecture: Any
) -> None:
    """One retraining in this process, or together with the others."""
    notes = idle_flags(config, given, process)
    by_rule = scale_learning_rates(config, process.world_size)
    data = load_data(config, process)
    if isinstance(data, ImagesInFolders) and "cutout_length" not in given:
        config.cutout_length = 0
    if config.cutout_length >= 2 * data.image_size:  # wherever the square's centre lies
        square = f"--cutout_length {config.cutout_length}"
        notes.append(f"{square} blanks whole images of {data.image_size} pixels: give less")
    space = make_space(config, data)
    layout = space.layout
    train = data.train_batches(range(data.train_size), cutout_length=config.cutout_length, stream=3)
    test = data.test_batches()
    network = space.retrain_network(architecture, config.aux_weight > 0)
    bare, parameters = network.count_parameters(), count_parameters(network)
    macs = count_macs(network, (layout.input_channels, layout.image_size, layout.image_size))
    if config.space == "darts" and config.dataset in ("cifar10", "cifar100"):
        by_rule += apply_size_rule(config, given, bare)
    network = place(network, config, process.device)
    copy_from_main(network)
    if config.compile:
        network.compile(mode=config.compile_mode)
    optimiser = sgd(list(network.parameters()), config.lr, config.momentum, config.weight_decay, config.nesterov)
    precision = Precision(process.device, config.use_amp, config.amp_dtype)
    training = Training(network, optimiser, precision, StepGuard(config.on_nan))
    size = (
        f"network: {bare / 1e6:.3f} M parameters ({parameters / 1e6:.3f} M with auxiliary head), "
        f"{macs / 1e6:.1f} M multiply-accumulates"
    )
    if config.dry_run:
        figures = estimate_retrain(training, config, train, test, data.n_classes)
        print_estimate([*notes, *data.report("train", "test"), size, *figures], process)
        return
    path = folder / Path(config.resume_name).name
    named = find_file(config.resume_name, folder, "resume_name" in given, notes.append)
    resume_file = choose_checkpoint(config, folder, path, named)
    about = how_made(config, process, native.record) | {"data": data.record()}
    accept = partial(check_training, config, architecture, about["data"])
    content = {
        "config": plain(config), "genotype": space.to_strings(architecture), "n_classes": data.n_classes,
        "data": about["data"], "about": about,
    }  # fmt: skip
    own = path.resolve() == resume_file.resolve()
    again = [] if own else ["--resume_name", path.name]
    with run.opened(folder, config, process, about, resume_file, accept, "retrain.log") as opened:
        log = opened.log
        for line in notes:
            log.warning("%s", line)
        for line in (f"genotype {cell_file}", size, *by_rule):
            log.info("%s", line)
        say_data(data, ("train", "test"), opened.checkpoint, process, log)
        keep = not (own and opened.passed_over)
        keeper = Keeper(path, config.checkpoint_minutes, process, log, keep=keep, again=again)
        with keeper:
            if opened.checkpoint:
                log.last_checkpoint = resume_file
                training.resume(opened.checkpoint, resume_file, process)
            else:
                run.seed_everything(config.seed + process.rank)  # from here on the processes' choices differ
            train_all(training, config, (train, test), data.n_classes, keeper, content)
            if process.is_main:
                found = {"parameters": bare, "macs": macs, "genotype": content["genotype"], "about": about}
                report(training, folder, found, log)
            keeper.finish()


def train_all(
    training: "Training",
    config: RetrainConfig,
    loaders: tuple[Batches, Batches],
    n_classes: int,
    keeper: Keeper,
    content: dict[str, Any],
) -> None:
    """All epochs that are left. ``loaders``: train, test; ``content``: what checkpoints hold beside the training."""
    (train, test), log, process = loaders, keeper.log, keeper.process
    network, optimiser, precision = training.network, training.optimiser, training.precision
    log.start_progress((config.epochs - training.epoch) * len(train) - training.state.index)

    def end_step() -> None:
        save, stop = keeper.wants()
        if save:
            training.save(keeper, content)
        if stop:
            keeper.stop()

    while training.epoch < config.epochs:
        epoch = training.epoch
        batch = config.global_batch(process.world_size)
        rate = retrain_lr(config.lr, epoch, config.epochs, config.warmup_epochs, batch)
        for group in optimiser.param_groups:
            group["lr"] = rate
        network.set_drop_path(config.drop_path_prob * epoch / config.epochs)
        means = train_epoch(
            network,
            train,
            optimiser,
            config,
            n_classes,
            precision,
            epoch,
            log,
            training.state,
            training.guard,
            end_step,
        )
        copy_from_main(network)  # batch norm statistics differ between processes
        accuracy = evaluate(network, test, precision)
        training.finish_epoch(accuracy)
        log.info("epoch %d/%d: test top-1 %.2f, top-5 %.2f (best top-1 %.2f); train loss %.4f, top-1 %.2f, lr %.4g",
                 epoch + 1, config.epochs, accuracy.top1, accuracy.top5, training.best.top1,
                 means.get("train/loss", float("nan")), means.get("train/top1", float("nan")), rate)  # fmt: skip
        scalars = {"test/top1": accuracy.top1, "test/top5": accuracy.top5, "test/loss": accuracy.loss, "lr": rate}
        log.scalars(means | scalars, training.epoch * len(train))
        if process.is_main:  # before the checkpoint, after which this epoch is not trained again
            keeper.try_to("the epoch's weights are not kept", training.save_weights, keeper.path.parent, content)
        training.save(keeper, content)
        if training.epoch < config.epochs and keeper.must_stop():
            keeper.stop()


def check_training(
    config: RetrainConfig, architecture: Any, data: dict[str, Any], content: dict[str, Any], path: Path
) -> None:
    """Raise :class:`CydasError` where a checkpoint is not one of a training of this architecture, with these flags and
    on ``data``, a record.
    """
    with refusing(f"checkpoint {path} is not one to resume a training from"):
        check_genotype(content, architecture, config, path)
        check_continuation(content["config"], config, path, "epochs")
        check_same_data(content, data, path, ("train", "test"))
        if config.epochs < content["config"]["epochs"]:
            raise RuledOut(f"checkpoint {path} is of {content['config']['epochs']} epochs: --epochs may only grow")
        kept = {name: content[name] for name in ("model_main", "optimizer")}
        check_finite(kept | {"buffers": [state["buffers"] for state in content["processes"]]}, f"checkpoint {path}")


def apply_size_rule(config: RetrainConfig, given: set[str], parameters: int) -> list[str]:
    """Set weight decay and drop path by the network's size, as published; a flag that was given wins.

    Returns lines for the log.
    """
    lines = []
    weight_decay, drop_path = next(values for limit, values in SIZE_RULE if parameters < limit)
    for name, value in (("weight_decay", weight_decay), ("drop_path_prob", drop_path)):
        if name in given:
            lines.append(f"--{name} {getattr(config, name):g} as given ({value:g} by the network's size)")
        else:
            setattr(config, name, value)
            lines.append(f"--{name} {value:g} by the network's size")
    return lines


def report(training: Training, folder: Path, about: dict[str, Any], log: RunLog) -> None:
    """The last epoch first: picking the best on the test set flatters the result."""
    log.info("last epoch: top-1 %.2f %%, top-5 %.2f %% on %d test images", *training.last[:2], training.last.images)
    log.info("best epoch: top-1 %.2f %% (chosen on the test set)", training.best.top1)
    result = {"last": training.last._asdict(), "best": training.best._asdict(), "epochs": training.epoch}
    write_json(folder / "result.json", result | about)


def run_main() -> None:
    run_program(main, lasting=True)


if __name__ == "__main__":
    run_main()
