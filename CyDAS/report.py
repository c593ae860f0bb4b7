"""Write a report of runs: ``python CyDAS/report.py RUN...``."""

import argparse
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.reports.report import write_report
from CyDAS.utils.errors import run_program
from CyDAS.utils.extension import add_extension_flag
from CyDAS.utils.texts import say


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description="Write a report of a run as one HTML file that needs nothing else, and as Markdown; several runs "
        "stand side by side."
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run: experiments/search/NAME, ..."
    )
    parser.add_argument(
        "--output", type=Path, metavar="PATH",
        help="where to, without its ending (default: report in the run's folder; of several, report here)",
    )  # fmt: skip
    add_extension_flag(parser, "the runs' space")
    options = parser.parse_args(arguments)
    stem = options.output or (options.runs[0] / "report" if len(options.runs) == 1 else Path("report"))
    for path in write_report(options.runs, stem):
        say(f"written: {path}")


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
