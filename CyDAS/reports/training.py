"""What a report says of one training: of a found network, a detector or a segmenter."""

from typing import Any

from CyDAS.reports import charts
from CyDAS.reports.page import Page, Picture
from CyDAS.reports.runs import Finished
from CyDAS.reports.search import drawn
from CyDAS.spaces.choice import SPACES

#: What results are called; the others by their own names.
NAMES = {
    "top1": "top-1, %", "top5": "top-5, %", "miou": "mIoU, %", "accuracy": "pixels right, %", "ap": "AP",
    "ap50": "AP50", "ap75": "AP75", "ap_small": "AP small", "ap_medium": "AP medium", "ap_large": "AP large",
    "images": "test images",
}  # fmt: skip
#: The average precision, in COCO's evaluation, of what the test images hold none of.
NO_OBJECTS = -1.0
#: Pictures of test images that are shown.
PICTURES = 6


def describe_training(page: Page, run: Finished) -> None:
    """All of it but how the run was made."""
    page.heading("Result")
    if not run.result:
        page.warning("The training has not ended.")
    else:
        last, best = run.result["last"], run.result["best"]
        names = [name for name, value in last.items() if isinstance(value, int | float)]
        rows = [[NAMES.get(name, name), *(_short(name, each.get(name)) for each in (last, best))] for name in names]
        page.table(["", "last epoch", "best epoch (chosen on the test set)"], rows)
        sizes = {"parameters": "M parameters", "macs": "M multiply-accumulates"}
        found = [f"{run.result[name] / 1e6:.3f} {text}" for name, text in sizes.items() if name in run.result]
        if found:
            page.text(f"The network has {', '.join(found)}.")
    _network(page, run)
    _curves(page, run)
    _classes(page, run.result)
    files = sorted((run.folder / "pictures").glob("*.png"), key=lambda path: path.stat().st_mtime)[-PICTURES:]
    if files:
        page.heading("Test images")
        for path in files:
            page.picture(Picture(f"test_{path.stem}", path.read_bytes(), path.stem))


def _short(name: str, value: Any) -> str:
    if name.startswith("ap") and value == NO_OBJECTS:
        return "none in the test images"
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _network(page: Page, run: Finished) -> None:
    if "genotype" in run.result and run.config.get("space") in SPACES:
        space = SPACES[run.config["space"]]
        architecture = space.parse(run.result["genotype"], None, f"the result of {run.folder}")
        for number, picture in enumerate(drawn(space, architecture)):
            page.picture(Picture(f"network_{number}", picture, space.brief(architecture)))


def _curves(page: Page, run: Finished) -> None:
    groups = {
        "loss": {n: p for n, p in run.figures.items() if "loss" in n},
        "accuracy": {n: p for n, p in run.figures.items() if any(w in n for w in ("top", "miou", "accuracy", "/ap"))},
        "learning rate": {n: p for n, p in run.figures.items() if n == "lr"},
    }
    if any(groups.values()):
        page.heading("Curves")
    for title, lines in groups.items():
        if lines:
            name = title.replace(" ", "_")
            page.picture(Picture(name, charts.curves(lines, title), f"{title}, by step"))


def _classes(page: Page, result: dict[str, Any]) -> None:
    """The figures of every class, the worst first."""
    last = result.get("last", {})
    named = last.get("of_classes") if isinstance(last.get("of_classes"), dict) else None
    if named is None and "ious" in last:
        named = dict(zip(result.get("classes", []), last["ious"], strict=False))
    if named:
        page.heading("Classes")
        rows = sorted((value, name) for name, value in named.items() if value not in (None, NO_OBJECTS))
        page.table(["class", "AP" if "ap" in last else "IoU, %"], [[name, f"{value:.1f}"] for value, name in rows])
        absent = [name for name, value in named.items() if value in (None, NO_OBJECTS)]
        if absent:
            page.text(f"None in the test images: {', '.join(absent)}.")
