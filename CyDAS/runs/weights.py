"""Weights of a checkpoint: where in the file they are, what their names mean, and whether they are numbers at all."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from CyDAS.utils.errors import CydasError

#: Names under which programs put weights: those of the network itself, and running means of them.
PLAIN = (
    "model_main", "state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights",
    "model_state", "net_state_dict", "checkpoint",
)  # fmt: skip
AVERAGED = (
    "ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "model_ema_state_dict", "params_ema",
)  # fmt: skip
#: Parts of names that PyTorch's own wrappers put in, anywhere: parallel, compiled, sharded and checkpointed modules.
WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
#: How many names deep weights may be.
DEPTH = 4


#: Where checkpoints of CyDAS hold the plain weights of cells, segmenters and detectors, as published, and the mean of
#: the weights of a training with one, as timm does.
PLAIN_KEY, AVERAGED_KEY = "model_main", "state_dict_ema"


def averaged_key(content: dict[str, Any]) -> str | None:
    """Where a checkpoint of CyDAS has averaged weights, whose results its training reports; None where it has none."""
    is_ours = isinstance(content.get("config"), dict) and ("genotype" in content or "backbone" in content)
    return AVERAGED_KEY if is_ours and AVERAGED_KEY in content else None


class Found(NamedTuple):
    """The weights in a checkpoint."""

    weights: dict[str, Tensor]
    where: str  #: the names that lead to them, with dots; empty for a bare state dict
    others: list[str]  #: names under which the file holds further weights
    about: dict[str, Any]  #: what else stands on the way to them: genotype, settings


def find_weights(content: dict[str, Any], path: Path, key: str | None = None) -> Found:
    """The weights in a checkpoint of this or another program: those under ``key``, else the plain, else the averaged.

    Raises :class:`CydasError` that says what the file holds instead.
    """
    if isinstance(content.get("search"), dict):
        raise CydasError(
            f"checkpoint {path} is where a search goes on from (search.py --resume); a test needs a trained network: "
            "retrain.py --name NAME trains what the search found"
        )
    all_there = list(_state_dicts(content, ()))
    found = all_there
    if key is not None:
        inner = content.get(key)
        if not isinstance(inner, dict):
            raise CydasError(f"checkpoint {path}: there are no weights under --weights_key {key}; {_listed(content)}")
        found = list(_state_dicts(inner, (key,)))
    if not found:
        raise CydasError(f"checkpoint {path} holds no weights that are known here; {_listed(content)}")
    (names, weights), *_ = found
    others = [other for other, _ in [*found, *all_there] if other != names]
    about: dict[str, Any] = {}
    level = content
    for name in names:
        about |= level
        level = level[name]
    return Found(clean_names(weights, path), ".".join(names), list(dict.fromkeys(map(".".join, others))), about)


def _state_dicts(content: dict[Any, Any], names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
    """The state dicts in a checkpoint, the plain ones first, each behind the names that lead to it."""
    if _is_state_dict(content):
        yield names, content
    elif len(names) < DEPTH:
        for name in (*PLAIN, *AVERAGED):
            if isinstance(content.get(name), dict):
                yield from _state_dicts(content[name], (*names, name))


def _is_state_dict(value: dict[Any, Any]) -> bool:
    """Whether these are named tensors of modules. A wrapper may hold tensors as well, but not under dotted names."""
    return any(isinstance(tensor, Tensor) and "." in str(name) for name, tensor in value.items())


def _listed(content: dict[str, Any]) -> str:
    names = [str(name) for name in content]
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"the file's top-level keys are {', '.join(names[:10]) or 'none'}{more}"


def clean_names(weights: dict[Any, Any], source: Path) -> dict[str, Any]:
    """The weights without what wrappers have put into their names.

    A first part that all names share is a wrapper's as well: a network has several parts. Raises :class:`CydasError`
    where two names become one.
    """
    cleaned: dict[str, Any] = {}
    for name, value in weights.items():
        name = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
        if name == "n_averaged":  # torch.optim.swa_utils counts its updates beside the weights
            continue
        if name in cleaned:
            raise CydasError(f"checkpoint {source} holds {name} twice, with and without a wrapper's name")
        cleaned[name] = value
    while cleaned and all("." in name for name in cleaned) and len({name.split(".")[0] for name in cleaned}) == 1:
        cleaned = {name.split(".", 1)[1]: value for name, value in cleaned.items()}
    return cleaned


def load_weights(module: nn.Module, weights: dict[Any, Any], source: Path) -> None:
    """Load a state dict that must fit exactly, but for counters of batches that older PyTorch does not know.

    Raises :class:`CydasError` naming the first difference, or the first tensor that is not finite.
    """
    own = module.state_dict()
    weights = clean_names(weights, source)
    counters = {key: own[key] for key in own if key.endswith("num_batches_tracked") and key not in weights}
    weights |= counters
    for key in [*own, *(key for key in weights if key not in own)]:
        problem = None
        if key not in weights:
            problem = f"{key} is missing"
        elif key not in own:
            problem = f"{key} has no place in this network"
        elif not isinstance(weights[key], Tensor) or weights[key].shape != own[key].shape:
            problem = f"{key} is {tuple(getattr(weights[key], 'shape', ()))}, here {tuple(own[key].shape)}"
        elif own[key].is_floating_point() != weights[key].is_floating_point():
            problem = f"{key} holds {weights[key].dtype}, here {own[key].dtype}"
        if problem:
            raise CydasError(f"checkpoint {source} is of another architecture or size: {problem}")
    check_finite(weights, f"checkpoint {source}")
    module.load_state_dict(weights)


def named_tensors(value: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """The tensors in nested dicts and lists, each with the keys that lead to it."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from named_tensors(item, f"{name}.{key}" if name else str(key))


def check_finite(values: Any, source: str) -> None:
    """Raise :class:`CydasError` naming ``source`` and the first tensor in ``values`` with a NaN or an infinity.

    So it does for a running variance below 0, of which batch norm takes the root.
    """
    for name, tensor in named_tensors(values):
        if not tensor.is_floating_point():
            continue
        bad = int((~torch.isfinite(tensor.float())).sum())
        if bad:
            raise CydasError(f"{source}: {bad} of the {tensor.numel()} values of {name} are not finite")
        if name.endswith("running_var") and (tensor < 0).any():
            raise CydasError(f"{source}: {name}, a variance, has values below 0")
