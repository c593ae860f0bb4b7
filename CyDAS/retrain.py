"""Train a found architecture: ``python CyDAS/retrain.py --help``."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from torch import nn
from torch.optim import Optimizer

from CyDAS.config import RetrainConfig, parse
from CyDAS.data import ImagesInFolders, load_data
from CyDAS.engine.optim import Precision, retrain_lr, sgd
from CyDAS.engine.supervised import Accuracy, evaluate, train_epoch
from CyDAS.spaces import check_genotype, load_architecture, make_space
from CyDAS.utils import run
from CyDAS.utils.checkpoint import (
    load_checkpoint,
    load_weights,
    random_states,
    refusing,
    save_checkpoint,
    set_random_state,
)
from CyDAS.utils.distributed import Process, copy_from_main, place, stop_process
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.logs import RunLog
from CyDAS.utils.profile import count_macs, count_parameters

#: Published rule for CIFAR: below so many parameters (without auxiliary head), (weight decay, drop path).
SIZE_RULE = ((3.0e6, (3e-4, 0.2)), (3.5e6, (3e-4, 0.3)), (float("inf"), (5e-4, 0.3)))


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(RetrainConfig, "Train the architecture of a genotype file.", arguments)
    folder = config.output_dir / "retrain" / config.name
    cell_file = config.cell_file or config.output_dir / "search" / config.name / "genotype.json"
    architecture = load_architecture(cell_file, config.layer_num, config.space)
    process = run.start(config)
    data = load_data(config, process)
    if isinstance(data, ImagesInFolders) and "cutout_length" not in given:
        config.cutout_length = 0
    space = make_space(config, data)
    layout = space.layout
    train = data.train_batches(range(data.train_size), cutout_length=config.cutout_length, stream=3)
    test = data.test_batches()
    network = space.retrain_network(architecture, config.aux_weight > 0)
    bare = network.count_parameters()
    macs = count_macs(network, (layout.input_channels, layout.image_size, layout.image_size))
    resume_file = run.find_file(config.resume_name, folder)
    checkpoint = load_checkpoint(resume_file) if config.resume else None
    if process.is_main:
        run.prepare_folder(folder, config.resume, config.overwrite)
    log = RunLog(folder if process.is_main else None, "retrain.log")
    run.introduce(config, process, log)
    log.info("genotype %s", cell_file)
    log.info("network: %.3f M parameters (%.3f M with auxiliary head), %.1f M multiply-accumulates",
             bare / 1e6, count_parameters(network) / 1e6, macs / 1e6)  # fmt: skip
    if config.space == "darts" and config.dataset in ("cifar10", "cifar100"):
        apply_size_rule(config, given, bare, log)
    if process.is_main:
        run.record(folder, config, process)

    network = place(network, config, process.device)
    copy_from_main(network)
    if config.compile:
        network.compile(mode=config.compile_mode)
    optimiser = sgd(list(network.parameters()), config.lr, config.momentum, config.weight_decay, config.nesterov)
    training = Training(network, optimiser, Precision(process.device, config.use_amp, config.amp_dtype))
    if checkpoint:
        log.last_checkpoint = resume_file
        check_genotype(checkpoint, architecture, config, resume_file)
        training.resume(checkpoint, config, resume_file, process)
    else:
        run.seed_everything(config.seed + process.rank)  # from here on the processes' choices differ
    about = {"config": run.plain(config), "genotype": space.to_strings(architecture), "n_classes": data.n_classes}

    log.start_progress((config.epochs - training.epoch) * len(train))
    try:
        while training.epoch < config.epochs:
            epoch = training.epoch
            rate = retrain_lr(
                config.lr, epoch, config.epochs, config.warmup_epochs, config.batch_size * process.world_size
            )
            for group in optimiser.param_groups:
                group["lr"] = rate
            network.set_drop_path(config.drop_path_prob * epoch / config.epochs)
            means = train_epoch(network, train, optimiser, config, data.n_classes, training.precision, epoch, log)
            copy_from_main(network)  # batch norm statistics differ between processes
            accuracy = evaluate(network, test, training.precision)
            training.finish_epoch(accuracy)
            log.info("epoch %d/%d: test top-1 %.2f, top-5 %.2f (best top-1 %.2f); train loss %.4f, top-1 %.2f, lr %.4g",
                     epoch + 1, config.epochs, accuracy.top1, accuracy.top5, training.best.top1,
                     means["train/loss"], means["train/top1"], rate)  # fmt: skip
            scalars = {"test/top1": accuracy.top1, "test/top5": accuracy.top5, "test/loss": accuracy.loss, "lr": rate}
            log.scalars(means | scalars, training.epoch * len(train))
            random = random_states()
            if process.is_main:
                log.last_checkpoint = training.save(folder, config.resume_name, about, random)
        if process.is_main:
            report(training, folder, bare, macs, log)
    finally:
        log.close()
        stop_process()


def apply_size_rule(config: RetrainConfig, given: set[str], parameters: int, log: RunLog) -> None:
    """Weight decay and drop path by the network's size, as published; a flag that was given wins."""
    weight_decay, drop_path = next(values for limit, values in SIZE_RULE if parameters < limit)
    for name, value in (("weight_decay", weight_decay), ("drop_path_prob", drop_path)):
        if name in given:
            log.info("--%s %g as given (%g by the network's size)", name, getattr(config, name), value)
        else:
            setattr(config, name, value)
            log.info("--%s %g by the network's size", name, value)


class Training:
    """The state of a retraining: network, optimiser, finished epochs, last and best accuracy."""

    def __init__(self, network: nn.Module, optimiser: Optimizer, precision: Precision):
        self.network = network
        self.optimiser = optimiser
        self.precision = precision
        self.epoch = 0
        self.last = self.best = Accuracy(0.0, 0.0, 0.0, 0)

    def finish_epoch(self, accuracy: Accuracy) -> None:
        self.epoch += 1
        self.last = accuracy
        if accuracy.top1 > self.best.top1 or self.epoch == 1:
            self.best = accuracy

    def save(self, folder: Path, resume_name: str, about: dict, random: list[dict]) -> Path:
        """Write the resume checkpoint (its path is returned), ``last`` and, after the best epoch so far, ``best``."""
        weights = {"model_main": self.network.state_dict(), "epoch": self.epoch, **about}
        state = {
            **weights,
            "optimizer": self.optimiser.state_dict(),
            "lr_scheduler": {
                "last_epoch": self.epoch
            },  # rates follow from the epoch; the published layout has this key
            "scaler": self.precision.scaler.state_dict(),
            "best_top1": self.best.top1,
            "best_top5": self.best.top5,
            "last": list(self.last),
            "best": list(self.best),
            "sta_epoch": self.epoch,
            "random": random,
        }
        path = folder / Path(resume_name).name
        save_checkpoint(path, state)
        save_checkpoint(folder / "last.pth.tar", weights)
        if self.best is self.last:
            save_checkpoint(folder / "best.pth.tar", weights)
        return path

    def resume(self, state: dict, config: RetrainConfig, path: Path, process: Process) -> None:
        """Go on from a checkpoint's content. Raises :class:`CydasError` where it is none, or of another training."""
        with refusing(f"checkpoint {path} is not one to resume a training from"):
            run.check_continuation(state["config"], config, path, "epochs")
            load_weights(self.network, state["model_main"], path)
            self.optimiser.load_state_dict(state["optimizer"])
            self.precision.scaler.load_state_dict(state["scaler"])
            self.last, self.best = Accuracy(*state["last"]), Accuracy(*state["best"])
            self.epoch = int(state["sta_epoch"])
            set_random_state(state["random"], process)


def report(training: Training, folder: Path, parameters: int, macs: int, log: RunLog) -> None:
    """The last epoch first: picking the best on the test set flatters the result."""
    log.info("last epoch: top-1 %.2f %%, top-5 %.2f %% on %d test images", *training.last[:2], training.last.images)
    log.info("best epoch: top-1 %.2f %% (chosen on the test set)", training.best.top1)
    result = {"last": training.last._asdict(), "best": training.best._asdict(), "epochs": training.epoch}
    write_json(folder / "result.json", result | {"parameters": parameters, "macs": macs})


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
