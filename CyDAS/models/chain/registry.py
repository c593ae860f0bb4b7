"""The chain networks by name in timm: importing this file puts them into its registry.

``timm.create_model("cdarts_a")`` and the other names of ``published.py`` take timm's arguments; ``"cdarts_chain"``
also takes ``architecture``, a list of operations a stage. Networks are imported when the first of them is made.
"""

from collections.abc import Callable
from typing import Any

from timm.models import PretrainedCfg, generate_default_cfgs, register_model
from torch import nn

from CyDAS.models.chain.architecture import parse_architecture
from CyDAS.models.chain.published import PUBLISHED, Published

#: The name under which any architecture of the space is made.
ANY = "cdarts_chain"


def _settings(image_size: int) -> dict[str, Any]:
    """What timm wants to know of a network's images and layers. There are no weights to be downloaded."""
    return {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, image_size, image_size),
        "pool_size": (image_size // 32, image_size // 32),
        "crop_pct": 0.875,
        "interpolation": "bicubic",
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "conv_stem",
        "classifier": "classifier",
    }


#: Where ``register_model`` looks for the settings.
_by_name: dict[str, dict[str, Any] | PretrainedCfg] = {
    name: _settings(network.image_size) for name, network in PUBLISHED.items()
}
default_cfgs = generate_default_cfgs(_by_name | {ANY: _settings(224)})


def _entry(name: str, published: Published | None) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        from CyDAS.models.chain.network import chain_network  # late: timm may just be importing this file

        architecture = published.architecture if published else parse_architecture(options.pop("architecture", None))
        c_last = options.pop("c_last", published.c_last if published else 960)
        return chain_network(architecture, c_last=c_last, variant=name, pretrained=pretrained, **options)

    create.__name__ = create.__qualname__ = name
    create.__doc__ = f"{published.architecture}. {published.says}" if published else "Any ``architecture``."
    return create


for _name in (*PUBLISHED, ANY):
    globals()[_name] = register_model(_entry(_name, PUBLISHED.get(_name)))
