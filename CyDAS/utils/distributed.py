"""Processes: one program, started by hand or by torchrun, on one device or many."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from CyDAS.utils.errors import CydasError


@dataclass(frozen=True)
class Process:
    """This process among all of the run's, and its device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files and the log."""
        return self.rank == 0


def start_process(device: str) -> Process:
    """Join the process group that torchrun describes in the environment, if any.

    ``device``: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``. Raises :class:`CydasError` for a GPU that is
    not there.
    """
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise CydasError("--device cuda: no GPU is available to PyTorch here; use --device auto or cpu")
    use_gpu = has_gpu and device != "cpu"
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    if use_gpu:
        if local_rank >= torch.cuda.device_count():
            raise CydasError(f"process {local_rank} of this host has no GPU: there are {torch.cuda.device_count()}")
        torch.cuda.set_device(local_rank)
    if world_size > 1:
        dist.init_process_group("nccl" if use_gpu else "gloo")
    return Process(rank, world_size, torch.device("cuda", local_rank) if use_gpu else torch.device("cpu"))


def stop_process() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_distributed() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


def all_sum(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes."""
    if is_distributed():
        dist.all_reduce(value)
    return value


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over all processes, in one message.

    All processes must have gradients for the same parameters.
    """
    if not is_distributed():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def copy_from_main(module: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers."""
    if is_distributed():
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.data, src=0)


def place(network: nn.Module, config: Any, device: torch.device) -> nn.Module:
    """The network on its device, as ``channels_last`` and ``sync_bn`` (several GPUs only) say."""
    network = network.to(device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.sync_bn and is_distributed() and device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def gather(value: Any) -> list[Any]:
    """Every process's plain ``value``, in the order of their ranks; every process must call it."""
    if not is_distributed():
        return [value]
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values
