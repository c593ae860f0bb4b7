"""Networks of cells for timm: from its arguments to a classifier or, with ``features_only``, to a backbone."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from timm.models._builder import build_model_with_cfg
from timm.models._features import FeatureInfo
from torch import Tensor, nn

from CyDAS.models.backbone import Backbone
from CyDAS.models.cells.classifier import CellClassifier
from CyDAS.models.cells.layout import Layout
from CyDAS.models.classifier import Classifier
from CyDAS.models.nats.classifier import NatsClassifier
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.runs.weights import PLAIN_KEY
from CyDAS.spaces.backbones import make_backbone
from CyDAS.spaces.choice import SPACES, load_architecture

#: Arguments of classifiers that mean nothing to a backbone. (timm's annotation knows a tuple of one only.)
_CLASSIFIER_ONLY: Any = ("num_classes", "global_pool", "drop_rate", "drop_path_rate")
#: Divisible by the strides of all stems, and large enough for any number of stages, if multiplied by their strides: the
#: size of images decides about nothing but the auxiliary head, which is not there.
_SOME_SIZE = 24


def cell_network(
    sizes: dict[str, Any], *, cell_file: str | Path | None = None, genotype: Any = None, **options: Any
) -> nn.Module:
    """The network of a genotype of DARTS cells. ``sizes``: model_type, init_channels, stem_multiplier, layer_num and
    res_stem, as :class:`Layout` has them; ``options``: timm's.

    The genotype stands in ``cell_file``, FILE or FILE::NAME, or is given in any form that such a file may hold. Raises
    :class:`CydasError` for a wrong one, ``ValueError`` where there is none, or for impossible sizes.
    """
    if (cell_file is None) == (genotype is None):
        raise ValueError("a network of cells needs one of cell_file='FILE' and genotype='Genotype(...)'")
    stages = sizes["layer_num"]
    if cell_file is not None:
        architecture = load_architecture(Path(cell_file), stages)
    else:
        architecture = SPACES["darts"].parse(genotype, stages, "genotype")
    return _build(_cells, "darts", architecture, sizes, {"model_type"}, **options)


def nats_network(sizes: dict[str, Any], *, arch: Any = None, **options: Any) -> nn.Module:
    """The benchmark's network of an architecture of NATS-Bench, in any form that the field writes. ``sizes``:
    init_channels and cells_per_stage. Raises :class:`CydasError` for a wrong one, ``ValueError`` for impossible sizes.
    """
    if arch is None:
        raise ValueError("a network of NATS-Bench needs arch='|nor_conv_3x3~0|+...'")
    return _build(_nats, "nats", SPACES["nats"].parse(arch, None, "arch"), sizes, set(), **options)


def _build(
    make: Callable[..., nn.Module], space: str, architecture: Any, sizes: dict[str, Any], not_of_backbones: set[str],
    *, features_only: bool = False, variant: str, pretrained: bool, **options: Any,
) -> nn.Module:  # fmt: skip
    if features_only:
        if sizes.get("model_type", "imagenet") != "imagenet":
            raise ValueError("features at strides 4, 8, 16 and 32 are those of model_type='imagenet'")
        own = {name: value for name, value in sizes.items() if name not in not_of_backbones}
        make = partial(_backbone, space, architecture, own)
    else:
        make = partial(make, architecture, sizes)
    network = build_model_with_cfg(
        make, variant, pretrained, pretrained_strict=not features_only,
        kwargs_filter=_CLASSIFIER_ONLY if features_only else None, **options,
    )  # fmt: skip
    network.register_load_state_dict_pre_hook(_read_checkpoint)
    return network


def _cells(
    architecture: Any, sizes: dict[str, Any], *, num_classes: int = 1000, in_chans: int = 3, global_pool: str = "avg",
    drop_rate: float = 0.0, drop_path_rate: float = 0.0,
) -> CellClassifier:  # fmt: skip
    layout = Layout(
        **sizes,
        n_classes=num_classes or 1,
        input_channels=in_chans,
        image_size=_SOME_SIZE * 2 ** (sizes["layer_num"] - 1),
    )
    network = CellClassifier(layout, architecture, auxiliary=False)
    return _completed(network, num_classes, in_chans, global_pool, drop_rate, drop_path_rate)


def _nats(
    architecture: Any, sizes: dict[str, Any], *, num_classes: int = 10, in_chans: int = 3, global_pool: str = "avg",
    drop_rate: float = 0.0, drop_path_rate: float = 0.0,
) -> NatsClassifier:  # fmt: skip
    network = NatsClassifier(NatsLayout(**sizes, n_classes=num_classes or 1, input_channels=in_chans), architecture)
    return _completed(network, num_classes, in_chans, global_pool, drop_rate, drop_path_rate)


def _completed(network: Any, num_classes: int, in_chans: int, global_pool: str, *rates: float) -> Any:
    network.adopt(in_chans, *rates)
    if num_classes == 0 or global_pool != "avg":
        network.reset_classifier(num_classes, global_pool)
    return network


def _backbone(space: str, architecture: Any, sizes: dict[str, Any], *, in_chans: int = 3, **timms: Any) -> Backbone:
    if space == "nats":
        sizes = {"init_channels": sizes["init_channels"], "cells": sizes["cells_per_stage"]}
    network: Any = make_backbone(space, architecture, input_channels=in_chans, **sizes)
    pairs = zip(network.channels, network.strides, strict=True)
    info = [{"num_chs": channels, "reduction": stride, "module": ""} for channels, stride in pairs]
    network.feature_info = FeatureInfo(info, tuple(range(len(info))))
    network.in_chans = in_chans
    return network


def _read_checkpoint(module: Backbone | Classifier, weights: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Take a checkpoint of ``retrain.py`` for the weights in it, as timm hands it on whole, and leave out what has no
    place here. timm itself finds averaged weights, and takes them unless it is told not to.
    """
    if isinstance(weights.get(PLAIN_KEY), dict):
        plain = weights[PLAIN_KEY]
        weights.clear()
        weights.update(plain)
    for name in [name for name in weights if name.startswith(tuple(prefix + part for part in module.head_parts))]:
        del weights[name]
