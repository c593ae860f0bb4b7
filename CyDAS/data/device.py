"""From main memory to the device, without waiting for it."""

import functools

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on the device. A GPU fetches it from pinned memory when it comes to it; nobody waits for the copy.

    PyTorch keeps the pinned copy for as long as the GPU may read it.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@functools.lru_cache(maxsize=64)
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """float32 numbers that are needed again and again: sent once to each device."""
    with torch.inference_mode(False):
        return send(torch.tensor(values), device)
