"""Write docs/model_zoo.md, the table of all published networks: ``python scripts/model_zoo.py``.

Parameters and multiply-accumulates are counted here. Published figures are copied from where they stand: of the chain
networks in ``CyDAS/models/chain/published.py``, of the cells in docs/usage.md.
"""

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import timm

from CyDAS.models.chain.published import PUBLISHED
from CyDAS.spaces.registry import CELLS, model_type_of
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_atomically
from CyDAS.utils.profile import count_macs, count_parameters

TARGET = ROOT / "docs/model_zoo.md"
#: Whose published figures a cell has: a row of the tables in docs/usage.md, and what must be said with it.
METHODS = {
    "cydas_cifar": ("CDARTS", "the mean of the method's six cells"),
    "cydas_imagenet": ("CDARTS", "the mean of the method's five cells"),
    "cydas_dartsv2": ("DARTS, second order", ""),
    "cydas_pcdarts_cifar": ("PC-DARTS", ""),
    "cydas_pcdarts_imagenet": ("PC-DARTS", ""),
    "cydas_pdarts": ("P-DARTS", ""),
}
HEAD = """# All published networks

Written by `python scripts/model_zoo.py`. Each line builds its network after `import CyDAS, timm`, with random weights:
weights are not part of the package, and `checkpoint_path="FILE.pth.tar"` loads those of a training. Parameters and
multiply-accumulates (of convolutions and linear layers, for one image) are counted; accuracies are what the papers
print, of trainings that were not repeated here.
"""


class Row(NamedTuple):
    """A line of a table."""

    name: str
    parameters: int
    macs: int
    image_size: int
    published: str

    def __str__(self) -> str:
        size = f"{self.image_size} x {self.image_size}"
        counted = f"{self.parameters:,} | {self.macs / 1e6:.1f} M | {size}"
        return f'| `{self.name}` | {counted} | {self.published} | `timm.create_model("{self.name}")` |'


def counted(name: str, published: str) -> Row:
    """The network of this name, as timm makes it."""
    network: Any = timm.create_model(name)
    image = network.pretrained_cfg["input_size"]
    return Row(name, count_parameters(network), count_macs(network, image), image[1], published)


def figures_of_cells(readme: str) -> dict[tuple[str, str], str]:
    """The first figure of each row of the tables of published results, by the row's start and the macro-structure.

    Raises :class:`CydasError` where a table is missing.
    """
    figures = {}
    for model_type, column in (("cifar", "CIFAR-10"), ("imagenet", "ImageNet top-1")):
        _, found, table = readme.partition(f"| published | {column} |")
        if not found:
            raise CydasError(f"docs/usage.md has no table of published figures for {column}")
        for line in table.partition("\n\n")[0].splitlines()[2:]:
            method, figure = (cell.strip() for cell in line.split("|")[1:3])
            figures[method.partition(" (")[0], model_type] = f"{figure} % top-1 ({column.split()[0]})"
    return figures


def published_of(name: str, figures: dict[tuple[str, str], str]) -> str:
    """What docs/usage.md says of a cell's method. Raises :class:`CydasError` where it says nothing."""
    if name not in METHODS:
        return ""
    method, remark = METHODS[name]
    if (method, model_type_of(name)) not in figures:
        raise CydasError(f"docs/usage.md has no row {method} of published figures for {name}")
    return ", ".join(filter(None, (figures[method, model_type_of(name)], remark)))


def model_zoo() -> str:
    """The text of ``docs/model_zoo.md``."""
    figures = figures_of_cells((ROOT / "docs/usage.md").read_text())
    cells = [counted(name, published_of(name, figures)) for name in CELLS]
    chains = [counted(name, network.says) for name, network in PUBLISHED.items()]
    head = "| name | parameters | multiply-accumulates | image | published | built by |\n|---|---|---|---|---|---|"
    tables = ["\n".join([head, *map(str, rows)]) for rows in (cells, chains)]
    return f"""{HEAD}
## Cells

Genotypes in `CyDAS/cells`, with the published sizes: those of imagenet with `model_type="imagenet"`, 48 channels and
1,000 classes, the others with `model_type="cifar"`, 36 channels and 10 classes. Either may be asked for; without the
auxiliary head of a training.

{tables[0]}

Any other genotype: `timm.create_model("cydas_cell", cell_file="genotype.json")`. Any architecture of NATS-Bench:
`timm.create_model("cydas_nats", arch="|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|...")`.

## Chains

With 1,000 classes. The published FLOPs count more than multiply-accumulates: [fidelity.md](fidelity.md).

{tables[1]}

Any other chain: `timm.create_model("cdarts_chain", architecture=[[0], [3], [3, 1], [3, 1], [3, 3, 3], [3, 3], [0]])`.
"""


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--to", type=Path, default=TARGET, metavar="FILE", help="(default: docs/model_zoo.md)")
    options = parser.parse_args(arguments)
    text = model_zoo()
    write_atomically(options.to, lambda beside: beside.write_text(text))
    print(f"written: {options.to}")


if __name__ == "__main__":
    run_program(main)
