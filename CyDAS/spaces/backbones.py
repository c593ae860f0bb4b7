"""Backbones of architectures of every space, by the name of the space."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from CyDAS.models.backbone import Backbone
from CyDAS.models.cells.backbone import CellBackbone
from CyDAS.models.cells.layout import Layout
from CyDAS.models.nats.backbone import NatsBackbone
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.weights import find_weights, load_weights


def make_backbone(space: str, architecture: Any, **options: Any) -> Backbone:
    """The backbone of an architecture of ``darts``, ``nats`` or ``chain``, freshly initialised.

    ``options``: for ``darts`` those of :class:`Layout` (48 channels unless given, as published for ImageNet), for
    ``nats`` those of :class:`NatsBackbone`, for ``chain`` those of ``chain_network``. Raises ``KeyError`` for another
    space and ``ValueError`` for options that reach no stride of 32.
    """
    return _MAKERS[space](architecture, **options)


def _cells(architecture: Any, **options: Any) -> CellBackbone:
    stages = {"layer_num": len(architecture), "image_size": 224, "init_channels": 48, "stem_multiplier": 1}
    return CellBackbone(Layout("imagenet", **{**stages, **options}), architecture)


def _chain(architecture: Any, **options: Any) -> Backbone:
    from CyDAS.models.chain.network import chain_network  # late: timm takes seconds to import

    return chain_network(architecture, features_only=True, **options)


_MAKERS: dict[str, Callable[..., Backbone]] = {"darts": _cells, "nats": NatsBackbone, "chain": _chain}


def load_pretrained(network: nn.Module, path: Path, key: str | None = None) -> None:
    """Load a checkpoint of this or another program into a found network or a backbone.

    ``key``: under which name of the file (``state_dict_ema``, say); else the plain weights are taken before averaged
    ones. A classifier's head is left out for a backbone. Raises :class:`CydasError` for what does not fit or cannot be
    read; nothing in the file is run.
    """
    with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training keeps its flags in one: plain values
        content = load_checkpoint(path)
    weights = find_weights(content, path, key).weights
    load_weights(network, network.without_head(weights) if isinstance(network, Backbone) else weights, path)
