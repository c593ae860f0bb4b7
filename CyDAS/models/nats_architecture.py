"""Architectures of NATS-Bench's topology space, and the benchmark's strings for them."""

import re
from typing import NamedTuple

from CyDAS.models.genotype import GenotypeError

#: The columns of alpha, in order. All of them may be chosen, ``none`` included.
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
#: (target, source) of each edge: the rows of alpha, in order.
EDGES = tuple((target, source) for target in range(1, 4) for source in range(target))
EDGE_NAMES = tuple(f"{target}<-{source}" for target, source in EDGES)


class Architecture(NamedTuple):
    """One operation's name for each of :data:`EDGES`. ``str`` is the benchmark's form."""

    operations: tuple[str, ...]

    def __str__(self) -> str:
        nodes = [
            "".join(
                f"|{name}~{source}" for (at, source), name in zip(EDGES, self.operations, strict=True) if at == target
            )
            for target in range(1, 4)
        ]
        return "+".join(f"{node}|" for node in nodes)


def parse_architecture(text: object) -> Architecture:
    """Read ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``. Raises :class:`GenotypeError` naming the place that is wrong."""
    if not isinstance(text, str) or len(text) > 300:
        raise GenotypeError("an architecture is a short string like |nor_conv_3x3~0|+|none~0|skip_connect~1|+...")
    nodes = text.strip().split("+")
    if len(nodes) != 3:
        raise GenotypeError(f"3 nodes, separated by +, are expected, not {len(nodes)}")
    operations = []
    for target, node in enumerate(nodes, start=1):
        if not re.fullmatch(r"\|([^|]*\|)+", node):
            raise GenotypeError(f"node {target}: |operation~source| for each source is expected, not {node[:80]!r}")
        entries = node[1:-1].split("|")
        if len(entries) != target:
            raise GenotypeError(f"node {target}: {target} edges are expected, not {len(entries)}")
        for source, entry in enumerate(entries):
            name, _, given = entry.partition("~")
            if name not in OPERATIONS:
                raise GenotypeError(
                    f"node {target}, edge {source}: {name[:40]!r} is not one of {', '.join(OPERATIONS)}"
                )
            if given != str(source):
                raise GenotypeError(f"node {target}, edge {source}: its source is {source}, not {given[:40]!r}")
            operations.append(name)
    return Architecture(tuple(operations))
