"""The chain space: what is known of its architectures outside of their networks: files, names, pictures."""

from collections import Counter
from pathlib import Path

import graphviz
from torch import Tensor

from CyDAS.models.chain.alphas import ArchitectureParameters, preferred
from CyDAS.models.chain.architecture import (
    OPERATIONS,
    SEARCHED,
    STRIDES,
    WIDTHS,
    Architecture,
    operation_name,
    parse_architecture,
)
from CyDAS.utils.errors import CydasError, GenotypeError
from CyDAS.utils.plot import render
from CyDAS.utils.texts import few

#: Colours of the kernels in pictures.
COLOURS = {3: "lightblue", 5: "lightgoldenrod", 7: "lightcoral"}
#: Inches of a block's width for each unit of its expansion.
INCHES = 0.2


class ChainSpace:
    """Chains of inverted residual blocks, kernel 3, 5 or 7 and expansion 4 or 6, one to six in each of five stages."""

    @staticmethod
    def describe(architecture: Architecture) -> dict[str, int]:
        """How often each operation stands in the stages with a choice."""
        counts = Counter(operation for stage in SEARCHED for operation in architecture.stages[stage])
        return {operation_name(operation): counts[operation] for operation in range(len(OPERATIONS))}

    @staticmethod
    def draw(architecture: Architecture, folder: Path, name: str) -> list[Path]:
        """A picture of the chain, first block to last. Returns its path."""
        return [draw_chain(architecture, folder / name)]

    @staticmethod
    def to_strings(architecture: Architecture) -> dict[str, str]:
        """The published form, which is of the whole network."""
        return {"0": str(architecture)}

    @staticmethod
    def parse(entries: object, stages: int | None, source: str) -> Architecture:
        """Read :meth:`to_strings`'s form, or the bare lists, or a file's only named ones.

        ``stages`` is another space's number. Raises :class:`CydasError` naming ``source``.
        """
        if isinstance(entries, dict):
            if len(entries) != 1:
                names = few([str(name)[:40] for name in entries]) or "none"
                raise CydasError(f"{source}: one architecture is expected; there are {names}: choose one as FILE::NAME")
            (entries,) = entries.values()
        try:
            return parse_architecture(entries)
        except GenotypeError as error:
            raise CydasError(f"{source}: {error}") from None

    @staticmethod
    def preferred(alphas: dict[str, Tensor]) -> Architecture:
        """What the state dict of a search's architecture parameters prefers. Raises ``RuntimeError`` for another."""
        own = ArchitectureParameters(depth=len(next(iter(alphas.values()), ())))
        own.load_state_dict(alphas)
        return preferred(own.mixtures())


def draw_chain(architecture: Architecture, path: Path) -> Path:
    """``path``.png: each block as wide as its expansion, in its kernel's colour; stages framed with their channels."""
    graph = graphviz.Digraph(graph_attr={"rankdir": "LR", "nodesep": "0.1", "ranksep": "0.2"})
    graph.attr("node", style="filled", shape="box", fontsize="14", fixedsize="true", height="1.1")
    ends = {"fillcolor": "palegoldenrod", "width": "1.1"}
    graph.node("stem", "stem\n3x3", **ends)
    order, stride = ["stem"], 2
    for stage, blocks in enumerate(architecture.stages[:-1]):
        stride *= STRIDES[stage]
        with graph.subgraph(name=f"cluster{stage}") as frame:
            frame.attr(label=f"stage {stage}: {WIDTHS[stage]} channels, 1/{stride}", fontsize="12", color="gray")
            for block, operation in enumerate(blocks):
                order.append(f"{stage}.{block}")
                kernel, expansion = OPERATIONS[operation] if stage in SEARCHED else (3, 1)
                label = f"{kernel}x{kernel}\ne{expansion}"
                width = f"{max(0.4, INCHES * expansion):.1f}"
                frame.node(order[-1], label, fillcolor=COLOURS[kernel], width=width)
    graph.node("head", "1x1, mean,\n1x1, linear", **ends)
    for start, end in zip(order, [*order[1:], "head"], strict=True):
        graph.edge(start, end)
    return render(graph, path)
