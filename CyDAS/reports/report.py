"""A report of one run, or of several side by side."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from CyDAS.reports import charts
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
SHARED = ("space", "dataset", "data_dir", "train_dir", "test_dir", "n_classes", "input_channels", "image_size")


def of_data(config: dict[str, Any]) -> dict[str, Any]:
    """What the training of a search's result must be told of its space and data. ``config``: the search's flags."""
    names = [*SHARED, *["c_last"] * (config.get("space") == "chain")]
    names += ["test_share", "test_seed"] * bool(config.get("test_share"))
    return {name: config[name] for name in names if config.get(name) is not None}


def report_of(folders: Sequence[Path]) -> Page:
    """Raises :class:`CydasError` for a folder that is no run's."""
    runs = [read_run(folder) for folder in folders]
    return _of_one(runs[0]) if len(runs) == 1 else _of_several(runs)


def write_report(folders: Sequence[Path], stem: Path) -> list[Path]:
    """The paths of the HTML file and of the Markdown. Raises :class:`CydasError`."""
    return report_of(folders).write(stem)


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
        lines += ["# test it", f"python CyDAS/{program} --name {run.name} --output_dir {shlex.quote(str(output))}"]
    return lines


def _of_several(runs: list[Finished]) -> Page:
    page = Page(f"{len(runs)} runs: {', '.join(run.name for run in runs)}"[:120])
    page.heading("Results")
    found = [headline(run) for run in runs]
    names = list(dict.fromkeys(name for each in found for name in each))
    rows = [[run.name, *(_number(each.get(name)) for name in names)] for run, each in zip(runs, found, strict=True)]
    page.table(["run", *names], rows)
    groups: dict[str, list[dict[str, float]]] = {}
    for run, each in zip(runs, found, strict=True):
        groups.setdefault(f"{run.kind} {run.setting}", []).append(each)
    members = [[run.name for run in runs if f"{run.kind} {run.setting}" == key] for key in groups]
    page.text("Mean ± standard deviation of the runs that differ in their seed alone; no run is picked.")
    spreads = [
        [", ".join(names_of), len(group), *(_spread([each[n] for each in group if n in each]) for n in names)]
        for names_of, group in zip(members, groups.values(), strict=True)
    ]
    page.table(["setting of", "runs", *names], spreads)
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


def headline(run: Finished) -> dict[str, float]:
    """The numbers by which runs are compared."""
    numbers = dict(run.result.get("benchmark", {}).get("accuracies", {}))
    for name in ("cost", "parameters", "macs"):
        if name in run.result:
            numbers[name] = run.result[name]
    if run.kind == "search" and run.rounds:
        numbers["entropy"] = run.rounds[-1]["entropy"]
    last = run.result.get("last", {})
    names = ("top1", "top5", "miou", "ap", "ap50")
    return numbers | {name: last[name] for name in names if name in last}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1e5 else f"{value / 1e6:.4g} M"


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    return f"{_number(mean(values))} ± {_number(stdev(values))}" if len(values) > 1 else _number(values[0])
