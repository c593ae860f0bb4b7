"""Searches of DARTS cells by three methods, and what their cells are worth beside random ones of like size.

    python benchmarks/darts_searches.py --cifar10 FOLDER --runs FOLDER

``best`` is the recipe of scripts/run_search_nats_best.sh with fewer and longer trainings, ``cdarts`` the published
method, ``darts`` first order. All on CIFAR-10 shown at 16 pixels, 8 channels, 40 steps an epoch. Every cell that was
found is trained for two epochs on all training images, and so are for each of ``best`` three random ones, changed
until their networks have as many parameters within 5 percent. What is in RUNS already is not run again. Writes the
genotypes, each as benchmarks/results/darts_space/METHOD_seedN.json, and benchmarks/results/darts_searches.json.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from benchmarks.runs import flags_in, run, search_seeds
from benchmarks.speed import ROOT, record
from CyDAS.models.cells.genotype import Genotype, random_genotype
from CyDAS.models.cells.layout import NODES, Layout
from CyDAS.models.cells.operations import CHOOSABLE
from CyDAS.spaces import DartsSpace
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.numbers import whole_number
from CyDAS.utils.profile import count_parameters

SEEDS = range(210, 213)
RANDOM, ALIKE = 3, 0.05
#: Most changes of a random cell that are tried until it is as large.
CHANGES = 1000
CHANNELS = 8
SIZE = f"--init_channels {CHANNELS} --image_size 16 --device cpu"
SEARCH = "--config CyDAS/settings/search_cifar_1gpu.yaml --sample_ratio 0.1024 --pretrain_epochs 15"
RECIPE = "CyDAS/settings/search_nats_best.yaml"
#: What ``best`` has of the recipe: all that is not of the other space's networks or of how many and how long. Ten: the
#: largest cell, what the search prefers, and a shortcut on each edge of the normal cell, for one epoch, after which one
#: shows in networks of 20 cells; after a fifth of an epoch they still answer by chance.
OTHERS = "finalists finalist_rounds finalist_cells finalist_image_size finalist_epochs finalist_val finalist_runoff " \
    "finalist_runoff_epochs".split()  # fmt: skip
FINALISTS = "--finalists 10 --finalist_rounds 1 --finalist_epochs 1 --finalist_val 0.3 --finalist_runoff 4 " \
    "--finalist_runoff_epochs 2 " + flags_in(RECIPE, "finalist", without=OTHERS)  # fmt: skip
METHODS = {
    "best": f"{SEARCH} --search_iter 20 --no-regular --alpha_lr 1e-2 --beta_decay 5 {FINALISTS}",
    "cdarts": f"{SEARCH} --search_iter 45 --alpha_lr 3e-3 --regular_ratio 1",
    "darts": f"{SEARCH} --search_iter 45 --alpha_lr 3e-3 --method darts --no-regular",
}
RETRAIN = "--config CyDAS/settings/retrain_cifar_1gpu.yaml --batch_size 64 --reference_batch 64 --epochs 2 --lr 0.05 " \
    "--cutout_length 0 --drop_path_prob 0 --threads 1 --no-report"  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="folder of CIFAR-10, as torchvision keeps it")
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=whole_number, default=list(SEEDS), help="(default: 210 to 212)")
    parser.add_argument("--jobs", type=whole_number, default=2, help="searches at a time (default: 2)")
    options = parser.parse_args(arguments)
    place = [*SIZE.split(), "--data_dir", str(options.cifar10), "--output_dir", str(options.runs)]
    path = ROOT / "benchmarks/results/darts_searches.json"
    methods = read_json(path, "results")["methods"] if path.exists() else {}
    for method in options.methods:
        flags = [*METHODS[method].split(), *SIZE.split(), "--data_dir", str(options.cifar10)]
        searched = search_seeds(f"darts_{method}", flags, options.seeds, options.jobs, options.runs)
        found: dict[str, dict[str, Any]] = {}
        for seed, result in searched.items():
            found[seed] = entry = {"minutes": result["minutes"]}
            genotype = ROOT / f"benchmarks/results/darts_space/{method}_seed{seed}.json"
            genotype.parent.mkdir(exist_ok=True)
            write_json(genotype, result["genotype"])
            entry |= train(f"darts_{method}-{seed}", genotype, seed, place, options.runs)
            if method == "best":
                entry["random"] = [
                    train(f"darts_random-{seed}-{number}", file, seed, place, options.runs)
                    for number, file in enumerate(drawn(entry["parameters"], int(seed), options.runs))
                ]
            print(method, seed, entry, flush=True)
        methods[method] = {"flags": f"{METHODS[method]} {SIZE}", "seeds": found, "top1": summary(found.values())}
        if method == "best":
            methods["random"] = {"top1": summary([each for entry in found.values() for each in entry["random"]])}
        write_json(path, record() | {"seed": None, "retrain": f"{RETRAIN} {SIZE}", "methods": methods})


def train(name: str, genotype: Path, seed: str, place: list[str], runs: Path) -> dict[str, Any]:
    """The last epoch's test accuracy of a cell's network, percent, and its parameters."""
    result = runs / "retrain" / name / "result.json"
    if not result.exists():
        flags = ["--seed", seed, "--cell_file", str(genotype), "--name", name, "--resume_or_start"]
        run("CyDAS/retrain.py", *RETRAIN.split(), *place, *flags)
    content = read_json(result, "result")
    if content["genotype"] != read_json(genotype, "genotype"):
        raise CydasError(f"{result} is of another cell than {genotype}: delete its folder")
    return {"top1": content["last"]["top1"], "parameters": content["parameters"]}


def drawn(parameters: int, seed: int, runs: Path) -> Iterator[Path]:
    """Files of random cells whose networks are as large; the seeds of the draws are ``1000 * seed`` and on."""
    space = DartsSpace(Layout(init_channels=CHANNELS), repeat_cell=True)
    for draw in range(1000 * seed, 1000 * seed + RANDOM):
        file = runs / f"random-{draw}.json"
        write_json(file, space.to_strings(like(parameters, space, torch.Generator().manual_seed(draw))))
        yield file


def like(parameters: int, space: DartsSpace, generator: torch.Generator) -> list[Genotype]:
    """A random cell, of which operations are then replaced by random others that bring its network nearer to that size,
    until it is near enough: few random cells are as large as what a search finds.
    """
    cells = [random_genotype(generator)] * 3
    off = distance(cells, parameters, space)
    for _ in range(CHANGES):
        if off < ALIKE:
            return cells
        reduction, node, position, operation = (pick(count, generator) for count in (2, NODES, 2, len(CHOOSABLE)))
        other = space.changed(cells, (0, reduction, node, position), operation)
        if (nearer := distance(other, parameters, space)) < off:
            cells, off = other, nearer
    raise CydasError(f"no random cell with {parameters} parameters within {ALIKE:.0%}: {CHANGES} changes were tried")


def distance(cells: list[Genotype], parameters: int, space: DartsSpace) -> float:
    """By what share the number of its network's parameters is off."""
    with torch.device("meta"):  # nothing is drawn
        return abs(count_parameters(space.retrain_network(cells, False)) / parameters - 1)


def pick(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def summary(entries: Any) -> dict[str, float]:
    values = [entry["top1"] for entry in entries]
    return {"n": len(values), "mean": mean(values), "std": stdev(values) if len(values) > 1 else 0.0}


if __name__ == "__main__":
    run_program(main)
