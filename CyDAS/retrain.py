"""Train a found architecture: ``python CyDAS/retrain.py --help``."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import RetrainConfig
from CyDAS.data import load_data
from CyDAS.data.dataset import say_data
from CyDAS.effects import idle_flags
from CyDAS.engine.continuing import check_training
from CyDAS.engine.estimate import estimate_training, print_estimate
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.many import run_many
from CyDAS.engine.optim import Precision, optimiser_of, scale_learning_rates
from CyDAS.engine.results import report_training
from CyDAS.engine.schedules import retrain_schedule
from CyDAS.engine.training import Extent, Training
from CyDAS.models import native
from CyDAS.recipe import apply_size_rule, fit_auxiliary_head, fit_cutout
from CyDAS.runs.opening import opened
from CyDAS.runs.start import started
from CyDAS.spaces import load_architecture, make_space
from CyDAS.tasks.classification import Classification
from CyDAS.utils.callable_module import make_callable
from CyDAS.utils.distributed import Process, copy_from_main, place
from CyDAS.utils.errors import run_program
from CyDAS.utils.flags import parse_each, plain
from CyDAS.utils.profile import count_macs, count_parameters


def main(arguments: list[str] | None = None) -> None:
    variants = parse_each(RetrainConfig, "Train the architecture of a genotype file.", arguments)
    found = [load_architecture(config.genotype_file, config.layer_num, config.space) for config, _ in variants]
    config, given = variants[0]
    if config.is_many:
        run_many(Path(__file__).resolve(), variants)
        return
    with started(config) as process:
        retrain_once(config, given, process, found[0])


def retrain_once(config: RetrainConfig, given: set[str], process: Process, architecture: Any) -> None:
    """One retraining in this process, or together with the others."""
    notes = idle_flags(config, given, process)
    fit_auxiliary_head(config, given)
    by_rule = scale_learning_rates(config, process.world_size)
    data = load_data(config, process)
    notes += fit_cutout(config, given, data)
    space = make_space(config, data)
    train = data.train_batches(range(data.train_size), cutout_length=config.cutout_length, stream=3)
    test = data.test_batches()
    network = space.retrain_network(architecture, config.aux_weight > 0)
    bare, parameters = network.count_parameters(), count_parameters(network)
    macs = count_macs(network, (data.input_channels, data.image_size, data.image_size))
    by_rule += apply_size_rule(config, given, bare)
    network = place(network, config, process.device)
    copy_from_main(network)
    if config.compile:
        network.compile(mode=config.compile_mode)
    training = Training(
        network,
        Classification(data.n_classes, config.label_smooth, config.aux_weight, config.mixup_alpha),
        optimiser_of(network, config),
        retrain_schedule(config, len(train), process.world_size),
        Extent(config.total_epochs, config.accum_steps, config.grad_clip, config.print_freq, config.ema_decay),
        Precision(process.device, config.use_amp, config.amp_dtype),
        StepGuard(config.on_nan),
        lambda epoch: network.set_drop_path(config.drop_path_prob * epoch / config.total_epochs),
        space.weights_name,
    )
    head = f" ({parameters / 1e6:.3f} M with auxiliary head)" if parameters != bare else ""
    size = f"network: {bare / 1e6:.3f} M parameters{head}, {macs / 1e6:.1f} M multiply-accumulates"
    if config.dry_run:
        figures = estimate_training(training, train, test)
        print_estimate([*notes, *data.report("train", "test"), size, *figures], process)
        return
    record, named = data.record(), "resume_name" in given
    accept = partial(check_training, config, architecture, record)
    file = config.resume_name
    with opened("retrain", config, process, file, accept, record, native.record, notes, may_be_path=named) as run:
        for line in (f"genotype {config.genotype_file}", size, *by_rule):
            run.log.info("%s", line)
        say_data(data, ("train", "test"), run.checkpoint, process, run.log)
        run.begin(config.seed, training.resume)
        about = {"genotype": space.to_strings(architecture), "about": run.about}
        content = {"config": plain(config), "n_classes": data.n_classes, "data": record} | about
        training.run(train, test, run.keeper, content)
        if process.is_main:
            report_training(training, {"parameters": bare, "macs": macs} | about, run)


def run_main() -> None:
    run_program(main, lasting=True)


make_callable(__name__)  # for CyDAS.retrain(...)

if __name__ == "__main__":
    run_main()
