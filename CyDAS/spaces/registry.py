"""The networks of cells by name in timm: importing this file puts them into its registry.

``timm.create_model("cydas_cell", cell_file="genotype.json")`` makes the network of any genotype of DARTS cells,
``"cydas_nats"`` with ``arch`` that of an architecture of NATS-Bench. Each published genotype in ``CyDAS/cells`` has a
name after its file: ``dartsv2_genotype.json`` is ``cydas_dartsv2``. Those whose name ends in imagenet have the
published structure for ImageNet unless ``model_type`` says otherwise, the others that for CIFAR-10. Networks are
imported when the first of them is made.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from timm.models import PretrainedCfg, generate_default_cfgs, register_model
from torch import nn

import CyDAS
from CyDAS.config import PUBLISHED
from CyDAS.utils.normalisation import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD

#: The names under which any network of DARTS cells, and any of NATS-Bench's, is made.
CELL, NATS = "cydas_cell", "cydas_nats"
_ENDING = "_genotype.json"
#: The published genotypes, by name.
CELLS = {
    f"cydas_{file.name.removesuffix(_ENDING)}": file
    for file in sorted((Path(CyDAS.__file__).parent / "cells").glob(f"*{_ENDING}"))
}
#: What says how large a network of DARTS cells is, and how large one of NATS-Bench is unless something else is said.
_SHAPE = ("init_channels", "stem_multiplier", "layer_num", "res_stem")
_NATS_SIZES = {"init_channels": 16, "cells_per_stage": 5}


def model_type_of(name: str) -> str:
    """The macro-structure that a published genotype has unless another one is asked for."""
    return "imagenet" if name.endswith("imagenet") else "cifar"


def published_sizes(model_type: str) -> dict[str, Any]:
    """The published networks' sizes. Raises ``ValueError`` for another ``model_type``."""
    if model_type not in ("cifar", "imagenet"):
        raise ValueError(f"model_type is cifar or imagenet, not {model_type!r}")
    sizes = PUBLISHED["cifar10" if model_type == "cifar" else "imagenet"]
    return {"res_stem": False} | {name: value for name, value in sizes.items() if name != "dataset"}


def settings_of(model_type: str) -> dict[str, Any]:
    """What timm wants to know of images and layers. There are no weights to be downloaded."""
    is_cifar = model_type == "cifar"
    size = 32 if is_cifar else 224
    return {
        "url": "",
        "num_classes": 10 if is_cifar else 1000,
        "input_size": (3, size, size),
        "pool_size": (8, 8) if is_cifar else (7, 7),
        "crop_pct": 1.0 if is_cifar else 0.875,
        "interpolation": "bilinear",
        "mean": CIFAR_MEAN if is_cifar else IMAGENET_MEAN,
        "std": CIFAR_STD if is_cifar else IMAGENET_STD,
        "first_conv": "feature_extractor.0.0",
        "classifier": "fc",
    }


#: Where ``register_model`` looks for the settings.
_by_name: dict[str, dict[str, Any] | PretrainedCfg] = {name: settings_of(model_type_of(name)) for name in CELLS}
default_cfgs = generate_default_cfgs(_by_name | {CELL: settings_of("cifar"), NATS: settings_of("cifar")})


def _entry(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, model_type: str = model_type_of(name), **options: Any) -> nn.Module:
        from CyDAS.spaces.timm_networks import cell_network  # late: timm may just be importing this file

        if name in CELLS:
            options["cell_file"] = CELLS[name]
        sizes = published_sizes(model_type)
        sizes |= {part: options.pop(part) for part in _SHAPE if part in options}
        if model_type != model_type_of(name) and not options.get("pretrained_cfg"):
            options["pretrained_cfg_overlay"] = settings_of(model_type) | (options.get("pretrained_cfg_overlay") or {})
        return cell_network(sizes, variant=name, pretrained=pretrained, **options)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"The genotype in CyDAS/cells/{CELLS[name].name}." if name in CELLS else "Any ``genotype``."
    return create


def _nats_entry(pretrained: bool = False, **options: Any) -> nn.Module:
    """Any ``arch`` of NATS-Bench's topology space."""
    from CyDAS.spaces.timm_networks import nats_network  # late, as above

    sizes = _NATS_SIZES | {part: options.pop(part) for part in _NATS_SIZES if part in options}
    return nats_network(sizes, variant=NATS, pretrained=pretrained, **options)


_nats_entry.__name__ = _nats_entry.__qualname__ = NATS
for _name in (*CELLS, CELL):
    globals()[_name] = register_model(_entry(_name))
cydas_nats = register_model(_nats_entry)
