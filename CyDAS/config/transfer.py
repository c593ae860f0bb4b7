"""The flags of the programs that put a network to another use: a detector's or a segmenter's backbone."""

from dataclasses import dataclass
from pathlib import Path

from CyDAS.utils.flags import flag


@dataclass
class BackboneFlags:
    """Which network gives the features, and where its weights come from."""

    backbone: str = flag(
        "cdarts_b",
        "network without its head: a name of the chain networks or of any timm model with features at strides 4, 8, 16 "
        "and 32, or a file with an architecture or genotype, FILE or FILE::NAME",
        of_network=True,
    )
    backbone_checkpoint: Path | None = flag(
        None, "weights of the backbone: a checkpoint of retrain.py or a published state dict (default: random ones)"
    )
