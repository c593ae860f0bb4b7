"""Draw the cells of a genotype, of whatever space and kind of file it is.

python demo/draw_cells.py CyDAS/cells/cifar_genotype.json FOLDER
python demo/draw_cells.py genotypes.py::DARTS_V2 FOLDER              # one of several in a file
python demo/draw_cells.py experiments/search/NAME/search_resume.pth.tar FOLDER
"""

import argparse
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from CyDAS.spaces import SPACES, identify_architecture
from CyDAS.spaces.files import split_name
from CyDAS.utils.errors import run_program
from CyDAS.utils.extension import add_extension_flag


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="genotype file, result or checkpoint; FILE::NAME for one of several")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    add_extension_flag(parser, "the genotype's space")
    options = parser.parse_args(arguments)
    space, architecture = identify_architecture(options.file)
    file, name = split_name(options.file)
    stem = file.stem if name is None else f"{file.stem}_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}"
    for path in SPACES[space].draw(architecture, options.folder, stem):
        print(path)


if __name__ == "__main__":
    run_program(main)
