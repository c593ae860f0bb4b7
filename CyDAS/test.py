"""Evaluate a checkpoint: ``python CyDAS/test.py --help``."""

import logging
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from CyDAS.config import EvaluationConfig
from CyDAS.data import load_data
from CyDAS.data.classes import check_outputs, recorded_data
from CyDAS.effects import idle_flags
from CyDAS.engine.evaluation import evaluate, make_fast
from CyDAS.engine.optim import Precision
from CyDAS.remembered import find_architecture, is_ours, recall, tested_on
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.resume import find_file
from CyDAS.runs.start import started
from CyDAS.runs.weights import Found, averaged_key, find_weights, load_weights
from CyDAS.spaces import make_space
from CyDAS.tasks.classification import Classification
from CyDAS.utils.distributed import Process, place
from CyDAS.utils.errors import run_program
from CyDAS.utils.flags import parse
from CyDAS.utils.present import present
from CyDAS.utils.profile import count_macs
from CyDAS.utils.texts import OneLine, few, say


def main(arguments: list[str] | None = None) -> None:
    present(logging.lastResort).setFormatter(OneLine())  # a test has no log of its own; warnings go to stderr
    config, given = parse(EvaluationConfig, "Evaluate a checkpoint on all test images.", arguments)
    notes: list[str] = []
    folder = config.output_dir / "retrain" / config.name
    path = find_file(config.resume_name, folder, "resume_name" in given, notes.append)
    content = load_checkpoint(path)
    found = find_weights(content, path, config.weights_key or averaged_key(content))
    if is_ours(found.about):
        notes += recall(config, given, found.about["config"], path)
    architecture = find_architecture(config, found.about, path)
    with started(config) as process:
        notes += idle_flags(config, given, process)
        test_once(config, process, path, found, architecture, notes)


def test_once(
    config: EvaluationConfig, process: Process, path: Path, found: Found, architecture: Any, notes: list[str]
) -> None:
    """One test in this process, or together with the others. ``notes``: warnings for the person who asks."""
    weights, recorded = found.weights, recorded_data(found.about, path)
    data = load_data(config, process, with_training=False, recorded=recorded)
    space = make_space(config, data)
    auxiliary = any(key.startswith("aux_head.") for key in weights)
    network = space.retrain_network(architecture, auxiliary)
    check_outputs(weights, data.n_classes, data.place("test"), path)
    load_weights(network, weights, path)
    parameters = network.count_parameters()
    image_shape = data.input_channels, data.image_size, data.image_size
    macs = count_macs(network, image_shape)
    network = place(network, config, process.device).eval()
    make_fast(network, config, torch.zeros(1, *image_shape, device=process.device))
    precision = Precision(process.device, config.use_amp, config.amp_dtype)
    accuracy = evaluate(network, Classification(data.n_classes), data.test_batches(), precision)
    if process.is_main:
        for line in notes:
            say(line)
        if found.others:
            say(f"the weights are those under {found.where}; others (--weights_key): {', '.join(found.others)}")
        say(f"{path}: {parameters / 1e6:.3f} M parameters, {macs / 1e6:.1f} M multiply-accumulates")
        for line in data.report("test"):
            say(line)
        if not recorded:
            numbered = few([f"{number} {name}" for number, name in enumerate(data.classes)])
            say(f"the checkpoint names no classes: they are numbered in the order of the test images': {numbered}")
        say(f"{accuracy.words('  ')}  on {accuracy.images} test images of {tested_on(config)}")


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
