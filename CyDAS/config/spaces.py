"""The flags of each search space, and of no other: what its networks are, its search, its retraining."""

from dataclasses import dataclass, fields
from pathlib import Path

from CyDAS.utils.flags import flag


@dataclass
class DartsFlags:
    """Cells of DARTS, in every program."""

    model_type: str | None = flag(
        None, "macro-structure of darts (default: imagenet for 224-pixel images, else cifar)", ("cifar", "imagenet"),
        of_network=True,
    )  # fmt: skip
    stem_multiplier: int = flag(3, "stem channels per init channel (darts)", of_network=True)
    res_stem: bool = flag(
        False, "ResNet stem, reductions at the start of a stage (model_type imagenet)", of_network=True
    )


@dataclass
class DartsSearchFlags:
    """Cells of DARTS, in a search."""

    use_beta: bool = flag(False, "weigh a node's edges with parameters of their own")
    repeat_cell: bool = flag(False, "one pair of cells for all stages")


@dataclass
class DartsRetrainFlags:
    """Cells of DARTS, in a retraining."""

    drop_path_prob: float = flag(
        0.3, "drop path at the end (CIFAR: 0.2 for networks below 3 M parameters, unless given)", at_least=0, below=1
    )


@dataclass
class NatsFlags:
    """NATS-Bench's topology space, in every program."""

    cells_per_stage: int = flag(5, "cells of a stage of the nats networks", at_least=1, of_network=True)


@dataclass
class NatsSearchFlags:
    """NATS-Bench's topology space, in a search."""

    evaluation_cells: int | None = flag(
        None, "cells of a stage of the evaluation network, as the benchmark's 5 (default: --cells_per_stage)",
        at_least=1,
    )  # fmt: skip
    finalist_cells: int | None = flag(
        None, "cells of a stage of the networks of --finalists (default: those of the evaluation network; the "
        "benchmark has 5)", at_least=1,
    )  # fmt: skip
    nats_table: Path | None = flag(
        None, "table of NATS-Bench accuracies: those of the current cell go to the log, never into a decision"
    )


@dataclass
class ChainFlags:
    """Chains of inverted residual blocks, in every program."""

    c_last: int = flag(
        960, "channels of a chain's last stage (320 in the segmentation's and in Cream's)", of_network=True, at_least=1
    )


@dataclass
class ChainSearchFlags:
    """Chains, in a search."""

    blocks_per_stage: int = flag(4, "most blocks that a stage of a found chain can have", at_least=1, at_most=6)
    target_flops: str | None = flag(
        None, "what the found chain shall cost, multiply-accumulates of an image of this size: 294M, 0.3G, 294000000"
    )
    target_flops_published: str | None = flag(
        None, "the same in the accounting of the published tables, which also counts batch norms and poolings"
    )
    target_latency: float | None = flag(None, "the same in milliseconds, as --latency_table has them", above=0)
    latency_table: Path | None = flag(None, "milliseconds of every operation, as CyDAS.latency measures them")
    target_tolerance: float = flag(
        0.02, "share of its target that a chain may cost more or less", at_least=1e-4, below=1
    )


@dataclass
class ChainRetrainFlags:
    """Chains, in a retraining."""

    drop_rate: float = flag(0.2, "dropout before a chain's last layer", at_least=0, below=1)
    drop_path_rate: float = flag(
        0.0, "drop path of a chain's last block, growing to it with the depth", at_least=0, below=1
    )


#: What each space declares; an extension may add spaces.
FLAGS: dict[str, tuple[type, ...]] = {
    "darts": (DartsFlags, DartsSearchFlags, DartsRetrainFlags),
    "nats": (NatsFlags, NatsSearchFlags),
    "chain": (ChainFlags, ChainSearchFlags, ChainRetrainFlags),
}


def flags_of(space: str) -> set[str]:
    """The names of a space's own flags."""
    return {item.name for kind in FLAGS[space] for item in fields(kind)}


def foreign_flags(space: str) -> set[str]:
    """Flags of the other spaces alone: they mean nothing in this one."""
    return set().union(*map(flags_of, FLAGS)) - flags_of(space)
