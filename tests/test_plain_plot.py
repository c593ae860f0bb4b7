"""Pictures without the program dot: every box and label is there, arrows end at boxes, nothing leaves the picture."""

from collections import Counter

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from CyDAS.models.cells.genotype import NODES, Genotype
from CyDAS.models.chain.published import PUBLISHED
from CyDAS.spaces import ChainSpace, load_architecture
from CyDAS.spaces import chain as chain_space
from CyDAS.utils import plot
from CyDAS.utils.drawing import Drawing, Node
from CyDAS.utils.errors import CydasError
from CyDAS.utils.plain_plot import draw, figure_of


@pytest.fixture
def drawings(monkeypatch):
    """What is drawn, instead of its picture."""
    found = []
    for owner in (plot, chain_space):
        monkeypatch.setattr(owner, "render", lambda drawing, path: found.append(drawing) or path)
    return found


def test_a_cell_has_all_its_boxes_and_labels(drawings, tmp_path):
    from CyDAS.spaces.darts import draw_cell

    genotype: Genotype = load_architecture("CyDAS/cells/cifar_genotype.json", 3)[0]
    draw_cell(genotype.normal, tmp_path / "cell")
    (drawing,) = drawings
    texts = Counter(text.get_text() for text in figure_of(drawing).axes[0].texts if text.get_text())
    operations = Counter(op for node in genotype.normal for op, _ in node)
    assert texts == operations + Counter(["c_{k-2}", "c_{k-1}", "c_{k}", *map(str, range(NODES))])


def test_a_chain_has_every_block_and_stage(drawings, tmp_path):
    ChainSpace.draw(PUBLISHED["cdarts_b"].architecture, tmp_path, "b")
    texts = [text.get_text() for text in figure_of(drawings[0]).axes[0].texts]
    assert sum(text.startswith("5x5\n") for text in texts) == 9 and sum(text.startswith("7x7\n") for text in texts) == 6
    assert [text.split(":")[0] for text in texts if text.startswith("stage")] == [f"stage {n}" for n in range(6)]


@pytest.mark.parametrize("blocks", [3, 40])
def test_nothing_leaves_the_picture(blocks):
    names = [f"b{index}" for index in range(blocks)]
    nodes = {
        name: Node("7x7\ne6", "lightblue", 1.2, f"stage {place // 4}: 24 channels") for place, name in enumerate(names)
    }
    figure = figure_of(Drawing(nodes, [(a, b, "") for a, b in zip(names, names[1:], strict=False)]))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer, frame = canvas.get_renderer(), figure.bbox
    for item in (*figure.axes[0].patches, *figure.axes[0].texts):
        box = item.get_window_extent(renderer)
        assert box.width == 0 or (
            frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
        ), item


def test_boxes_of_a_chain_do_not_lie_on_each_other():
    names = [f"b{index}" for index in range(20)]
    nodes = {name: Node("x", "lightblue", 0.8) for name in names}
    figure = figure_of(Drawing(nodes, [(a, b, "") for a, b in zip(names, names[1:], strict=False)]))
    boxes = [patch.get_bbox() for patch in figure.axes[0].patches]
    assert not any(one.overlaps(two) for place, one in enumerate(boxes) for two in boxes[:place])


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(CydasError, match="cannot write .*nowhere/x.png: No such file"):
        draw(Drawing({"a": Node("a", "lightblue")}), tmp_path / "nowhere/x.png")


def test_a_graph_of_one_box_is_drawn(tmp_path):
    path = draw(Drawing({"a": Node("a", "lightblue")}), tmp_path / "x.png")
    assert Image.open(path).convert("L").getextrema()[0] < 100
