"""A table of a found cell against others retrained alike: ``python scripts/compare.py FOLDER FOUND OTHER...``.

FOLDER is the programs' --output_dir; FOUND and OTHER are names of runs in FOLDER/retrain, FOUND also in FOLDER/search.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json

#: Settings that say which images a network was trained and tested on.
DATA = ("dataset", "train_dir", "test_dir", "image_size", "n_classes", "input_channels")
#: Settings that differ between runs without making their figures another thing.
OWN = {
    "name", "cell_file", "seed", "output_dir", "overwrite", "resume", "resume_name", "print_freq", "threads", "jobs",
    "launcher", "report", "tracker",
}  # fmt: skip


def read_result(folder: Path, name: str) -> dict[str, Any]:
    """A retrained run's result: ``top1`` (percent), ``parameters`` and ``config``. Raises :class:`CydasError`."""
    run = folder / "retrain" / name
    if not run.is_dir():
        raise CydasError(f"there is no run {name} in {folder / 'retrain'}")
    if not (run / "result.json").exists():
        raise CydasError(f"run {run} has no result.json: it has not ended")
    result = read_json(run / "result.json", "result")
    try:
        top1, parameters = float(result["last"]["top1"]), int(result["parameters"])
        return {"top1": top1, "parameters": parameters, "config": dict(result["about"]["config"])}
    except (KeyError, TypeError, ValueError):
        raise CydasError(f"{run / 'result.json'} is no result of a retraining") from None


def check_alike(results: dict[str, dict[str, Any]]) -> list[str]:
    """Settings in which runs differ. Raises :class:`CydasError` where these are those of the data."""
    (first, one), *others = ((name, result["config"]) for name, result in results.items())
    differing: dict[str, str] = {}
    for name, config in others:
        for key in sorted((one.keys() | config.keys()) - OWN):
            if one.get(key) != config.get(key):
                differing.setdefault(key, f"--{key} was {one.get(key)} for {first}, {config.get(key)} for {name}")
    if data := [text for key, text in differing.items() if key in DATA]:
        raise CydasError(f"the runs are of different data: {'; '.join(data)}")
    return list(differing.values())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("found", metavar="FOUND", help="the run of the cell that the search of this name found")
    parser.add_argument("others", nargs="+", metavar="OTHER", help="runs of other cells")
    options = parser.parse_args(arguments)
    names = [options.found, *options.others]
    places = [(options.folder / "retrain" / name).resolve() for name in names]
    if twice := [name for number, name in enumerate(names) if places[number] in places[:number]]:
        raise CydasError(f"{twice[0]} is named twice: a run can be compared with others only")
    file = options.folder / "search" / options.found / "genotype.json"
    genotypes = read_json(file, "genotype file")
    if not isinstance(genotypes, dict) or "0" not in genotypes:
        raise CydasError(f"genotype file {file} is not one that a search has written")
    results = {name: read_result(options.folder, name) for name in names}
    notes = check_alike(results)
    print(f"\nfound: {genotypes['0']}\n")
    print(f"{'cell':<24}{'test top-1, last epoch':<26}parameters")
    for name, result in results.items():
        label = "found by the search" if name == options.found else name
        print(f"{label:<24}{result['top1']:<26.2f}{result['parameters']}")
    accuracies = [results[name]["top1"] for name in options.others]
    deviation = f" ± {statistics.stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    print(f"{'others, mean ± std' if deviation else 'others':<24}{statistics.mean(accuracies):.2f}{deviation}")
    for note in notes:
        print(f"not alike: {note}")


if __name__ == "__main__":
    run_program(main)
