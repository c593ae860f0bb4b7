"""Evaluate a checkpoint: ``python CyDAS/test.py --help``."""

import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch
from torch import Tensor, nn

from CyDAS.config import EvaluationConfig
from CyDAS.data import load_data
from CyDAS.engine.optim import Precision
from CyDAS.engine.supervised import evaluate
from CyDAS.models.fuse import fold_batch_norms
from CyDAS.models.native.tensors import is_native
from CyDAS.spaces import SPACES, check_genotype, load_architecture, make_space
from CyDAS.utils import run
from CyDAS.utils.checkpoint import load_checkpoint, load_weights
from CyDAS.utils.distributed import Process, alike, place
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.flags import parse, take_over
from CyDAS.utils.profile import count_macs
from CyDAS.utils.resume import find_file

#: Settings of the network and its data that a test takes from the checkpoint unless they are given.
FROM_CHECKPOINT = (
    "dataset", "data_dir", "train_dir", "test_dir", "image_size", "n_classes", "input_channels",
    "space", "model_type", "init_channels", "stem_multiplier", "layer_num", "cells_per_stage", "res_stem",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(EvaluationConfig, "Evaluate a checkpoint on all test images.", arguments)
    path = find_file(config.resume_name, config.output_dir / "retrain" / config.name)
    content = load_checkpoint(path)
    take_over(config, given, content.get("config"), FROM_CHECKPOINT)
    weights = content.get("model_main", content)  # published checkpoints are bare state dicts
    if not isinstance(weights, dict):
        raise CydasError(f"checkpoint {path} holds no weights")
    architecture = find_architecture(config, content, path)
    with run.started(config) as process:
        test_once(config, process, path, architecture, weights)


def test_once(config: EvaluationConfig, process: Process, path: Path, architecture: Any, weights: dict) -> None:
    """One test in this process, or together with the others."""
    with alike():
        data = load_data(config, process, with_training=False)
    space = make_space(config, data)
    layout = space.layout
    auxiliary = any("aux_head." in str(key) for key in weights)
    network = space.retrain_network(architecture, auxiliary)
    load_weights(network, weights, path)
    parameters = network.count_parameters()
    image_shape = layout.input_channels, layout.image_size, layout.image_size
    macs = count_macs(network, image_shape)
    network = place(network, config, process.device).eval()
    make_fast(network, config, torch.zeros(1, *image_shape, device=process.device))
    accuracy = evaluate(network, data.test_batches(), Precision(process.device, config.use_amp, config.amp_dtype))
    if process.is_main:
        print(f"{path}: {parameters / 1e6:.3f} M parameters, {macs / 1e6:.1f} M multiply-accumulates")
        print(
            f"top-1 {accuracy.top1:.2f} %  top-5 {accuracy.top5:.2f} %  "
            f"on {accuracy.images} test images of {config.dataset}"
        )


def make_fast(network: nn.Module, config: EvaluationConfig, images: Tensor) -> None:
    """Fold batch norms and compile, as the flags say, for ``images`` of this kind.

    Native cells apply batch norms in passing: there is nothing to fold.
    """
    native = is_native(images) and not (config.use_amp or config.compile)
    if config.fuse and not native:
        fold_batch_norms(network)
    if config.compile:
        network.compile(mode=config.compile_mode)


def find_architecture(config: EvaluationConfig, content: dict[str, Any], path: Path) -> Any:
    """The genotype of ``--cell_file``, else the checkpoint's own."""
    if config.cell_file:
        architecture = load_architecture(config.cell_file, config.layer_num, config.space)
        check_genotype(content, architecture, config, path)
        return architecture
    if "genotype" not in content:
        raise CydasError(
            f"checkpoint {path} does not say which architecture it is of: give its genotype with --cell_file"
        )
    return SPACES[config.space].parse(content["genotype"], config.layer_num, f"checkpoint {path}")


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
