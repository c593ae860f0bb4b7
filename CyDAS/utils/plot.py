"""Pictures of architectures: graphs, drawn by the program ``dot`` or, where there is none, by matplotlib."""

import logging
from collections.abc import Sequence
from pathlib import Path

import graphviz

from CyDAS.utils.drawing import INPUT, NODE, OUTPUT, Drawing, Node
from CyDAS.utils.errors import CydasError

_log = logging.getLogger(__name__)


def draw_graph(path: Path, edges: Sequence[tuple[str, str, str]], inputs: Sequence[str], output: str) -> Path:
    """Write ``path``.png of a cell's (from, to, label) edges, as :func:`render` does it."""
    names = dict.fromkeys([*inputs, *(name for edge in edges for name in edge[:2]), output])
    colours = dict.fromkeys(names, NODE) | dict.fromkeys(inputs, INPUT) | {output: OUTPUT}
    return render(Drawing({name: Node(name, colours[name]) for name in names}, list(edges)), path)


def render(drawing: Drawing, path: Path) -> Path:
    """Write ``path``.png, and its source for ``dot`` ``path``.gv beside it. Returns the former.

    Raises :class:`CydasError` where the files cannot be written.
    """
    source, picture = (path.with_name(path.name + end) for end in (".gv", ".png"))
    text = drawing.source()
    try:
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(text)
    except (OSError, ValueError) as error:  # a null character in its name
        raise CydasError(f"cannot write {source}: {getattr(error, 'strerror', None) or error}") from None
    try:
        graphviz.render("dot", "png", source, outfile=picture)
        return picture
    except graphviz.ExecutableNotFound:
        pass
    except graphviz.CalledProcessError as error:
        _log.warning("no picture of %s by dot: %s", source, " ".join(str(error).split()))
    from CyDAS.utils.plain_plot import draw  # late: matplotlib takes a second to import

    return draw(drawing, picture)
