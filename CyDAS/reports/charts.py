"""The charts of a report, by matplotlib, as PNG files' bytes."""

import io
from collections.abc import Mapping, Sequence

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from CyDAS.spaces.alpha_tables import AlphaTable

#: One name's points by step.
Points = Mapping[int, float]
#: More colours than anybody tells apart.
COLOURS = [f"C{index}" for index in range(10)]


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def curves(lines: Mapping[str, Points], title: str, unit: str = "", points: bool = False) -> bytes:
    """One line for each name. ``points``: mark every one of them; few are hard to see else."""
    figure = Figure(figsize=(6.4, 3.4), dpi=110, layout="constrained")
    axes = figure.add_subplot(title=title, xlabel="step", ylabel=unit)
    for index, (name, values) in enumerate(lines.items()):
        mark = "o" if points or len(values) < 12 else None
        axes.plot(list(values), list(values.values()), label=name, color=COLOURS[index % 10], marker=mark, markersize=3)
    axes.grid(alpha=0.3)
    if lines:
        axes.legend(fontsize=8, ncols=1 + (len(lines) > 6))
    return png(figure)


def counts(rounds: Sequence[int], by_operation: Mapping[str, Sequence[int]]) -> bytes:
    """How often each operation stands in what each round prefers: bars that stand on each other."""
    figure = Figure(figsize=(6.4, 3.4), dpi=110, layout="constrained")
    axes = figure.add_subplot(title="operations of the preferred architecture", xlabel="round", ylabel="how many")
    bottom = [0] * len(rounds)
    for index, (name, values) in enumerate(by_operation.items()):
        if any(values):
            axes.bar(rounds, values, bottom=bottom, label=name, color=COLOURS[index % 10], width=0.9)
            bottom = [below + value for below, value in zip(bottom, values, strict=True)]
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return png(figure)


def heat_maps(tables: Sequence[AlphaTable], title: str) -> bytes:
    """The weights of every edge or block, with their numbers; the largest of a row is bold."""
    heights = [0.24 * len(table.rows) + 1.2 for table in tables]
    figure = Figure(figsize=(6.4, sum(heights) + 0.4), dpi=90, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for axes, table in zip(
        figure.subplots(len(tables), 1, squeeze=False, height_ratios=heights)[:, 0], tables, strict=True
    ):
        axes.imshow(table.shares.numpy(), vmin=0, vmax=1, cmap="Blues", aspect="auto")
        axes.set_title(table.title, fontsize=9)
        axes.set_xticks(range(len(table.columns)), table.columns, fontsize=7, rotation=25, ha="right")
        axes.set_yticks(range(len(table.rows)), table.rows, fontsize=7)
        best = torch.nan_to_num(table.shares, nan=-1).argmax(dim=1).tolist()
        for row, shares in enumerate(table.shares.tolist()):
            for column, share in enumerate(shares):
                if share == share:  # a choice that there is
                    look = {"weight": "bold" if column == best[row] else "normal", "fontsize": 6}
                    look["color"] = "white" if share > 0.6 else "black"
                    axes.text(column, row, f"{share:.2f}", ha="center", va="center", **look)
    return png(figure)
