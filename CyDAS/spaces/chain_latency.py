"""The file that says how long every operation of the chain space takes on a machine, in milliseconds."""

import math
from pathlib import Path
from typing import Any

from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json, write_json

#: What the file calls itself.
KIND = "latency of the chain space's operations"
#: What a table holds for, beside the machine.
SHAPE = ("image_size", "input_channels", "n_classes", "c_last")


def write_latency_table(
    path: Path, layout: ChainLayout, fixed: float, blocks: dict[str, list[list[float]]], about: dict[str, Any]
) -> None:
    """``fixed``: of stem, stages 0 and 6 and head; ``blocks``: of each stage with a choice, by its number, the six
    operations as its first block and as a later one; all in milliseconds. ``about``: how that was measured.
    """
    shape = {name: getattr(layout, name) for name in SHAPE}
    write_json(path, {"kind": KIND, "unit": "ms", **shape, "fixed": fixed, "blocks": blocks, **about})


def read_latency_table(path: Path, layout: ChainLayout) -> CostTable:
    """The costs in it. Raises :class:`CydasError` for another file, and for networks of another shape."""
    what = f"latency table {path}"
    table = read_json(path, "latency table")
    if not isinstance(table, dict) or table.get("kind") != KIND:
        raise CydasError(f"{what} is none: python -m CyDAS.latency --table {path} measures one")
    differing = [name for name in SHAPE if table.get(name) != getattr(layout, name)]
    if differing:
        listed = ", ".join(f"{name} {table.get(name)}, here {getattr(layout, name)}" for name in differing)
        raise CydasError(f"{what} is of other networks: {listed}")
    try:
        rows = [_rows(table["blocks"][str(stage)]) for stage in SEARCHED]
        fixed = _milliseconds(table["fixed"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise CydasError(
            f"{what}: milliseconds of {len(OPERATIONS)} operations in stages 1 to {SEARCHED[-1]}, as a first and as a "
            "later block, are expected"
        ) from None
    return CostTable.of_blocks(fixed, rows, layout.depth, "ms")


def _rows(pair: Any) -> list[list[float]]:
    """The operations as a stage's first block, and as a later one."""
    first, later = pair
    if not len(first) == len(later) == len(OPERATIONS):
        raise ValueError
    return [[*map(_milliseconds, row)] for row in (first, later)]


def _milliseconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value >= 0):
        raise ValueError
    return float(value)
