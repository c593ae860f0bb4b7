"""Processes: one program, started by hand or by torchrun, on one device or many."""

import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
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


def start_process(device: str, timeout: float) -> Process:
    """Join the process group that torchrun describes in the environment, if any.

    ``device``: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``; ``timeout``: seconds that processes wait for
    each other. Raises :class:`CydasError` for a GPU that is not there.
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
        wait = timedelta(seconds=timeout)
        dist.init_process_group(
            "nccl" if use_gpu else "gloo", store=_store(wait), rank=rank, world_size=world_size, timeout=wait
        )
    return Process(rank, world_size, torch.device("cuda", local_rank) if use_gpu else torch.device("cpu"))


def _store(wait: timedelta) -> dist.Store:
    """Where processes leave their addresses for each other, as torchrun's environment says.

    torchrun keeps its own store over restarts and with it the addresses of the dead, so every attempt gets its own
    part of it. Attempts are counted alike on one machine only: on several, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes
    torchrun have a new store for each.
    """
    environment = os.environ
    host, port, size = environment["MASTER_ADDR"], int(environment["MASTER_PORT"]), int(environment["WORLD_SIZE"])
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return dist.TCPStore(host, port, size, environment["RANK"] == "0", wait)
    store = dist.TCPStore(host, port, size, False, wait)
    return dist.PrefixStore(f"attempt_{environment['TORCHELASTIC_RESTART_COUNT']}", store)


def stop_process() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_distributed() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


@contextmanager
def _together() -> Iterator[None]:
    """A message between processes. Raises :class:`CydasError` where another process has gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # gloo raises at once; NCCL's own watchdog ends the process after the time-out
        reason = str(error).splitlines()[0]
        raise CydasError(
            f"process {dist.get_rank()} has lost another process of this run, which has ended or does not answer "
            f"({reason}). Go on with --resume; torchrun --max-restarts N does so by itself"
        ) from None


def all_sum(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes."""
    return _reduce(value, dist.ReduceOp.SUM)


def _reduce(value: Tensor, operation: dist.ReduceOp) -> Tensor:
    if is_distributed():
        with _together():
            dist.all_reduce(value, operation)
    return value


def is_same_everywhere(value: Tensor) -> bool:
    """Whether all processes hold the same numbers, bit for bit but for the sign of zero; each of them must call it."""
    if not is_distributed():
        return True
    largest = _reduce(torch.stack([value, -value]), dist.ReduceOp.MAX)  # the smallest is what -value's largest says
    return torch.equal(largest[0], -largest[1])


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Average the gradients over all processes, in one message.

    All processes must have gradients for the same parameters.
    """
    if not is_distributed():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = all_sum(torch.cat([g.flatten() for g in gradients]))
    flat /= dist.get_world_size()
    _scatter(flat, gradients)


def _scatter(flat: Tensor, tensors: list[Tensor]) -> None:
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


@torch.no_grad()
def copy_from_main(module: nn.Module) -> None:
    """Give every process rank 0's parameters and buffers, in one message for each type of number."""
    if not is_distributed():
        return
    tensors = [tensor.data for tensor in [*module.parameters(), *module.buffers()]]
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        those = [tensor for tensor in tensors if tensor.dtype == dtype]
        flat = torch.cat([tensor.flatten() for tensor in those])
        with _together():
            dist.broadcast(flat, src=0)
        _scatter(flat, those)


def has_apex() -> bool:
    return importlib.util.find_spec("apex") is not None


def place(network: nn.Module, config: Any, device: torch.device) -> nn.Module:
    """The network on its device, as ``channels_last`` and ``sync_bn`` (several GPUs only) say."""
    network = network.to(device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.sync_bn and is_distributed() and device.type == "cuda":
        if config.use_apex and has_apex():
            from apex.parallel import convert_syncbn_model

            return convert_syncbn_model(network)
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return network


def gather(value: Any) -> list[Any]:
    """Every process's plain ``value``, in the order of their ranks; every process must call it."""
    if not is_distributed():
        return [value]
    values = [None] * dist.get_world_size()
    with _together():
        dist.all_gather_object(values, value)
    return values
