"""What five searches of NATS-Bench can show: CDARTS against random search with as many looks at the benchmark.

    python benchmarks/significance.py TABLE.csv.gz     # seconds; writes benchmarks/results/nats_significance.json

Random search looks up the validation accuracies of some architectures and keeps the best. Welch's test compares its
first five seeds with the five searches; 2,000 seeds say where its mean lies.
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from scipy.stats import ttest_ind

from benchmarks.speed import ROOT, record
from CyDAS.spaces.nats_table import NatsTable
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import read_json, write_json

#: How many architectures random search looks up: as in the first comparison; as many different cells as were seen in
#: the logs of the five searches; about as many as were seen with those of the settings that were tried before.
LOOK_UPS = (30, 60, 100, 200)
SEEDS, MANY_SEEDS = 5, 2000
FIGURE = "cifar10_test"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="table of NATS-Bench accuracies")
    options = parser.parse_args(arguments)
    table = NatsTable.read(options.table, complete=True)
    searches = read_json(ROOT / "benchmarks/results/nats_cdarts.json", "results")["seeds"].values()
    found = [search["benchmark"]["accuracies"][FIGURE] for search in searches]
    cells = {entry["genotype"]["0"] for search in searches for entry in search["trajectory"]}
    print(f"CDARTS: {mean(found):.2f} ± {stdev(found):.2f}; its rounds show {len(cells)} different cells")
    results: dict[str, Any] = {"found": found, "cells_shown": len(cells), "figure": FIGURE, "random_search": {}}
    for count in LOOK_UPS:
        drawn = [table.random_search(count, seed).accuracies[FIGURE] for seed in range(MANY_SEEDS)]
        test = ttest_ind(found, drawn[:SEEDS], equal_var=False)
        results["random_search"][str(count)] = {
            "five_seeds": drawn[:SEEDS],
            "welch_t": float(test.statistic),
            "degrees_of_freedom": float(test.df),
            "p": float(test.pvalue),
            "many_seeds": {"seeds": MANY_SEEDS, "mean": mean(drawn), "standard_deviation": stdev(drawn)},
        }
        print(
            f"random search, best of {count}: {mean(drawn[:SEEDS]):.2f} ± {stdev(drawn[:SEEDS]):.2f}, Welch t = "
            f"{test.statistic:.2f}, {test.df:.1f} degrees of freedom, p = {test.pvalue:.2f}; {MANY_SEEDS} seeds: "
            f"{mean(drawn):.2f} ± {stdev(drawn):.2f}"
        )
    made = record() | {"command": ["python", "benchmarks/significance.py", "TABLE.csv.gz"]}
    write_json(ROOT / "benchmarks/results/nats_significance.json", made | results)


if __name__ == "__main__":
    run_program(main)
