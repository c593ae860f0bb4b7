"""Searches of NATS-Bench's cells by several methods under one protocol: what each finds, in the benchmark's words.

    python benchmarks/nats_searches.py --cifar10 FOLDER --table TABLE.csv.gz --runs FOLDER --methods best cdarts

Two searches at a time, one thread each, of the seeds that are named; a search that has ended is not repeated. Writes
benchmarks/results/nats_METHOD.json for each method: ``best`` is scripts/run_search_nats_best.sh, which the others are
compared with seed by seed. Methods of ABLATION are ``best`` without a part, or the published method with one.
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from scipy.stats import t as student

from benchmarks.runs import flags_in, search_seeds
from benchmarks.speed import ROOT, record
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.numbers import whole_number

SEEDS = range(250, 260)
FIGURE = "cifar10_test"
SETTINGS = "CyDAS/settings/search_nats_best.yaml"
BEST = f"--config {SETTINGS}"
PUBLISHED = "--config CyDAS/settings/search_nats.yaml --init_channels 8 --cells_per_stage 2 --image_size 24 " \
    "--sample_ratio 0.1024 --pretrain_epochs 15 --search_iter 45 --alpha_lr 3e-3 --regular_ratio 1"  # fmt: skip
#: Hardly any search: after one step alphas have not moved, so that finalists are all there is.
UNSEARCHED = "--pretrain_epochs 0 --search_iter 1 --sample_ratio 0.003 --finalists 45"
METHODS = {
    "best": BEST,
    "best_cdarts": PUBLISHED,
    "best_darts": f"{PUBLISHED} --method darts",
    "best_darts_beta": f"{PUBLISHED} --method darts --no-regular --beta_decay 5",
    "best_random": f"{BEST} {UNSEARCHED} --no-finalist_sweep --no-finalist_largest --finalist_noise 1 "
    "--finalist_margin 0 --finalist_runoff_margin 0",
    "best_unsearched": f"{BEST} {UNSEARCHED} --finalists 30",  # what the search itself is worth
    "best_sweep": f"{BEST} {UNSEARCHED} --no-finalist_largest",  # a local search from a cell of chance
}
ABLATION = {
    "evaluation_cells": f"{PUBLISHED} --evaluation_cells 5",
    "edge_mutation": f"{PUBLISHED} --edge_mutation 0.2",
    "average_rounds": f"{PUBLISHED} --average_rounds 10 --alpha_lr_schedule cosine",
    "keep_moments": f"{PUBLISHED} --keep_moments",
    "beta_decay": f"{PUBLISHED} --no-regular --beta_decay 5",
    "dirichlet": f"{PUBLISHED} --dirichlet",
    "lone_teacher": f"{PUBLISHED} --lone_teacher",
    "finalists": f"{PUBLISHED} {flags_in(SETTINGS, 'finalist')}",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="folder of CIFAR-10, as torchvision keeps it")
    parser.add_argument("--table", type=Path, required=True, help="table of NATS-Bench accuracies")
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=[*METHODS, *ABLATION])
    parser.add_argument("--seeds", nargs="+", type=whole_number, default=list(SEEDS), help="(default: 250 to 259)")
    parser.add_argument("--jobs", type=whole_number, default=2, help="searches at a time (default: 2)")
    options = parser.parse_args(arguments)
    for method in options.methods:
        flags = (METHODS | ABLATION)[method]
        searched = search(method, flags, options)
        command = f"python CyDAS/search.py {flags} --nats_table TABLE --seeds {' '.join(map(str, options.seeds))}"
        content = record() | {"command": f"{command} --jobs {options.jobs} --threads 1", "seed": None}
        content |= {"seeds": searched, "cifar10_test": summary(searched)}
        path = ROOT / f"benchmarks/results/nats_{method}.json"
        best = path.with_name("nats_best.json")
        if method != "best" and best.exists():
            content["best_minus_this"] = paired(read_json(best, "results")["seeds"], searched)
        write_json(path, content)
        print(method, content["cifar10_test"], content.get("best_minus_this", ""), flush=True)


def search(method: str, flags: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What each seed found, and the accuracy of what each of its rounds preferred."""
    place = ["--data_dir", str(options.cifar10), "--nats_table", str(options.table)]
    results = search_seeds(f"nats_{method}", [*flags.split(), *place], options.seeds, options.jobs, options.runs)
    kept = ("genotype", "benchmark", "finalists", "minutes", *(["trajectory"] if method in METHODS else []))
    return {
        seed: {key: result[key] for key in kept if key in result}
        | {"rounds": [accuracy(entry) for entry in result["trajectory"]]}
        for seed, result in results.items()
    }


def accuracy(result: dict[str, Any]) -> float:
    return result["benchmark"]["accuracies"][FIGURE]


def summary(searched: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Percent; minutes of a search."""
    values = [accuracy(result) for result in searched.values()]
    minutes = [result["minutes"] for result in searched.values()]
    spread = stdev(values) if len(values) > 1 else 0.0
    return {
        "n": len(values), "mean": mean(values), "std": spread, "min": min(values), "max": max(values),
        "minutes_mean": mean(minutes), "minutes_max": max(minutes),
    }  # fmt: skip


def paired(best: dict[str, dict[str, Any]], other: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Mean difference on the seeds of both, and its 95 % confidence interval by Student's t."""
    seeds = sorted(set(best) & set(other), key=int)
    differences = [accuracy(best[seed]) - accuracy(other[seed]) for seed in seeds]
    if len(differences) < 2:
        return None
    half = student.ppf(0.975, len(differences) - 1) * stdev(differences) / len(differences) ** 0.5
    middle = mean(differences)
    return {"seeds": seeds, "mean": middle, "interval_95": [middle - half, middle + half]}


if __name__ == "__main__":
    run_program(main)
