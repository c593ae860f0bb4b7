"""A table of a found cell against others retrained alike: ``python scripts/compare.py FOLDER FOUND OTHER...``."""

import json
import statistics
import sys
from pathlib import Path


def main(folder: str, found: str, *others: str) -> None:
    def result(name: str) -> dict:
        return json.loads((Path(folder) / "retrain" / name / "result.json").read_text())

    genotype = json.loads((Path(folder) / "search" / found / "genotype.json").read_text())["0"]
    mine, theirs = result(found), [result(name) for name in others]
    accuracies = [other["last"]["top1"] for other in theirs]
    print(f"\nfound: {genotype}\n")
    print(f"{'cell':<24}{'test top-1, last epoch':<26}parameters")
    print(f"{'found by the search':<24}{mine['last']['top1']:<26.2f}{mine['parameters']}")
    for name, other in zip(others, theirs, strict=True):
        print(f"{name:<24}{other['last']['top1']:<26.2f}{other['parameters']}")
    spread = f"{statistics.mean(accuracies):.2f} ± {statistics.stdev(accuracies):.2f}"
    print(f"{'random, mean ± std':<24}{spread}")


if __name__ == "__main__":
    main(*sys.argv[1:])
