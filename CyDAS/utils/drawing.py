"""Graphs that are to be drawn: boxes and arrows, from left to right."""

from dataclasses import dataclass, field
from typing import NamedTuple

import graphviz

#: Colours of a cell's inputs, of its nodes and of its output.
INPUT, NODE, OUTPUT = "darkseagreen2", "lightblue", "palegoldenrod"


class Node(NamedTuple):
    """A box."""

    label: str
    colour: str
    width: float | None = None  #: inches; None: as wide as its label
    group: str = ""  #: what is written over the boxes that stand side by side in one frame


@dataclass
class Drawing:
    """A graph from left to right."""

    nodes: dict[str, Node] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)  #: (from, to, label)

    def source(self) -> str:
        """In the language of ``dot``."""
        graph = graphviz.Digraph(format="png", graph_attr={"rankdir": "LR"}, edge_attr={"fontsize": "18"})
        graph.attr("node", style="filled", shape="box", fontsize="18")
        for group in dict.fromkeys(node.group for node in self.nodes.values()):
            if not group:
                self._add_nodes(graph, group)
                continue
            with graph.subgraph(name=f"cluster {group}") as frame:
                frame.attr(label=group, fontsize="12", color="gray")
                self._add_nodes(frame, group)
        for start, end, label in self.edges:
            graph.edge(start, end, label=label or None)
        return graph.source

    def _add_nodes(self, graph: graphviz.Digraph, group: str) -> None:
        for name, node in self.nodes.items():
            if node.group == group:
                size = (
                    {} if node.width is None else {"width": f"{node.width:.1f}", "height": "1.1", "fixedsize": "true"}
                )
                graph.node(name, node.label, fillcolor=node.colour, **size)
