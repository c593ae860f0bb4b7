"""How far changing one edge at a time gets in NATS-Bench, were every cell judged by its true accuracy.

    python benchmarks/local_search.py TABLE.csv.gz     # seconds; writes benchmarks/results/nats_local_search.json

Two ways from 2,000 random cells and from four cells of one operation. A sweep gives every edge, one after the other,
the operation that is the best beside the others as they are; edges in random order, or in each of the 720 orders. Or,
as ``--finalist_sweep`` does, all changes are judged and the best one is made, again and again. What starts and more of
either are worth; short trainings judge worse than this.
"""

import argparse
import itertools
import random
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from benchmarks.speed import ROOT, record
from CyDAS.models.nats.architecture import EDGES, OPERATIONS, Architecture
from CyDAS.spaces.nats_table import NatsTable
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import write_json

FIGURE = "cifar10_test"
STARTS, SWEEPS, CHANGES = 2000, (1, 2, 3), (1, 2, 3, 4, 6, 8)
#: Percent: what each search is to reach, and what their mean is.
LEAST, AIM = 93.8, 94.2


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="table of NATS-Bench accuracies")
    options = parser.parse_args(arguments)
    table = NatsTable.read(options.table, complete=True)
    accuracies = {arch: table.find(arch).accuracies[FIGURE] for arch in table.archs}
    chance = random.Random(0)
    drawn = [
        (chance.choices(OPERATIONS, k=len(EDGES)), chance.sample(range(len(EDGES)), len(EDGES)))
        for _ in range(STARTS)
    ]  # fmt: skip
    orders = list(itertools.permutations(range(len(EDGES))))
    results = {}
    for sweeps in SWEEPS:
        results[str(sweeps)] = {"random": summary(end(accuracies, *each, sweeps) for each in drawn)} | {
            name: summary(end(accuracies, [name] * len(EDGES), order, sweeps) for order in orders)
            for name in OPERATIONS[1:]
        }
        print(sweeps, "sweeps:", results[str(sweeps)])
    best = {}
    for changes in CHANGES:
        best[str(changes)] = {"random": summary(climb(accuracies, cell, changes) for cell, _ in drawn)} | {
            name: climb(accuracies, [name] * len(EDGES), changes) for name in OPERATIONS[1:]
        }
        print(changes, "best changes:", best[str(changes)])
    made = record() | {"command": ["python", "benchmarks/local_search.py", "TABLE.csv.gz"], "figure": FIGURE}
    write_json(ROOT / "benchmarks/results/nats_local_search.json", made | {"sweeps": results, "best_changes": best})


def end(accuracies: dict[str, float], start: Sequence[str], order: Sequence[int], sweeps: int) -> float:
    """The accuracy at the end of so many sweeps."""
    cell = list(start)

    def with_operation(edge: int, operation: str) -> float:
        return accuracies[str(Architecture((*cell[:edge], operation, *cell[edge + 1 :])))]

    for _ in range(sweeps):
        for edge in order:
            cell[edge] = max(OPERATIONS, key=lambda operation: with_operation(edge, operation))  # noqa: B023
    return accuracies[str(Architecture(tuple(cell)))]


def climb(accuracies: dict[str, float], start: Sequence[str], changes: int) -> float:
    """The accuracy after so many changes, each the best of all, or none where all are worse."""
    cell = tuple(start)
    for _ in range(changes):
        others = [(*cell[:edge], name, *cell[edge + 1 :]) for edge in range(len(EDGES)) for name in OPERATIONS]
        cell = max(others, key=lambda other: accuracies[str(Architecture(other))])
    return accuracies[str(Architecture(cell))]


def summary(values: Iterable[float]) -> dict[str, float]:
    all_of_them = list(values)
    return {
        "n": len(all_of_them), "mean": mean(all_of_them), "std": stdev(all_of_them), "min": min(all_of_them),
        f"below_{LEAST}": mean(value < LEAST for value in all_of_them),
        f"from_{AIM}": mean(value >= AIM for value in all_of_them),
    }  # fmt: skip


if __name__ == "__main__":
    run_program(main)
