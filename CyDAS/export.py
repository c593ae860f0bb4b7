"""Take a trained network to other programs: ``python CyDAS/export.py --help``."""

import argparse
import logging
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from CyDAS.config import PUBLISHED
from CyDAS.exporting.folder import NAMES, check_folder, write_all
from CyDAS.exporting.formats import check_packages
from CyDAS.trained import find_checkpoint, open_trained
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.extension import add_extension_flag
from CyDAS.utils.numbers import whole_number
from CyDAS.utils.present import present
from CyDAS.utils.texts import OneLine, say


def main(arguments: list[str] | None = None) -> None:
    present(logging.lastResort).setFormatter(OneLine())  # there is no log; warnings go to stderr
    options = parse_options(arguments)
    if options.threads == 0:
        raise CydasError("--threads must be at least 1, not 0")
    if options.threads:
        torch.set_num_threads(options.threads)
    formats = list(dict.fromkeys(options.format))
    check_packages(formats)
    check_folder(options.to, options.overwrite)
    path = find_checkpoint(options.checkpoint, options.output_dir)
    size = tuple(options.image_size) if options.image_size else None
    subject, notes = open_trained(path, options.weights_key, size, options.cell_file, options.published)
    for line in notes:
        say(line)
    facts, shape = subject.facts, " x ".join(map(str, subject.image))
    say(f"{subject.task}: {facts['parameters'] / 1e6:.3f} M parameters, {facts['macs'] / 1e6:.1f} M "
        f"multiply-accumulates for an image of {shape}")  # fmt: skip
    for line in write_all(subject, formats, options.to, options.overwrite):
        say(line)


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write a trained network as safetensors, ONNX, a program of torch.export, a folder for timm and "
        "the Hugging Face hub. Nothing is uploaded.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="checkpoint of retrain.py, detect.py or segment.py, its run's folder, "
        "or the run's name (then its last.pth.tar)",
    )  # fmt: skip
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    parser.add_argument(
        "--format", nargs="+", choices=tuple(NAMES), default=["safetensors"],
        help="what to write; hf is for classifiers (default: safetensors)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier export in the folder")
    parser.add_argument(
        "--weights_key", metavar="TEXT", help="name under which the checkpoint holds the weights, as model_main, "
        "state_dict or state_dict_ema (default: averaged ones of a training with --ema_decay, else the plain ones)",
    )  # fmt: skip
    parser.add_argument(
        "--image_size", type=whole_number, nargs=2, metavar=("HEIGHT", "WIDTH"),
        help="pixels that a detector or a segmenter shall take, multiples of 32 (default: a detector's largest test "
        "image, a segmenter's crop)",
    )  # fmt: skip
    parser.add_argument(
        "--output_dir", type=Path, default=Path("experiments"), metavar="PATH",
        help="folder of all runs (default: experiments)",
    )  # fmt: skip
    parser.add_argument("--threads", type=whole_number, metavar="N", help="CPU threads (default: PyTorch's choice)")
    add_extension_flag(parser, "the network's space")
    others = parser.add_argument_group("of checkpoints of other programs, which do not say what they are")
    others.add_argument("--cell_file", type=Path, metavar="PATH", help="genotype of the network, FILE or FILE::NAME")
    others.add_argument("--published", choices=tuple(PUBLISHED), help="network and data of a published checkpoint")
    return parser.parse_args(arguments)


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
