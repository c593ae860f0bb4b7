"""Write a random cell as a genotype file: ``python scripts/random_genotype.py SEED FILE``."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.spaces import DartsSpace
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.numbers import whole_number


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=whole_number, metavar="SEED", help="seed of the choice, from 0 on")
    parser.add_argument("file", type=Path, metavar="FILE", help="genotype file to write; an earlier one is replaced")
    options = parser.parse_args(arguments)
    genotype = random_genotype(torch.Generator().manual_seed(options.seed))
    write_json(options.file, DartsSpace.to_strings([genotype] * 3))


if __name__ == "__main__":
    run_program(main)
