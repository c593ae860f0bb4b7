"""What a report says of one search."""

import tempfile
from pathlib import Path
from typing import Any

from CyDAS.reports import charts
from CyDAS.reports.page import Page, Picture
from CyDAS.reports.runs import Finished
from CyDAS.spaces.alpha_tables import alpha_tables
from CyDAS.spaces.choice import find_space

#: More heat maps than these make a file that phones do not open.
MAPS = 60
#: A search has collapsed where more than this share of its operations have no weights.
COLLAPSED = 0.5
#: Nothing was decided where the entropy is above this share of its maximum.
UNDECIDED = 0.95
#: Pictures of cells on the way.
CELLS = 8


def describe_search(page: Page, run: Finished) -> None:
    """All of it but how the run was made."""
    space = find_space(run.config["space"], str(run.folder))
    entries = run.result.get("genotype") or (run.rounds[-1]["genotype"] if run.rounds else None)
    if entries is None:
        page.warning("The search has not finished a round yet: there is nothing to show.")
        return
    architecture = space.parse(entries, None, f"the result of {run.folder}")
    page.heading("Found" if run.result else "Preferred so far")
    if not run.result:
        page.warning(f"The search has not ended: this is what round {run.rounds[-1]['round']} prefers.")
    for number, picture in enumerate(drawn(space, architecture)):
        page.picture(Picture(f"found_{number}", picture, space.brief(architecture)))
    page.table(["", ""], facts(run))
    for text in troubles(run, space.describe(architecture)):
        page.warning(text)
    _curves(page, run)
    _alphas(page, run)
    _changes(page, run, space)
    if run.result.get("finalists"):
        page.heading("Finalists")
        page.text(
            "Trained shortly on the train half of the training images, tested on the val half; in a run-off longer."
        )
        rows = [
            [space.brief(space.parse(each["architecture"], None, "finalists")), f"{each['top1']:.2f}",
             "run-off" if each.get("again") else "short"]
            for each in run.result["finalists"]
        ]  # fmt: skip
        page.table(["architecture", "val top-1, %", "training"], rows)


def drawn(space: Any, architecture: Any) -> list[bytes]:
    """The architecture's pictures."""
    with tempfile.TemporaryDirectory() as folder:
        return [path.read_bytes() for path in space.draw(architecture, Path(folder), "x")]


def facts(run: Finished) -> list[list[str]]:
    """The first table: what a reader asks first."""
    rows = []
    benchmark = run.result.get("benchmark", {})
    for name, value in benchmark.get("accuracies", {}).items():
        rows.append([f"benchmark, {name}", f"{value:.2f} % (rank {benchmark['ranks'][name]})"])
    for name, value in benchmark.get("costs", {}).items():
        rows.append([f"benchmark, {name}", f"{value:.4g}"])
    if "cost" in run.result:
        rows.append(["cost", f"{run.result['cost']:.4g} {run.result['unit_of_cost']}"])
    if run.rounds:
        rows.append(["rounds", str(run.rounds[-1]["round"])])
        rows.append(["entropy of the alphas", f"{run.rounds[-1]['entropy']:.3f} of its maximum"])
    for name in ("val/top1_search", "val/top1_evaluation"):
        points = run.figures.get(name)
        if points:
            network = name.rpartition("_")[2]
            rows.append([f"{network} network, val top-1", f"{list(points.values())[-1]:.2f} % (last epoch)"])
    return rows


def troubles(run: Finished, counts: dict[str, int]) -> list[str]:
    """What has gone wrong, in words."""
    found, total = [], sum(counts.values())
    for name, count in counts.items():
        if name in ("skip_connect", "none") and total and count / total > COLLAPSED:
            found.append(
                f"The search has collapsed: {count} of {total} operations are {name}. Known remedies: more warm-up "
                "rounds (--pretrain_epochs), --regular, --beta_decay, and --finalists for the last choice."
            )
    if run.rounds and run.rounds[-1]["entropy"] > UNDECIDED:
        made_sure = run.result.get("finalists")
        remedy = "More rounds, a larger --alpha_lr or --finalists make it less a matter of chance."
        found.append(
            "The alphas have hardly left their start: what is preferred is decided by small margins. "
            + ("The finalists below have decided instead." if made_sure else remedy)
        )
    return found


def _curves(page: Page, run: Finished) -> None:
    figures = run.figures
    if not figures:
        return
    page.heading("Losses and accuracies")
    for title, word, unit in (("losses", "loss_", ""), ("accuracies of batches", "top1_", "%")):
        lines = {name: points for name, points in figures.items() if word in name}
        if lines:
            name = title.replace(" ", "_")
            page.picture(Picture(name, charts.curves(lines, title, unit), f"{title} of the search, by step"))
    known = {name.partition("/")[2]: points for name, points in figures.items() if name.startswith("benchmark/")}
    if known:
        title = "what the benchmark says of each round's cell"
        page.picture(Picture("benchmark", charts.curves(known, title, "%"), title))


def _alphas(page: Page, run: Finished) -> None:
    if not run.rounds:
        return
    if not alpha_tables(run.config["space"], run.rounds[-1]["alphas"]):
        return
    page.heading("Architecture parameters")
    shown = run.rounds if len(run.rounds) <= MAPS else run.rounds[:: -(-len(run.rounds) // MAPS)] + run.rounds[-1:]
    pictures = []
    for each in shown:
        tables = alpha_tables(run.config["space"], each["alphas"])
        title = f"round {each['round']}, entropy {each['entropy']:.3f}"
        name = f"alphas_{each['round']:03d}"
        pictures.append(Picture(name, charts.heat_maps(tables, title), f"softmax(alpha) after {title}"))
    page.series(pictures)


def _changes(page: Page, run: Finished, space: Any) -> None:
    """Operation counts over the rounds, and the cells first, last and at each change."""
    if not run.rounds:
        return
    cells = [space.parse(each["genotype"], None, f"round {each['round']}") for each in run.rounds]
    counts = [space.describe(cell) for cell in cells]
    page.heading("What was preferred on the way")
    by_operation = {name: [each[name] for each in counts] for name in counts[0]}
    numbers = [each["round"] for each in run.rounds]
    page.picture(Picture("counts", charts.counts(numbers, by_operation), "operations of the preferred architecture"))
    changes = [place for place in range(len(cells)) if place == 0 or cells[place] != cells[place - 1]]
    page.text(f"It changed {len(changes) - 1} times.")
    page.table(["round", "preferred"], [[str(numbers[place]), space.brief(cells[place])] for place in changes])
    step = max(1.0, (len(changes) - 1) / (CELLS - 1))
    for place in (changes[round(step * number)] for number in range(min(CELLS, len(changes)))):
        for number, picture in enumerate(drawn(space, cells[place])):
            name = f"cell_{numbers[place]:03d}_{number}"
            page.picture(Picture(name, picture, f"round {numbers[place]}: {space.brief(cells[place])}"))
