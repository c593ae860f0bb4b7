"""A report of one run, or of several side by side."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from CyDAS.reports import charts
from CyDAS.reports.groups import HEAD, Group, by_setting, headline, number, rows_of
from CyDAS.reports.page import Page, Picture
from CyDAS.reports.runs import Finished, differences, read_run
from CyDAS.reports.search import describe_search, facts
from CyDAS.reports.training import describe_training
from CyDAS.runs.logs import RunLog
from CyDAS.utils.settings import SETTINGS

#: Curves by which runs are compared, as far as they have them.
COMPARED = (
    "val/loss_search", "val/loss_evaluation", "alphas/entropy", "benchmark/cifar10-test", "train/loss", "test/top1",
    "test/miou", "test/ap",
)  # fmt: skip


#: Flags of a search that its network's training has, too, because they say which space and data it is.
SHARED = (
    "extension",
    "space",
    "dataset",
    "data_dir",
    "train_dir",
    "test_dir",
    "n_classes",
    "input_channels",
    "image_size",
)


def of_data(config: dict[str, Any]) -> dict[str, Any]:
    """What the training of a search's result must be told of its space and data. ``config``: the search's flags."""
    names = [*SHARED, *["c_last"] * (config.get("space") == "chain")]
    names += ["test_share", "test_seed"] * bool(config.get("test_share"))
    return {name: config[name] for name in names if config.get(name) is not None}


def report_of(folders: Sequence[Path]) -> Page:
    """Raises :class:`CydasError` for a folder that is no run's."""
    runs = [read_run(folder) for folder in folders]
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(by_setting(runs))


def write_report(folders: Sequence[Path], stem: Path) -> list[Path]:
    """The paths of the HTML file and of the Markdown. Raises :class:`CydasError`."""
    return report_of(folders).write(stem)


def write_comparison(groups: Sequence[Group], warnings: Sequence[str], stem: Path) -> list[Path]:
    """The same of several runs whose groups have names. Raises :class:`CydasError`."""
    return _of_several(groups, warnings).write(stem)


def report_at_end(folder: Path, log: RunLog) -> None:
    """The report of a run that is ending: whatever is wrong with it, the run has its results."""
    try:
        for path in write_report([folder], folder / "report"):
            log.info("written: %s", path)
    except Exception as error:
        log.warning("no report: %s: %s", type(error).__name__, " ".join(str(error).split())[:300])


def _of_one(run: Finished) -> Page:
    page = Page(f"{run.kind} {run.name}")
    (describe_search if run.kind == "search" else describe_training)(page, run)
    page.heading("To go on")
    page.commands(next_commands(run))
    page.heading("How it was made")
    versions, machine = (run.about.get(name) or {} for name in ("versions", "machine"))
    rows: list[list[object]] = [
        ["command", shlex.join(map(str, run.about.get("command", [])))], ["seed", run.config.get("seed")],
        ["started", run.about.get("time", "")], ["machine", ", ".join(f"{k} {v}" for k, v in machine.items() if v)],
        ["versions", ", ".join(f"{name} {version}" for name, version in versions.items())],
        ["source", ", ".join(f"{k} {v}" for k, v in (run.about.get("source") or {}).items())],
    ]  # fmt: skip
    page.table(["", ""], rows)
    return page


def next_commands(run: Finished) -> list[str]:
    """The exact commands to repeat the run and to take its result further."""
    again = f"python CyDAS/{run.kind}.py --config {shlex.quote(str(run.folder / SETTINGS))} --name {run.name}-again"
    lines = ["# the same once more", again]
    output, config = run.config.get("output_dir", "experiments"), run.config
    if run.kind == "search":
        flags = {"name": run.name, "output_dir": output, "cell_file": run.folder / "genotype.json"}
        words = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in (flags | of_data(config)).items())
        lines += ["# train what was found", f"python CyDAS/retrain.py {words}"]
    else:
        program = "test.py --resume" if run.kind == "retrain" else f"{run.kind}.py --eval_only"
        own = f" --extension {shlex.quote(config['extension'])}" if config.get("extension") else ""
        words = f"--name {run.name} --output_dir {shlex.quote(str(output))}{own}"
        lines += ["# test it", f"python CyDAS/{program} {words}"]
    return lines


def _of_several(groups: Sequence[Group], warnings: Sequence[str] = ()) -> Page:
    runs = [run for group in groups for run in group.runs]
    page = Page(f"{len(runs)} runs: {', '.join(run.name for run in runs)}"[:120])
    page.heading("Results")
    for line in warnings:
        page.warning(line)
    page.text("Mean ± standard deviation of the runs that differ in their seed alone; no run is picked.")
    page.table(HEAD, rows_of(groups))
    found = [headline(run) for run in runs]
    names = list(dict.fromkeys(name for each in found for name in each))
    rows = [[run.name, *(number(each.get(name)) for name in names)] for run, each in zip(runs, found, strict=True)]
    page.table(["run", *names], rows)
    page.heading("Flags that differ")
    differing = differences(runs)
    if differing:
        page.table(
            ["flag", *(run.name for run in runs)], [[f"--{name}", *values] for name, values in differing.items()]
        )
    else:
        page.text("None.")
    page.heading("Curves")
    for name in COMPARED:
        lines = {run.name: run.figures[name] for run in runs if name in run.figures}
        if lines:
            page.picture(Picture(name.replace("/", "_"), charts.curves(lines, name), f"{name}, by step"))
    searches = [run for run in runs if run.kind == "search" and run.result]
    if searches:
        page.heading("Found")
        page.table(["run", "architecture"], [[run.name, run.result["genotype"]["0"]] for run in searches])
    for run in runs:
        page.heading(f"{run.kind} {run.name}")
        if run.kind == "search":
            page.table(["", ""], facts(run))
        page.commands(next_commands(run))
    return page
