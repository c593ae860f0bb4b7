"""Architectures of the chain space: which operation each block of each stage has, and timm's strings for them.

A chain is a stem, seven stages of blocks one after the other, and a head. The first and the last stage are the same in
all of them; a block of the five between has one of six operations.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from CyDAS.utils.errors import GenotypeError

#: (kernel, expansion) of each operation; its index is 2 * (kernel in 3, 5, 7) + (expansion in 4, 6).
OPERATIONS = tuple((kernel, expansion) for kernel in (3, 5, 7) for expansion in (4, 6))
#: How a list says that a block is left out. Only later blocks can be: a stage's first one changes width or stride.
IDENTITY = -1
STAGES = 7
#: The stages whose blocks have a choice; stage 0 is depthwise-separable, stage 6 a 1x1 convolution.
SEARCHED = range(1, 6)
WIDTHS = (16, 24, 40, 80, 96, 192)  #: channels that stages 0 to 5 give out
STRIDES = (1, 2, 2, 2, 1, 2)  #: of the first block of stages 0 to 5
STEM_WIDTH = 16
#: The largest published relative has six blocks in a stage.
MAX_BLOCKS = 6
#: What the published code builds in a stage of one block, whatever the list says.
TEMPLATES = {1: 0, 2: 2, 3: 1, 4: 1, 5: 3}
#: A text longer than this is no architecture.
MAX_LENGTH = 400
FORM = "[[0], [0], [3, 3], [3, 1, 3], [3, 3, 3, 3], [3, 3, 3], [0]]"


class Architecture(NamedTuple):
    """The operations' indices, one tuple a stage, all seven stages. ``str`` is the published form.

    A search chooses among more blocks than it takes: ``slots`` says which of a stage's blocks each was there. Networks
    are alike whatever it says.
    """

    stages: tuple[tuple[int, ...], ...]
    slots: tuple[tuple[int, ...], ...] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Architecture) and self.stages == other.stages

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.stages)

    def __str__(self) -> str:
        return str([list(blocks) for blocks in self.stages])

    def slots_of(self, stage: int) -> tuple[int, ...]:
        """Each block's place in the search; where there was none, its place in the stage."""
        return self.slots[stage] if self.slots else tuple(range(len(self.stages[stage])))

    def with_gaps(self) -> str:
        """The published form with :data:`IDENTITY` where the search left a block out before one that it took."""
        return str([self._gapped(stage) for stage in range(len(self.stages))])

    def _gapped(self, stage: int) -> list[int]:
        slots = self.slots_of(stage)
        blocks = [IDENTITY] * (slots[-1] + 1)
        for slot, operation in zip(slots, self.stages[stage], strict=True):
            blocks[slot] = operation
        return blocks

    @property
    def blocks(self) -> int:
        """Blocks in stages 0 to 5: what the papers count."""
        return sum(len(blocks) for blocks in self.stages[:-1])


def parse_architecture(value: Any) -> Architecture:
    """Read lists of operation indices, one a stage, as text or as plain values; blocks that are identities go.

    Raises :class:`GenotypeError` naming the stage and the block that are wrong.
    """
    if isinstance(value, Architecture):
        return value
    if isinstance(value, str):
        value = _from_text(value)
    if not isinstance(value, list | tuple):
        raise GenotypeError(f"a list of {STAGES} stages like {FORM} is expected, not {str(value)[:60]!r}")
    if len(value) != STAGES:
        raise GenotypeError(f"{STAGES} stages are expected, [0], five with a choice and [0], not {len(value)}")
    return without_gaps([_read_stage(stage, blocks) for stage, blocks in enumerate(value)])


def without_gaps(stages: Sequence[Sequence[int]]) -> Architecture:
    """The architecture of stages whose blocks may be identities, which go; the others keep in mind where they were."""
    taken = [[(slot, op) for slot, op in enumerate(blocks) if op != IDENTITY] for blocks in stages]
    slots, operations = (tuple(tuple(pair[part] for pair in blocks) for blocks in taken) for part in (0, 1))
    return Architecture(operations, slots)


def _from_text(text: str) -> Any:
    if len(text) > MAX_LENGTH:
        raise GenotypeError(f"{len(text)} characters are too many for an architecture like {FORM}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise GenotypeError(f"an architecture is written like {FORM}, not {text[:60]!r}") from None


def _read_stage(stage: int, blocks: Any) -> tuple[int, ...]:
    if not isinstance(blocks, list | tuple):
        raise GenotypeError(f"stage {stage}: a list of operations is expected, not {str(blocks)[:60]!r}")
    if not blocks:
        raise GenotypeError(f"stage {stage} is empty: it needs at least one block")
    if stage not in SEARCHED:
        if list(blocks) != [0] or type(blocks[0]) is not int:
            raise GenotypeError(f"stage {stage} has no choice: it is [0], not {str(list(blocks))[:60]}")
        return (0,)
    if len(blocks) > MAX_BLOCKS:
        raise GenotypeError(f"stage {stage} has {len(blocks)} blocks; a stage has at most {MAX_BLOCKS}")
    for block, operation in enumerate(blocks):
        _check_operation(stage, block, operation)
    return tuple(blocks)


def _check_operation(stage: int, block: int, operation: Any) -> None:
    if type(operation) is not int or not IDENTITY <= operation < len(OPERATIONS):
        raise GenotypeError(
            f"stage {stage}, block {block}: {str(operation)[:40]} is no operation; there are 0 to "
            f"{len(OPERATIONS) - 1}, and {IDENTITY} for a block left out"
        )
    if operation == IDENTITY and block == 0:
        raise GenotypeError(f"stage {stage}, block 0: a stage's first block cannot be an identity ({IDENTITY})")


def operation_name(operation: int) -> str:
    """``k5_e6`` and the like."""
    kernel, expansion = OPERATIONS[operation]
    return f"k{kernel}_e{expansion}"


def as_published(architecture: Architecture) -> Architecture:
    """What the published code builds of a list: a stage with ONE block ignores its index and keeps its template."""
    return Architecture(
        tuple(
            (TEMPLATES[stage],) if stage in TEMPLATES and len(blocks) == 1 else blocks
            for stage, blocks in enumerate(architecture.stages)
        )
    )


def block_string(stage: int, operation: int, first: bool) -> str:
    """timm's string of one block: of stage 0, or of ``operation`` in one of the stages with a choice."""
    stride, width = STRIDES[stage] if first else 1, WIDTHS[stage]
    if stage == 0:
        return f"ds_r1_k3_s{stride}_e1_c{width}_se0.25"
    kernel, expansion = OPERATIONS[operation]
    return f"ir_r1_k{kernel}_s{stride}_e{expansion}_c{width}_se0.25"


def block_strings(architecture: Architecture, c_last: int) -> list[list[str]]:
    """timm's strings of all stages, as its builder decodes them. ``c_last``: channels of stage 6."""
    stages = [
        [block_string(stage, operation, first=block == 0) for block, operation in enumerate(blocks)]
        for stage, blocks in enumerate(architecture.stages[:-1])
    ]
    return [*stages, [f"cn_r1_k1_s1_c{c_last}"]]
