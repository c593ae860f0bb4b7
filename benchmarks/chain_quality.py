"""What a search of chains is worth: what it finds against random chains of the same cost, all trained alike.

    python benchmarks/chain_quality.py --cifar10 FOLDER --imagenette FOLDER --runs FOLDER

At two targets, 0.5 and 0.8 of the largest chain of two blocks a stage, on CIFAR-10 (32 pixels) and on a small part of
ImageNet in class folders (64 pixels): three searches, which choose among six finalists, what they prefer and what they
draw by their alphas, by a short training on their own halves of the data; then a short training of each chain that was
found and of five that were drawn at random, within 2 percent of the same cost. What is in RUNS already is not run
again, so that the whole may be done in parts. Writes benchmarks/results/chain_quality.json.
"""

import argparse
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from benchmarks.runs import run
from benchmarks.speed import ROOT, record
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.spaces import ChainSpace, load_architecture
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json, write_json

SEEDS, RANDOM = range(3), range(5)
SHARES = (0.5, 0.8)
DEPTH, C_LAST, CLASSES = 2, 320, 10
CHAIN = f"--space chain --c_last {C_LAST} --device cpu --threads 1 --channels_last --resume_or_start --print_freq 50"
SEARCH = (
    f"--blocks_per_stage {DEPTH} --pretrain_epochs 3 --nasnet_warmup 1 --w_lr 0.05 --nasnet_lr 0.05 --alpha_lr 0.05 "
    "--alpha_weight_decay 0 --target_tolerance 0.005 --finalists 6 --finalist_noise 1 --finalist_lr 0.05"
)
RETRAIN = "--lr 0.05 --label_smooth 0 --cutout_length 0 --drop_rate 0"


class Case(NamedTuple):
    """A data set, and how long is searched and trained on it."""

    data: str
    image_size: int
    search: str
    retrain: str


CASES = {
    "cifar10": Case(
        "--dataset cifar10 --data_dir {folder}", 32,
        "--batch_size 64 --sample_ratio 0.06 --search_iter 8 --search_iter_epochs 1 --finalist_epochs 0.5",
        "--batch_size 64 --epochs 1",
    ),
    "imagenette": Case(
        "--dataset folder --data_dir {folder} --workers 0 --image_size 64", 64,
        "--split class --batch_size 32 --sample_ratio 1.0 --search_iter 8 --search_iter_epochs 2 "
        "--finalist_epochs 12", "--batch_size 32 --epochs 20",
    ),
}  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10, as torchvision keeps it")
    parser.add_argument("--imagenette", type=Path, help="folder with train/ and val/ of ten classes")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="(default: 0.5 0.8)")
    parser.add_argument(
        "--keep_random", action="store_true", help="random chains that the record has are not trained again: no search "
        "changes them",
    )  # fmt: skip
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    options = parser.parse_args(arguments)
    path, results = ROOT / "benchmarks/results/chain_quality.json", {}
    earlier = read_json(path, "results")["cases"] if path.exists() else {}
    given = [name for name in CASES if getattr(options, name) is not None]
    flags = [part for name in given for part in (f"--{name}", "FOLDER")]
    flags += ["--shares", *map(str, options.shares)]
    made = record() | {"command": ["python", "benchmarks/chain_quality.py", *flags, "--runs", "FOLDER"]}
    for name, case in CASES.items():
        folder = getattr(options, name)
        if folder is not None:
            known = earlier.get(name, {}) if options.keep_random else {}
            results[name] = {
                str(share): compare(
                    name, case, folder, share, options.runs, known.get(str(share), {}).get("random", [])
                )
                | {"made": made}
                for share in options.shares
            }
    write_json(path, made | {"cases": {name: earlier.get(name, {}) | results.get(name, {}) for name in CASES}})


def compare(
    name: str, case: Case, folder: Path, share: float, runs: Path, known: list[dict[str, Any]]
) -> dict[str, Any]:
    """Searches, random chains and trainings at one target. ``known``: random chains that have been trained."""
    layout = ChainLayout(depth=DEPTH, c_last=C_LAST, n_classes=CLASSES, image_size=case.image_size)
    table = CostTable.counted(layout)
    target = round(share * table.range[1])
    about = [*CHAIN.split(), *case.data.format(folder=folder).split(), "--output_dir", str(runs)]
    shape = f"--space chain --blocks_per_stage {DEPTH} --c_last {C_LAST} --n_classes {CLASSES}".split()
    found, drawn = [], []
    for seed in SEEDS:
        run_name = f"{name}-{share}-seed{seed}"
        flags = [*SEARCH.split(), *case.search.split(), "--target_flops", str(target), "--seed", str(seed)]
        if not (runs / "search" / run_name / "result.json").exists():
            run("CyDAS/search.py", *about, *flags, "--name", run_name)
        found.append(train(case, about, runs, run_name, runs / "search" / run_name / "genotype.json", seed))
        found[-1] |= costs_of(runs / "search" / run_name, target)
        print(name, share, "found", found[-1], flush=True)
    for seed in RANDOM:
        run_name = f"{name}-{share}-random{seed}"
        genotype = runs / f"{run_name}.json"
        size = ["--image_size", str(case.image_size), "--target_flops", str(target)]
        run("scripts/random_genotype.py", str(seed), str(genotype), *shape, *size)
        chain = ChainSpace.to_strings(load_architecture(genotype, 3, "chain"))["0"]
        same = [entry for entry in known if (entry["chain"], entry["seed"]) == (chain, seed)]
        drawn.append(same[0] if same else train(case, about, runs, run_name, genotype, seed))
        print(name, share, "random", drawn[-1], flush=True)
    figures: dict[str, Any] = {"target": target, "largest": table.range[1], "found": found, "random": drawn}
    for kind in ("found", "random"):
        accuracies = [entry["top1"] for entry in figures[kind]]
        figures[f"{kind}_mean"], figures[f"{kind}_std"] = mean(accuracies), stdev(accuracies)
    print(name, share, {key: value for key, value in figures.items() if key.endswith(("mean", "std"))}, flush=True)
    return figures


def train(case: Case, about: list[str], runs: Path, name: str, genotype: Path, seed: int) -> dict[str, Any]:
    """The last epoch's accuracy of a chain; its cost."""
    result = runs / "retrain" / name / "result.json"
    if not result.exists():
        flags = [*RETRAIN.split(), *case.retrain.split(), "--seed", str(seed), "--cell_file", str(genotype)]
        run("CyDAS/retrain.py", *about, *flags, "--name", name)
    content = read_json(result, "result")
    if content["genotype"] != ChainSpace.to_strings(load_architecture(genotype, 3, "chain")):
        raise CydasError(f"{result} is of another chain than {genotype}: delete its folder")
    return {"chain": content["genotype"]["0"], "seed": seed, "macs": content["macs"], "top1": content["last"]["top1"]}


def costs_of(search: Path, target: int) -> dict[str, float]:
    """How far a search's end is from its target: what it expects, and what it found."""
    last = read_json(sorted((search / "alphas").glob("round_*.json"))[-1], "round")
    costs = {"expected": last["cost/expected_M"], "found": read_json(search / "result.json", "result")["cost"]}
    return {f"{name}_off": 1e6 * cost / target - 1 for name, cost in costs.items()} | {"entropy": last["entropy"]}


if __name__ == "__main__":
    run_program(main)
