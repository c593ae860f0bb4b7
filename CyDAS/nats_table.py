"""What NATS-Bench knows of its architectures.

    python -m CyDAS.nats_table export OFFICIAL TABLE.csv.gz   # once, from the official file
    python -m CyDAS.nats_table show TABLE ARCHITECTURE         # in any form, or its index
    python -m CyDAS.nats_table random TABLE --architectures 50 --seeds 0 1 2 3 4

A table is a CSV file, gzipped or not: see ``CyDAS/spaces/nats_table.py``.
"""

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CyDAS.models.nats.architecture import Architecture, read_architecture
from CyDAS.spaces.nats_table import NatsTable, summarise
from CyDAS.utils.errors import CydasError, GenotypeError, run_program
from CyDAS.utils.numbers import whole_number


def parse_asked(text: str) -> tuple[Architecture | int, str]:
    """What ``show`` was asked for, and how that was read. Raises :class:`CydasError` for neither of both."""
    try:
        return whole_number(text), "the benchmark's index"
    except ValueError:
        pass
    try:
        return read_architecture(text)
    except GenotypeError as error:
        raise CydasError(f"{text[:300]!r} is no index (digits alone) and no architecture: {error}") from None


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("export", help="make a table from the official file")
    command.add_argument("official", type=Path, help="NATS-Bench's folder or file, or NAS-Bench-201's file")
    command.add_argument("table", type=Path, help="CSV file to write, gzipped where its name ends in .gz")
    command = commands.add_parser("show", help="what is known of an architecture")
    command.add_argument("table", type=Path)
    command.add_argument(
        "architecture",
        help="its index; or |op~0|+..., Structure(4 nodes with |op~0|+...), six operation indices in the benchmark's "
        "order as [3,3,3,1,3,2] or in NASLib's as (2,2,0,2,2,3); nats: or naslib: in front says whose they are",
    )
    command = commands.add_parser("random", help="random search, chosen by validation accuracy")
    command.add_argument("table", type=Path)
    command.add_argument(
        "--architectures", type=whole_number, default=50, metavar="N", help="how many are looked at (default: 50)"
    )
    command.add_argument(
        "--seeds", type=whole_number, nargs="+", default=[0, 1, 2, 3, 4], metavar="N", help="(default: 0 1 2 3 4)"
    )
    command.add_argument(
        "--by", default="cifar10_val", metavar="FIGURE", help="what the best one is chosen by (default: cifar10_val)"
    )
    options = parser.parse_args(arguments)
    if options.command == "export":
        from CyDAS.spaces.nats_export import export  # which takes PyTorch, that a look-up has no need of

        print(f"{export(options.official, options.table)} architectures written to {options.table}")
        return
    table = NatsTable.read(options.table)
    if options.command == "show":
        asked, form = parse_asked(options.architecture)
        entry = table.find(asked)
        print(entry.arch, f"read as {form}", entry, sep="\n")
        print(*(f"{key} {value:g}" for key, value in entry.costs.items()), sep="\n")
        return
    found = [table.random_search(options.architectures, seed, options.by) for seed in options.seeds]
    for seed, entry in zip(options.seeds, found, strict=True):
        print(f"seed {seed}: {entry.arch} {entry}")
    for name, (average, deviation) in summarise([entry.accuracies for entry in found]).items():
        print(f"{name} {average:.2f} ± {deviation:.2f}; all architectures {table.column(name).mean():.2f}")


if __name__ == "__main__":
    run_program(main)
