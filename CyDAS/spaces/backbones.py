"""Backbones of architectures of every space, by the name of the space; of those and of timm's, by what a user says."""

import argparse
import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from CyDAS.models.backbone import STRIDES, Backbone
from CyDAS.models.cells.backbone import CellBackbone
from CyDAS.models.cells.layout import Layout
from CyDAS.models.nats.backbone import NatsBackbone
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.weights import Found, check_finite, find_weights, load_weights
from CyDAS.spaces.choice import SPACES, identify_architecture
from CyDAS.utils.errors import CydasError
from CyDAS.utils.present import present
from CyDAS.utils.texts import few


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
    weights = _read(path, key).weights
    load_weights(network, network.without_head(weights) if isinstance(network, Backbone) else weights, path)


def _read(path: Path, key: str | None = None) -> Found:
    with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training keeps its flags in one: plain values
        return find_weights(load_checkpoint(path), path, key)


class TimmBackbone(Backbone):
    """A model of timm whose features have strides 4, 8, 16 and 32, with timm's names. Raises :class:`CydasError` for
    one that has no such features.
    """

    def __init__(self, name: str):
        super().__init__()
        import timm

        try:
            info: Any = timm.create_model(name, features_only=True).feature_info
            indices = [info.reduction().index(stride) for stride in STRIDES]
        except (RuntimeError, AttributeError, ValueError, TypeError, AssertionError):  # each family says it differently
            raise CydasError(
                f"--backbone {name}: this model of timm has no features at strides 4, 8, 16 and 32"
            ) from None
        indices = [info.out_indices[i] for i in indices]
        network: Any = timm.create_model(name, features_only=True, out_indices=indices)
        if getattr(network, "output_fmt", "NCHW") != "NCHW":
            raise CydasError(f"--backbone {name}: this model of timm gives features with their channels last")
        self.network: nn.Module = network
        self.channels = tuple(network.feature_info.channels())

    def without_head(self, weights: dict[str, Any]) -> dict[str, Any]:
        """A classifier's weights by the names here: timm writes ``stages_0`` for ``stages.0`` where it takes features.
        What belongs to the head keeps its name.
        """
        own = {name.removeprefix("network.").replace(".", "_"): name for name in self.state_dict()}
        return {own.get(name.replace(".", "_"), name): value for name, value in weights.items()}

    def features(self, x: Tensor) -> list[Tensor]:
        return self.network(x)


#: Settings that a retrained network's checkpoint keeps and that say how large its backbone is.
_SIZES = {
    "darts": {name: name for name in ("init_channels", "stem_multiplier", "layer_num", "res_stem")},
    "nats": {"init_channels": "init_channels", "cells_per_stage": "cells"},
}


def open_backbone(name: str, checkpoint: Path | None = None, c_last: int | None = None) -> tuple[Backbone, list[str]]:
    """The backbone that ``--backbone`` names, with the weights of ``--backbone_checkpoint``; and lines for the log that
    say what was and what was not loaded.

    ``name``: of a chain network or another model of timm, or a file of an architecture. ``c_last``: channels of a chain
    network's stage 6 (default: those in the checkpoint, else the network's own). Raises :class:`CydasError`.
    """
    found = _read(checkpoint) if checkpoint else None
    backbone = build_backbone(backbone_recipe(name, found, c_last))
    if found is None:
        return backbone, [f"backbone {name}: random weights"]
    lines = _load_what_fits(backbone, found.weights, present(checkpoint))
    return backbone, [f"backbone {name}: {line}" for line in lines]


def backbone_recipe(name: str, found: Found | None = None, c_last: int | None = None) -> dict[str, Any]:
    """All that says which backbone it is, in plain values for checkpoints: neither file nor weights are needed again.

    ``found``: the weights that it is for. The rest as for :func:`open_backbone`.
    """
    import timm  # late: it takes seconds to import

    last = found.weights.get("blocks.6.0.conv.weight") if found else None
    width = {} if last is None and c_last is None else {"c_last": c_last or len(present(last))}
    if timm.is_model(name):
        return {"name": name, "model": name, "options": width if _is_own(name, "CyDAS.models.chain.") else {}}
    if not any(map(os.path.exists, (name, name.rpartition("::")[0]))):
        close = difflib.get_close_matches(name, timm.list_models(), 3)
        hint = f"; is one of these meant: {', '.join(close)}" if close else ""
        raise CydasError(f"--backbone {name}: neither a model of timm nor a file{hint}")
    space, architecture = identify_architecture(Path(name))
    if space not in _MAKERS:
        raise CydasError(f"--backbone {name}: networks of --space {space} make no backbones")
    saved: Any = found.about.get("config") if found else None
    sizes = _SIZES.get(space, {}) if isinstance(saved, dict) else {}
    options = width if space == "chain" else {own: saved[key] for key, own in sizes.items() if key in saved}
    return {"name": name, "space": space, "architecture": SPACES[space].to_strings(architecture), "options": options}


def build_backbone(recipe: dict[str, Any]) -> Backbone:
    """The backbone of a :func:`backbone_recipe`, its weights random. Raises :class:`CydasError` where there is none."""
    name, options = recipe["name"], recipe["options"]
    try:
        if "space" in recipe:
            architecture = SPACES[recipe["space"]].parse(recipe["architecture"], None, f"--backbone {name}")
            backbone = make_backbone(recipe["space"], architecture, **options)
        elif _is_own(recipe["model"]):
            import timm

            backbone = cast(Backbone, timm.create_model(recipe["model"], features_only=True, **options))
        else:
            backbone = TimmBackbone(recipe["model"])
    except ValueError as error:
        raise CydasError(f"--backbone {name}: {error}") from None
    backbone.recipe = recipe
    return backbone


def _is_own(model: str, room: str = "CyDAS.") -> bool:
    """Whether a model that timm knows by name is one of this project's; ``room``: where such a one is registered."""
    import timm

    return timm.model_entrypoint(model).__module__.startswith(room)


def _load_what_fits(backbone: Backbone, weights: dict[str, Any], path: Path) -> list[str]:
    """Load every tensor of the right name and shape; lines that say which were, and which not. Raises
    :class:`CydasError` where less than half of the backbone's are in the file, which is then another network's.
    """
    own, weights = backbone.state_dict(), backbone.without_head(weights)
    fitting = {
        name: weights[name]
        for name in own
        if name in weights and getattr(weights[name], "shape", None) == own[name].shape
    }
    missing = [name for name in own if name not in weights]
    reshaped = [name for name in own if name in weights and name not in fitting]
    surplus = [name for name in weights if name not in own]
    if 2 * len(fitting) < len(own):
        raise CydasError(
            f"checkpoint {path} is of another network: {len(fitting)} of the backbone's {len(own)} tensors are in it; "
            f"missing or of another shape: {few(missing + reshaped)}"
        )
    check_finite(fitting, f"checkpoint {path}")
    backbone.load_state_dict(own | fitting)
    lines = [f"{len(fitting)} of {len(own)} tensors from {path}"]
    for names, what in ((missing, "not in it"), (reshaped, "of another shape there"), (surplus, "in it, without use")):
        if names:
            lines.append(f"{len(names)} {what}: {few(names)}")
    return lines
