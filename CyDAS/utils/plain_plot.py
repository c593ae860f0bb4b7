"""Pictures of graphs by matplotlib and networkx, for machines without the program ``dot``, and for reports."""

from pathlib import Path

import networkx
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from CyDAS.utils.drawing import Drawing
from CyDAS.utils.errors import CydasError

#: What X11's colours that ``dot`` knows are called here.
COLOURS = {"darkseagreen2": "#b4eeb4", "lightgoldenrod": "#eedd82"}
#: Inches between two columns of boxes, and between two rows.
COLUMN, ROW = 2.3, 1.1
#: Inches of a box: its height, its width where it says none, and the height of those that say theirs.
HEIGHT, WIDTH, TALL = 0.5, 0.7, 1.0
#: Where on its edge a label stands, from start to end.
LABEL = 0.42

Point = tuple[float, float]
#: Where the middle of each box is, inches.
Places = dict[str, Point]


def draw(drawing: Drawing, path: Path) -> Path:
    """Write a PNG and return its path. Raises :class:`CydasError` where it cannot be written."""
    figure = figure_of(drawing)
    try:
        FigureCanvasAgg(figure).print_png(path)
    except OSError as error:
        raise CydasError(f"cannot write {path}: {error.strerror}") from None
    return path


def figure_of(drawing: Drawing) -> Figure:
    """The graph from left to right; a chain of many boxes in several lines."""
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from(drawing.nodes)
    graph.add_edges_from((start, end) for start, end, _ in drawing.edges)
    chain = all(degree <= 2 for _, degree in graph.degree())
    places = _chain(drawing) if chain else _layers(graph)
    xs, ys = zip(*places.values(), strict=True)
    left, right, bottom, top = min(xs) - 1, max(xs) + 1, min(ys) - 1, max(ys) + 1.2
    figure = Figure(figsize=(right - left, top - bottom), dpi=80)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, top))
    axes.axis("off")
    _draw_edges(axes, drawing, places, _draw_nodes(axes, drawing, places), chain)
    return figure


def _layers(graph: networkx.MultiDiGraph) -> Places:
    """A column for every node of a cell, in turn above and below the middle: few edges then cross a box."""
    order = list(networkx.lexicographical_topological_sort(graph))
    inputs = [name for name in order if not graph.in_degree(name)]
    inner = [name for name in order if name not in inputs]
    places = {name: (0.0, -ROW * 1.5 * (place - (len(inputs) - 1) / 2)) for place, name in enumerate(inputs)}
    for column, name in enumerate(inner, 1):
        places[name] = (COLUMN * column, 0.65 * ROW * (-1) ** column * (column < len(inner)))
    return places


def _chain(drawing: Drawing) -> Places:
    """One row of boxes, broken where a frame begins."""
    places, x, y, longest = {}, 0.0, 0.0, 11.0
    names = list(drawing.nodes)
    for place, name in enumerate(names):
        node = drawing.nodes[name]
        starts = place > 0 and node.group != drawing.nodes[names[place - 1]].group
        group = [each for each in drawing.nodes.values() if each.group == node.group] if starts and node.group else []
        if starts and x + sum((each.width or WIDTH) + 0.4 for each in group) > longest:
            x, y = 0.0, y - 2.4
        width = node.width or WIDTH
        places[name] = (x + width / 2, y)
        x += width + 0.4
    return places


def _draw_nodes(axes: Axes, drawing: Drawing, places: Places) -> dict[str, FancyBboxPatch]:
    """The boxes, and the name of each group over its first one."""
    boxes, named = {}, set()
    for name, node in drawing.nodes.items():
        (x, y), width, height = places[name], node.width or WIDTH, HEIGHT if node.width is None else TALL
        boxes[name] = FancyBboxPatch(
            (x - width / 2, y - height / 2), width, height, boxstyle="round,pad=0.02",
            facecolor=COLOURS.get(node.colour, node.colour), edgecolor="0.3", zorder=3,
        )  # fmt: skip
        axes.add_patch(boxes[name])
        axes.text(x, y, node.label, ha="center", va="center", fontsize=9, zorder=4)
        if node.group and node.group not in named:
            named.add(node.group)
            text = node.group.replace(": ", ":\n").replace(", ", ",\n")
            axes.text(x - width / 2, y + TALL / 2 + 0.1, text, ha="left", va="bottom", fontsize=7)
    return boxes


def _draw_edge(axes: Axes, start: Point, end: Point, label: str, bend: float, *boxes: FancyBboxPatch) -> None:
    (x1, y1), (x2, y2) = start, end
    ends = {"patchA": boxes[0], "patchB": boxes[1], "shrinkA": 1, "shrinkB": 2}
    style = {"arrowstyle": "-|>", "color": "0.35", "connectionstyle": f"arc3,rad={bend}"}
    axes.annotate("", end, start, arrowprops={**style, **ends}, zorder=2)
    if label:  # on the curve, whose middle control point lies so far off the straight line
        middle = (x1 + x2) / 2 + bend * (y2 - y1), (y1 + y2) / 2 - bend * (x2 - x1)
        shares = (1 - LABEL) ** 2, 2 * LABEL * (1 - LABEL), LABEL**2
        x, y = (
            sum(s * p for s, p in zip(shares, parts, strict=True)) for parts in zip(start, middle, end, strict=True)
        )
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        axes.text(x, y, label, ha="center", va="center", fontsize=8, zorder=5, bbox=box)


def _draw_edges(axes: Axes, drawing: Drawing, places: Places, boxes: dict[str, FancyBboxPatch], chain: bool) -> None:
    between: dict[tuple[str, str], int] = {}
    for start, end, label in drawing.edges:
        number = between[start, end] = between.get((start, end), -1) + 1
        if not chain:
            side = -1 if places[start][1] + places[end][1] >= 0 else 1
            _draw_edge(axes, places[start], places[end], label, side * (0.15 + 0.15 * number), boxes[start], boxes[end])
        elif places[start][1] == places[end][1]:
            _draw_edge(axes, places[start], places[end], label, 0.0, boxes[start], boxes[end])
        else:  # the chain goes on in the next line
            x, y = places[start]
            axes.text(x + boxes[start].get_width() / 2 + 0.15, y, "\u2026", ha="left", va="center", fontsize=12)
