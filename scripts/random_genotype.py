"""Write a random architecture as a genotype file: ``python scripts/random_genotype.py SEED FILE``.

A cell of DARTS, one of NATS-Bench (``--space nats``), or a chain that costs what it shall:
``--space chain --target_flops 3.6M --image_size 32``.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.nats.architecture import random_architecture
from CyDAS.spaces import ChainSpace, DartsSpace, NatsSpace
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.numbers import whole_number

#: Flags of chains: their costs depend on these.
SHAPE = {
    "blocks_per_stage": (4, "most blocks of a stage"),
    "image_size": (224, "height and width of an image, pixels"),
    "input_channels": (3, "channels of an image"),
    "n_classes": (1000, "number of classes"),
    "c_last": (960, "channels of the last stage"),
}
OF_CHAINS = ("target_flops", "target_tolerance", *SHAPE)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seed", type=whole_number, metavar="SEED", help="seed of the choice, from 0 on")
    parser.add_argument("file", type=Path, metavar="FILE", help="genotype file to write; an earlier one is replaced")
    parser.add_argument("--space", choices=("darts", "nats", "chain"), default="darts", help="(default: darts)")
    chains = parser.add_argument_group("of chains")
    chains.add_argument("--target_flops", metavar="TEXT", help="multiply-accumulates of an image: 294M (default: any)")
    chains.add_argument("--target_tolerance", type=float, metavar="X", help="share of it, more or less (default: 0.02)")
    for name, (default, text) in SHAPE.items():
        chains.add_argument(f"--{name}", type=whole_number, metavar="N", help=f"{text} (default: {default})")
    options = parser.parse_args(arguments)
    if options.space != "chain" and (idle := [name for name in OF_CHAINS if getattr(options, name) is not None]):
        raise CydasError(f"{', '.join(f'--{name}' for name in idle)}: only chains have such a choice (--space chain)")
    generator = torch.Generator().manual_seed(options.seed)
    if options.space == "chain":
        entries = ChainSpace.to_strings(_random_chain(options, generator))
    elif options.space == "nats":
        entries = NatsSpace.to_strings(random_architecture(generator))
    else:
        entries = DartsSpace.to_strings([random_genotype(generator)] * 3)
    write_json(options.file, entries)


def _random_chain(options: argparse.Namespace, generator: torch.Generator):
    """Raises :class:`CydasError` where no chain costs what it shall."""
    from CyDAS.models.chain.choice import random_architecture
    from CyDAS.models.chain.cost_table import CostTable
    from CyDAS.spaces.chain_cost import read_amount

    given = {name: getattr(options, name) for name in SHAPE}
    shape = {name: SHAPE[name][0] if value is None else value for name, value in given.items()}
    tolerance = 0.02 if options.target_tolerance is None else options.target_tolerance
    if not 0 < tolerance < 1:
        raise CydasError(f"--target_tolerance is a share, above 0 and below 1, not {tolerance}")
    try:
        table = CostTable.counted(ChainLayout(depth=shape.pop("blocks_per_stage"), **shape))
    except ValueError as error:
        raise CydasError(str(error)) from None
    window = table.range
    if options.target_flops is not None:
        target = read_amount(options.target_flops, "target_flops")
        table.check_target(target)
        window = (1 - tolerance) * target, (1 + tolerance) * target
    return random_architecture(table, window, generator)


if __name__ == "__main__":
    run_program(main)
