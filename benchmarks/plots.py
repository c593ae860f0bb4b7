"""The pictures of docs/, from results.

python benchmarks/plots.py speed                        # docs/pictures/speed.png
python benchmarks/plots.py transfer                     # docs/pictures/transfer.png
python benchmarks/plots.py nats SUMMARY.json ...        # docs/pictures/nats.png; each the summary of one --seeds run
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from CyDAS.runs.checkpoint import refusing
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json, write_atomically

if TYPE_CHECKING:
    import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs/pictures"
SIDES = {
    "plain": ("tab:grey", "plain, NCHW"),
    "channels_last": ("tab:olive", "plain, channels last"),
    "cydas": ("tab:blue", "CyDAS"),
}


def speed(results: Path) -> Path:
    """Seconds of the search network's forward and backward against batch size, channels and threads."""
    cases = read_json(results, "results")["results"]
    rows = {
        "batch size (16 channels)": {
            8: "supernet_batch_8", 16: "supernet", 32: "supernet_batch_32", 64: "supernet_batch_64",
        },
        "channels (batch 16)": {8: "supernet_channels_8", 16: "supernet", 32: "supernet_channels_32"},
        "threads (16 channels, batch 16)": {1: "supernet_1_thread", 2: "supernet"},
    }  # fmt: skip
    figure, axes = subplots(1, 3, figsize=(11, 3.4), sharey=True)
    for axis, (label, names) in zip(axes, rows.items(), strict=True):
        for side, (colour, name) in SIDES.items():
            if not all(side in cases[case]["median_seconds"] for case in names.values()):
                continue  # an earlier record, of one baseline
            seconds = [cases[case]["median_seconds"][side] for case in names.values()]
            axis.plot(list(names), seconds, "o-", color=colour, label=name)
        axis.set(xlabel=label, yscale="log", xticks=list(names))
        axis.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("seconds, forward and backward")
    axes[0].legend()
    return save(figure, "speed.png")


def nats(summaries: list[Path]) -> Path:
    """CIFAR-10 test accuracy of the current cell over the rounds, one line a seed, one panel a run."""
    figure, axes = subplots(1, len(summaries), figsize=(5.5 * len(summaries), 3.8), squeeze=False, sharey=True)
    for axis, path in zip(axes[0], summaries, strict=True):
        for seed, result in read_json(path, "summary")["seeds"].items():
            points = [(r["round"], r["benchmark"]["accuracies"]["cifar10_test"]) for r in result["trajectory"]]
            axis.plot(*zip(*points, strict=True), linewidth=1.2, label=f"seed {seed}")
        axis.set(title=path.name.removesuffix("-seeds.json"), xlabel="round", ylim=(50, 95.5))
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("CIFAR-10 test, % (benchmark)")
    axes[0][0].legend(fontsize=8)
    return save(figure, "nats.png")


def transfer(path: Path) -> Path:
    """Training losses of segmenter and detector, and the segmenter's mIoU on unseen images, from both starts."""
    results = read_json(path, "results")["results"]
    figure, axes = subplots(1, 3, figsize=(11, 3.4))
    panels = (("segment", "loss_by_epoch", "segmenter: training loss"),
              ("segment", "test_by_epoch", "segmenter: validation mIoU, %"),
              ("detect", "loss_by_epoch", "detector: training loss"))  # fmt: skip
    for axis, (task, what, title) in zip(axes, panels, strict=True):
        for start, colour in (("pretrained", "tab:blue"), ("random", "tab:grey")):
            points = results[f"{task} {start}"][what]
            axis.plot([int(epoch) for epoch in points], list(points.values()), color=colour, label=start)
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
    axes[0].legend(title="backbone")
    return save(figure, "transfer.png")


def subplots(*shape: int, **options) -> tuple[plt.Figure, Any]:
    """Matplotlib's, for files alone. Raises :class:`CydasError` where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        raise CydasError("the pictures need matplotlib: pip install matplotlib") from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt.subplots(*shape, **options)


def save(figure: plt.Figure, name: str) -> Path:
    figure.tight_layout()
    options: dict[str, Any] = {"dpi": 110, "format": "png", "metadata": {"Software": None}}
    write_atomically(PICTURES / name, lambda beside: figure.savefig(beside, **options))
    return PICTURES / name


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", choices=("speed", "nats", "transfer"))
    parser.add_argument("files", nargs="*", type=Path, help="of nats: the summaries NAME-seeds.json")
    options = parser.parse_args(arguments)
    if options.picture == "nats" and not options.files:
        parser.error("nats takes the summaries of --seeds runs that had --nats_table")
    results = ROOT / "benchmarks/results"
    with refusing(f"{options.picture}: not the results that this picture shows"):
        if options.picture == "nats":
            print(nats(options.files))
        else:
            draw = {"speed": (speed, "speed.json"), "transfer": (transfer, "transfer_small.json")}[options.picture]
            print(draw[0](results / draw[1]))


if __name__ == "__main__":
    run_program(main)
