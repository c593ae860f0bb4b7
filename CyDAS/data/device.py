"""From main memory to the device, without waiting for it."""

import functools
from typing import Any

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on the device. A GPU fetches it from pinned memory when it comes to it; nobody waits for the copy.

    PyTorch keeps the pinned copy for as long as the GPU may read it.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def on_device(value: Any, device: torch.device) -> Any:
    """The tensors of a batch's images or targets, in whatever lists and dicts, on the device; all else as it is."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {name: on_device(item, device) for name, item in value.items()}
    return [on_device(item, device) for item in value] if isinstance(value, list) else value


@functools.lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 numbers that are needed again and again: sent once to each device."""
    with torch.inference_mode(False):
        return send(torch.tensor(values), device)
