"""Cells of the genotype files that DARTS, PC-DARTS, DrNAS and FairDARTS published, in a shorthand: facts, for tests.

An edge is an operation's letter and its source ("31": a separable 3x3 convolution of state 1); FairDARTS's have the
node between both ("320"). A cell's edges stand in the files' order; "|" comes before other nodes than 2 to 5 to
concatenate.
"""

OPERATIONS = {
    "M": "max_pool_3x3", "A": "avg_pool_3x3", "S": "skip_connect", "3": "sep_conv_3x3", "5": "sep_conv_5x5",
    "d": "dil_conv_3x3", "D": "dil_conv_5x5", "7": "sep_conv_7x7", "X": "conv_7x1_1x7",
}  # fmt: skip

#: Name: normal cell, reduction cell.
PAIRS = {
    "DARTS_V1": ("31 30 S0 31 S0 31 30 S2", "M0 M1 S2 M0 M0 S2 S2 A0"),
    "DARTS_V2": ("30 31 30 31 31 S0 S0 d2", "M0 M1 S2 M1 M0 S2 S2 M1"),
    "PC_DARTS_cifar": ("31 S0 30 d1 50 31 A0 d1", "51 M0 51 52 30 33 31 32"),
    "PC_DARTS_image": ("S1 30 30 S1 31 33 31 D4", "30 S1 D2 M1 32 31 50 33"),
    "DrNAS_cifar10": ("30 51 31 32 S0 31 32 D3", "M0 51 D2 51 51 D3 S4 51"),
    "DrNAS_imagenet": ("31 30 30 31 30 d3 S0 31", "M0 31 30 S2 30 32 33 31"),
    "GDAS_V1": ("S0 S1 S0 52 33 S0 54 33", "50 31 52 51 D2 31 50 52"),
    "MdeNAS": ("51 30 S0 51 53 31 D3 M4", "M0 51 S0 S1 33 S2 d3 50"),
    "PDARTS": ("S0 d1 S0 31 31 33 30 D4", "A0 51 30 D2 M0 d1 d1 D3"),
    "SNAS": ("30 31 S0 d1 S1 S0 S0 31", "M0 M1 M1 S2 S2 M1 M0 D2"),
}
FIVE_NODES = {
    "NASNet": ("51 30 50 30 A1 S0 A0 A0 31 S1 | 2 3 4 5 6", "51 70 M1 70 A1 50 S3 A2 32 M1 | 4 5 6"),
    "AmoebaNet": ("A0 M1 30 52 30 A3 31 S1 S0 A1 | 4 5 6", "A0 31 M0 72 70 A1 M0 M1 X0 35 | 3 4 6"),
    "ENASNet": ("31 S1 51 S0 A0 31 30 A1 51 A0 | 2 3 4 5 6", "50 31 31 A1 31 A1 A1 54 35 50 | 2 3 4 5 6"),
}
TRIPLES = {
    "FairDARTS_a": ("320 521 M40 350", "M20 A21 A30 D31 A40 541 S50 S51"),
    "FairDARTS_b": ("320 321 331 d40 541 D51", "S20 d21 S30 d31 M40 341 S52 M50"),
    "FairDARTS_c": ("M20 521 d40 D42 S53 350", "d21 D20 d30 331 540 543 550 S51"),
    "FairDARTS_d": ("320 521 d31 M30 d40 d41 350 D51", "M20 521 A30 D32 d43 A40 A50 S53"),
    "FairDARTS_e": ("320 321 d41 d42 d50 D51", "M21 M20 M31 M30 541 M40 A50 D51"),
    "FairDARTS_f": ("M20 321 d31 541 350 351", "M20 M21 M30 d31 d42 M40 M50 351"),
    "FairDARTS_g": ("320 321 S43 541 d50 351", "A21 S20 S32 M31 543 M40 d51 d54"),
    "DCO_SPARSE_BS_64": ("320 d21 530 d31 M40 D50", "S20 D21 530 532 543 A40 d50 D51"),
    "DCO_EDGE_BS_64": (
        "d20 320 321 d21 M30 530 d31 M40 D50",
        "520 S20 D21 S21 S30 M30 M31 331 S32 532 M40 A40 D41 341 542 S42 S43 543 "
        "M50 A50 D51 d51 S52 552 553 D53 d54 S54",
    ),
}
ALL = PAIRS | FIVE_NODES | TRIPLES
#: Which of them the four files hold, and which alias.
FILES = {
    "darts": (("NASNet", "AmoebaNet", "DARTS_V1", "DARTS_V2"), ("DARTS", "DARTS_V2")),
    "pc_darts": ((*FIVE_NODES,)[:2] + (*PAIRS,)[:4], ("PCDARTS", "PC_DARTS_cifar")),
    "drnas": ((*FIVE_NODES,)[:2] + (*PAIRS,)[:6], None),
    "fairdarts": (
        (*FIVE_NODES, "GDAS_V1", "DARTS_V2", "MdeNAS", "PC_DARTS_cifar", "PDARTS", "SNAS", *TRIPLES),
        ("DARTS", "FairDARTS_a"),
    ),
}


def cell(shorthand: str) -> tuple[list[tuple], str]:
    """The edges of a cell, and its concatenation as Python."""
    edges, _, nodes = shorthand.partition("|")
    concat = f"[{', '.join(nodes.split())}]" if nodes else "range(2, 6)"
    return [(OPERATIONS[edge[0]], *map(int, edge[1:])) for edge in edges.split()], concat


def call(name: str) -> str:
    """A genotype of :data:`ALL` as these files have it."""
    (normal, normal_concat), (reduce, reduce_concat) = map(cell, ALL[name])
    return f"Genotype(normal={normal}, normal_concat={normal_concat}, reduce={reduce}, reduce_concat={reduce_concat})"


def source(file: str) -> str:
    """A file of :data:`FILES`: imports, a named tuple, operations, comments, and the genotypes."""
    names, alias = FILES[file]
    lines = [
        "from collections import namedtuple",
        "Genotype = namedtuple('Genotype', 'normal normal_concat reduce reduce_concat')",
        f"PRIMITIVES = {list(OPERATIONS.values())[:7]}  # without 'none'",
        *(f"# {name}, as published\n{name} = {call(name)}" for name in names),
    ]
    return "\n\n".join([*lines, *([f"{alias[0]} = {alias[1]}"] if alias else [])]) + "\n"
