"""Pictures of cells."""

import logging
from collections.abc import Sequence
from pathlib import Path

import graphviz

_log = logging.getLogger(__name__)
_dot_is_missing = False


def draw_graph(path: Path, edges: Sequence[tuple[str, str, str]], inputs: Sequence[str], output: str) -> None:
    """Write ``path``.png from (from, to, label) edges, and its source ``path``.gv beside it.

    Where the ``dot`` program is missing, the source alone is kept; one warning says so.
    """
    global _dot_is_missing
    graph = graphviz.Digraph(format="png", graph_attr={"rankdir": "LR"}, edge_attr={"fontsize": "18"})
    graph.attr("node", style="filled", shape="box", fontsize="18", fillcolor="lightblue")
    for name in inputs:
        graph.node(name, fillcolor="darkseagreen2")
    graph.node(output, fillcolor="palegoldenrod")
    for start, end, label in edges:
        graph.edge(start, end, label=label)
    source = path.with_name(path.name + ".gv")
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(graph.source)
    if _dot_is_missing:
        return
    try:
        graphviz.render("dot", "png", source, outfile=path.with_name(path.name + ".png"))
    except graphviz.ExecutableNotFound:
        _dot_is_missing = True
        _log.warning("no pictures: the program dot is missing (apt-get install graphviz); the .gv sources are kept")
    except graphviz.CalledProcessError as error:
        _log.warning("no picture of %s: %s", source, error)
