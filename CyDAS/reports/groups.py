"""Runs that differ in their seeds alone, as one row a figure: mean, deviation, best and worst."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any, NamedTuple

from CyDAS.reports.runs import Finished
from CyDAS.utils.texts import few

#: What a table of figures shows of each group of runs.
HEAD = ("", "setting", "runs", "mean ± std", "best", "worst")
#: How the names of figures begin of which less is better; of all others, which are accuracies, more is.
LESS_IS_BETTER = ("cost", "parameters", "macs", "entropy", "params_M", "flops_M")


class Group(NamedTuple):
    """``label``: what the runs are called together."""

    label: str
    runs: list[Finished]


class Figure(NamedTuple):
    """One figure of a group. ``std``: of the sample, None for a single run; ``best``, ``worst``: value and run."""

    values: list[float]
    mean: float
    std: float | None
    best: tuple[float, str]
    worst: tuple[float, str]

    def as_dict(self) -> dict[str, Any]:
        best, worst = ({"value": value, "run": run} for value, run in (self.best, self.worst))
        return {"n": len(self.values), "mean": self.mean, "std": self.std, "best": best, "worst": worst}


def headline(run: Finished) -> dict[str, float]:
    """The numbers by which runs are compared; those that are not known are left out."""
    benchmark, last = run.result.get("benchmark", {}), run.result.get("last", {})
    costs = {name: value for name, value in benchmark.get("costs", {}).items() if name.endswith("_M_cifar10")}
    numbers = benchmark.get("accuracies", {}) | costs
    numbers |= {name: last[name] for name in ("top1", "top5", "miou", "ap", "ap50") if name in last}
    if run.kind == "search":
        for name in ("val/top1_evaluation", "val/top1_search"):
            if name in run.figures:
                numbers[name] = list(run.figures[name].values())[-1]
        if run.rounds:
            numbers["entropy"] = run.rounds[-1]["entropy"]
    numbers |= {name: run.result[name] for name in ("cost", "parameters", "macs") if name in run.result}
    return {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}


def by_setting(runs: Sequence[Finished]) -> list[Group]:
    """Runs that differ in their seed alone are a group, which is called by their names."""
    groups: dict[str, list[Finished]] = {}
    for run in runs:
        groups.setdefault(f"{run.kind} {run.setting}", []).append(run)
    return [Group(few([run.name for run in group]), group) for group in groups.values()]


def figures_of(group: Group) -> dict[str, Figure]:
    """Every figure that any run of the group has."""
    found: dict[str, list[tuple[float, str]]] = {}
    for run in group.runs:
        for name, value in headline(run).items():
            found.setdefault(name, []).append((value, run.name))
    return {name: _figure(some, name.startswith(LESS_IS_BETTER)) for name, some in found.items()}


def _figure(found: list[tuple[float, str]], less_is_better: bool) -> Figure:
    values = [value for value, _ in found]
    ordered = sorted(found, key=lambda each: each[0], reverse=not less_is_better)
    return Figure(values, mean(values), stdev(values) if len(values) > 1 else None, ordered[0], ordered[-1])


def rows_of(groups: Sequence[Group]) -> list[list[str]]:
    """Under :data:`HEAD`: of every figure, all groups one below the other."""
    figures = [figures_of(group) for group in groups]
    names = dict.fromkeys(name for each in figures for name in each)
    return [
        [name, group.label, str(len(each[name].values)), *_words(each[name])]
        for name in names
        for group, each in zip(groups, figures, strict=True)
        if name in each
    ]


def _words(figure: Figure) -> list[str]:
    if figure.std is None:
        return [number(figure.mean), "", ""]
    extremes = (f"{number(value)} ({run})" for value, run in (figure.best, figure.worst))
    return [f"{number(figure.mean)} ± {number(figure.std)}", *extremes]


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) < 1e5 else f"{value / 1e6:.4g} M"


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table for a terminal."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return [line.rstrip() for line in lines]
