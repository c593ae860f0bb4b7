"""Pictures of architectures."""

import logging
from collections.abc import Sequence
from pathlib import Path

import graphviz

from CyDAS.utils.errors import CydasError

_log = logging.getLogger(__name__)
_dot_is_missing = False


def draw_graph(path: Path, edges: Sequence[tuple[str, str, str]], inputs: Sequence[str], output: str) -> Path:
    """Write ``path``.png from (from, to, label) edges, and its source ``path``.gv beside it. Returns the former.

    As :func:`render` does it.
    """
    graph = graphviz.Digraph(format="png", graph_attr={"rankdir": "LR"}, edge_attr={"fontsize": "18"})
    graph.attr("node", style="filled", shape="box", fontsize="18", fillcolor="lightblue")
    for name in inputs:
        graph.node(name, fillcolor="darkseagreen2")
    graph.node(output, fillcolor="palegoldenrod")
    for start, end, label in edges:
        graph.edge(start, end, label=label)
    return render(graph, path)


def render(graph: graphviz.Digraph, path: Path) -> Path:
    """Write ``path``.png, and its source ``path``.gv beside it. Returns the former.

    Where the ``dot`` program is missing, the source alone is kept and returned; one warning says so. Raises
    :class:`CydasError` where the files cannot be written.
    """
    global _dot_is_missing
    source = path.with_name(path.name + ".gv")
    try:
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(graph.source)
    except (OSError, ValueError) as error:  # a null character in its name
        raise CydasError(f"cannot write {source}: {getattr(error, 'strerror', None) or error}") from None
    if _dot_is_missing:
        return source
    try:
        picture = path.with_name(path.name + ".png")
        graphviz.render("dot", "png", source, outfile=picture)
        return picture
    except graphviz.ExecutableNotFound:
        _dot_is_missing = True
        _log.warning("no pictures: the program dot is missing (apt-get install graphviz); the .gv sources are kept")
    except graphviz.CalledProcessError as error:
        _log.warning("no picture of %s: %s", source, " ".join(str(error).split()))
    return source
