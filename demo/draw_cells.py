"""Draw the cells of a genotype file: ``python demo/draw_cells.py CyDAS/cells/cifar_genotype.json FOLDER``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from CyDAS.spaces import load_architecture
from CyDAS.spaces.darts import draw_cells

if __name__ == "__main__":
    genotype_file, folder = Path(sys.argv[1]), Path(sys.argv[2])
    draw_cells(load_architecture(genotype_file, stages=3), folder, genotype_file.stem)
