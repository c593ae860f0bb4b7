"""Processes: one program, started by hand or by torchrun, on one device or many."""

import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from CyDAS.utils.errors import CydasError
from CyDAS.utils.lost import forget, meet, together


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


#: Environment variables that say which process this is, and what they say where there is no launcher.
_PLACE = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}


def start_process(device: str, timeout: float) -> Process:
    """Join the process group that torchrun describes in the environment, if any.

    ``device``: ``auto`` (a GPU where there is one), ``cpu`` or ``cuda``; ``timeout``: seconds that processes wait for
    each other. Raises :class:`CydasError` for a GPU that is not there.
    """
    use_gpu = device != "cpu" and torch.cuda.is_available()  # a process without a GPU leaves those of the host alone
    if device == "cuda" and not use_gpu:
        raise CydasError("--device cuda: no GPU is available to PyTorch here; use --device auto or cpu")
    rank, world_size, local_rank = (_number(name, default) for name, default in _PLACE.items())
    if use_gpu:
        if local_rank >= torch.cuda.device_count():
            raise CydasError(f"process {local_rank} of this host has no GPU: there are {torch.cuda.device_count()}")
        torch.cuda.set_device(local_rank)
    if world_size > 1:
        # what processes only agree on goes over gloo, so that nobody waits for a GPU's queue to hear it
        _join("cpu:gloo,cuda:nccl" if use_gpu else "gloo", rank, world_size, timedelta(seconds=timeout))
    return Process(rank, world_size, torch.device("cuda", local_rank) if use_gpu else torch.device("cpu"))


def _number(name: str, default: int | None = None) -> int:
    """What the launcher says in an environment variable."""
    text = os.environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise CydasError(f"the environment's {name} must be a number, not {text!r}: start with torchrun") from None


def _join(backend: str, rank: int, world_size: int, wait: timedelta) -> None:
    """Find the other processes. Raises :class:`CydasError` where they do not come, or their meeting place is taken."""
    try:
        store = _store(wait)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=wait)
    except (dist.DistError, RuntimeError, ValueError) as error:
        raise CydasError(
            f"process {rank} of {world_size} has not found the others within --process_timeout "
            f"{wait.total_seconds():g} s ({str(error).splitlines()[0]})"
        ) from None
    meet(store, rank, world_size)


def _store(wait: timedelta) -> dist.Store:
    """Where processes leave their addresses for each other, as torchrun's environment says.

    torchrun keeps its own store over restarts and with it the addresses of the dead, so every attempt gets its own
    part of it. Attempts are counted alike on one machine only: on several, TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 makes
    torchrun have a new store for each.
    """
    environment = os.environ
    host, port = environment.get("MASTER_ADDR", "127.0.0.1"), _number("MASTER_PORT")
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    if environment.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return dist.TCPStore(host, port, size, rank == 0, wait)
    store = dist.TCPStore(host, port, size, False, wait)
    return dist.PrefixStore(f"attempt_{environment['TORCHELASTIC_RESTART_COUNT']}", store)


def stop_process() -> None:
    """Leave the process group."""
    if dist.is_initialized():
        forget()
        dist.destroy_process_group()


def is_distributed() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


@contextmanager
def alike() -> Iterator[None]:
    """What is done in here fails in all processes where it fails in one: all raise the first one's error.

    It must not send messages itself. Raises :class:`CydasError`.
    """
    problem = None
    try:
        yield
    except CydasError as error:
        problem = str(error)
    problems = [text for text in gather(problem) if text is not None]
    if problems:
        raise CydasError(problems[0])


def all_sum(value: Tensor) -> Tensor:
    """The sum of ``value`` over all processes."""
    return _reduce(value, dist.ReduceOp.SUM)


def _reduce(value: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
    if is_distributed():
        with together():
            dist.all_reduce(value, operation)
    return value


def any_of(flag: bool) -> bool:
    """Whether ``flag`` is set in any process, in one small message between hosts; every process must call it."""
    if not is_distributed():
        return flag
    return float(all_sum(torch.tensor(float(flag)))) > 0


def least(value: Tensor) -> Tensor:
    """The smallest ``value`` of all processes."""
    return _reduce(value, dist.ReduceOp.MIN)


def is_same_everywhere(value: Tensor) -> bool:
    """Whether all processes hold the same numbers, bit for bit but for the sign of zero; each of them must call it."""
    if not is_distributed():
        return True
    largest = _reduce(torch.stack([value, -value]), dist.ReduceOp.MAX)  # the smallest is what -value's largest says
    return torch.equal(largest[0], -largest[1])


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], images: int = 1) -> None:
    """Average the gradients over all processes, in one message; each counts by the ``images`` that it is the mean of.

    All processes must have gradients for the same parameters.
    """
    if not is_distributed():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return
    flat = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_ones(1)])
    flat = all_sum(flat.mul_(images))
    _scatter(flat[:-1] / flat[-1], gradients)


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
        with together():
            dist.broadcast(flat, src=0)
        _scatter(flat, those)


def has_apex() -> bool:
    return importlib.util.find_spec("apex") is not None


Network = TypeVar("Network", bound=nn.Module)


def place(network: Network, config: Any, device: torch.device) -> Network:
    """The network on its device, as ``channels_last`` and ``sync_bn`` (several GPUs only) say."""
    network = network.to(device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if config.sync_bn and is_distributed() and device.type == "cuda":
        network = synchronised(network, config.use_apex and has_apex())
    return network


def synchronised(network: Network, by_apex: bool = False) -> Network:
    """The network with batch norms over all processes: PyTorch's, or apex's. timm's have an activation in them, which
    only timm's own conversion keeps.
    """
    if any(isinstance(m, nn.BatchNorm2d) and type(m).__module__.startswith("timm.") for m in network.modules()):
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(network)
    if by_apex:
        from apex.parallel import convert_syncbn_model

        return convert_syncbn_model(network)
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def gather(value: Any) -> list[Any]:
    """Every process's plain ``value``, in the order of their ranks; every process must call it."""
    if not is_distributed():
        return [value]
    values = [None] * dist.get_world_size()
    with together():
        dist.all_gather_object(values, value)
    return values
