"""Write a random cell as a genotype file: ``python scripts/random_genotype.py SEED FILE``."""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from CyDAS.models.genotype import random_genotype
from CyDAS.spaces import DartsSpace
from CyDAS.utils.files import write_json

if __name__ == "__main__":
    seed, path = int(sys.argv[1]), Path(sys.argv[2])
    genotype = random_genotype(torch.Generator().manual_seed(seed))
    write_json(path, DartsSpace.to_strings([genotype] * 3))
