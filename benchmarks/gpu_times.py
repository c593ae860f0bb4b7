"""The parts of ``gpu.py`` that measure: what the device can do at most, and how long each kind of step takes in each of
the ways that flags offer, beside the plain implementation of ``plain.py``.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks import chain_speed, plain, speed
from CyDAS.engine.graphs import WARM_UP
from CyDAS.engine.optim import Precision, make_optimiser, update
from CyDAS.models.chain.network import chain_network
from CyDAS.models.chain.published import PUBLISHED
from CyDAS.tasks.classification import classification_loss, retrain_loss

#: Steps of the published search on CIFAR-10 (scripts/run_search_cifar_1gpu.sh): 391 an epoch, 2 rounds of the search
#: network alone, then 30 cycles of one epoch of the evaluation network alone and one of joint learning.
EPOCH, ROUNDS, CYCLES = 391, 2, 30


@dataclass(frozen=True)
class Mode:
    """One way of computing, in the words of the programs' flags."""

    name: str
    side: str = "cydas"
    channels_last: bool = False
    tf32: bool = False
    bf16: bool = False
    flags: dict[str, Any] = field(default_factory=dict)  #: of a search
    compile: str = ""  #: torch.compile's mode, of a found network

    @property
    def memory(self) -> str:
        """The side whose memory format ``speed.py`` gives."""
        return "channels_last" if self.channels_last else "plain"


EAGER = (
    Mode("plain", side="plain"), Mode("eager"), Mode("tf32", tf32=True),
    Mode("bf16, channels_last", bf16=True, channels_last=True),
)  # fmt: skip
GRAPHS = (
    Mode("cuda_graphs", flags={"cuda_graphs": True}),
    Mode("cuda_graphs, tf32", tf32=True, flags={"cuda_graphs": True}),
    Mode("cuda_graphs, bf16, channels_last", bf16=True, channels_last=True, flags={"cuda_graphs": True}),
)
COMPILED = (Mode("compile", compile="default"), Mode("compile, CUDA graphs", compile="reduce-overhead"))

Step = Callable[[], object]

#: Measurements of this process that have ended, and who is told of all after every mode, should the part not end.
so_far: dict[str, Any] = {}


def note(figures: dict[str, Any]) -> None: ...


def seconds(step: Step, device: torch.device, quick: bool, warm_up: int = WARM_UP + 1) -> float:
    """Median of several steps; by device events on a GPU, so that nobody waits between two steps."""
    for _ in range(1 if quick else warm_up):
        step()
    repeats = 2 if quick else 6
    if device.type != "cuda":
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            step()
            times.append(time.perf_counter() - start)
        return statistics.median(times)
    events = [torch.cuda.Event(enable_timing=True) for _ in range(repeats + 1)]
    events[0].record()
    for event in events[1:]:
        step()
        event.record()
    torch.cuda.synchronize()
    return statistics.median(a.elapsed_time(b) for a, b in zip(events, events[1:], strict=False)) / 1000


def ceilings(device: torch.device, quick: bool) -> dict[str, Any]:
    """Bytes a second of a large copy, read and written, and operations a second of a large matrix product."""
    size, found = (2**20 if quick else 2**28), {}
    source, target = torch.randn(size, device=device), torch.empty(size, device=device)
    taken = seconds(lambda: target.copy_(source), device, quick)
    found["copy, GB/s"] = round(2 * 4 * size / taken / 1e9, 1)
    n = 256 if quick else 8192
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"), ("tf32", torch.float32, "high"), ("bf16", torch.bfloat16, "highest"),
    ):  # fmt: skip
        torch.set_float32_matmul_precision(precision)
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        found[f"matrix product in {name}, TFLOP/s"] = round(
            2 * n**3 / seconds(partial(torch.mm, a, b), device, quick) / 1e12, 2
        )
    torch.set_float32_matmul_precision("highest")
    return found


def _measure(build: Callable[[Mode], Step], modes: tuple[Mode, ...], images: int, device, quick) -> dict[str, Any]:
    """Each mode's images a second, and how many times as fast as the first it is; one that fails hides no other."""
    found: dict[str, Any] = {}
    first_seconds = None
    for mode in modes:
        torch.backends.cudnn.benchmark = device.type == "cuda"
        torch.backends.cudnn.allow_tf32 = mode.tf32
        torch.set_float32_matmul_precision("high" if mode.tf32 else "highest")
        try:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            taken = seconds(build(mode), device, quick)
        except Exception as error:
            found[mode.name] = {"error": f"{type(error).__name__}: {str(error).splitlines()[:1]}"}
            continue
        first_seconds = first_seconds or taken
        found[mode.name] = {"ms": round(taken * 1e3, 2), "images_per_second": round(images / taken, 1)}
        found[mode.name]["times_first"] = round(first_seconds / taken, 2)
        if device.type == "cuda":
            found[mode.name]["peak_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
            torch.cuda.empty_cache()
        note(so_far | {"unfinished": found})
    torch.set_float32_matmul_precision("highest")
    so_far[str(len(so_far) + 1)] = found
    return found


def _search_step(kind: str, nats: bool, channels: int, size: int, device: torch.device, mode: Mode) -> Step:
    side = mode.memory if mode.side == "plain" else "cydas"
    flags = mode.flags if device.type == "cuda" else {}
    engine = speed.make_search(side, channels, nats, device, use_amp=mode.bf16, **flags)
    if mode.channels_last:
        engine.joint.to(memory_format=torch.channels_last)
    x, y = speed.batch(size, mode.memory, device)
    if kind == "joint":
        step = partial(engine._joint_step, [(x, y), (x, y)], 2)
    elif kind == "warm-up":
        step = partial(engine._guarded, "train", engine.train_update, (x, y))
    else:
        step = partial(engine._guarded, "warm-up", engine.evaluation_update, (x, y))
    return lambda: engine.averages.add(step(), size)


def search(device: torch.device, quick: bool) -> dict[str, Any]:
    """Every kind of step of the published search on CIFAR-10 (16 channels, batch 64), and how long it is by them."""
    channels, size = (4, 2) if quick else (16, 64)
    modes = (EAGER[0], EAGER[1]) if quick else EAGER + GRAPHS
    kinds = ("warm-up",) if quick else ("warm-up", "evaluation", "joint")
    found = {
        kind: _measure(
            partial(_search_step, kind, quick, channels, size, device), modes, size * (1 + (kind == "joint")), device,
            quick,
        )
        for kind in kinds
    }  # fmt: skip
    if not quick:
        found["minutes of the published search, steps alone"] = {
            mode.name: round(_whole_search({kind: found[kind][mode.name]["ms"] for kind in kinds}), 1)
            for mode in modes
            if all("ms" in found[kind][mode.name] for kind in kinds)
        }
    return found


def _whole_search(ms: dict[str, float]) -> float:
    return EPOCH * (ROUNDS * ms["warm-up"] + CYCLES * (ms["evaluation"] + ms["joint"])) / 60e3


def nats(device: torch.device, quick: bool) -> dict[str, Any]:
    """A joint step on NATS-Bench's cells (16 channels, batch 64)."""
    channels, size = (4, 4) if quick else (16, 64)
    modes = (EAGER[0], EAGER[1], GRAPHS[0]) if quick else EAGER + GRAPHS
    build = partial(_search_step, "joint", True, channels, size, device)
    return _measure(build, modes, 2 * size, device, quick)


def _found_network(channels: int, device: torch.device, mode: Mode) -> torch.nn.Module:
    network = speed.make_retrain(mode.memory if mode.side == "plain" else "cydas", channels, device)
    if mode.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if mode.compile:
        network.compile(mode=mode.compile)
    return network


def _retrain_step(channels: int, size: int, device: torch.device, mode: Mode) -> Step:
    network = _found_network(channels, device, mode).train()
    optimiser = make_optimiser(list(network.parameters()), 0.025, 0.9, 5e-4)
    precision = Precision(device, mode.bf16, "bf16")
    x, y = speed.batch(size, mode.memory, device)

    def step() -> None:
        if mode.side == "plain":
            plain.retrain_step(network, optimiser, x, y, 5.0)
            return
        with precision.autocast():
            output = network(x)
        update([retrain_loss(output, y, 0.0, 0.4)], [optimiser], 5.0, precision.scaler)

    return step


def _found(
    build: Callable[..., Step], modes: tuple[Mode, ...], size: int, device: torch.device, quick: bool
) -> dict[str, Any]:
    """A step of the published cell's network (36 channels, 20 cells) in these modes."""
    channels, size = (4, 2) if quick else (36, size)
    return _measure(partial(build, channels, size, device), modes[:2] if quick else modes, size, device, quick)


def retrain(device: torch.device, quick: bool) -> dict[str, Any]:
    """A step of its training on CIFAR-10 (batch 128)."""
    return _found(_retrain_step, EAGER, 128, device, quick)


def _evaluation_step(channels: int, size: int, device: torch.device, mode: Mode) -> Step:
    network = _found_network(channels, device, mode).eval()
    precision = Precision(device, mode.bf16, "bf16")
    x, _ = speed.batch(size, mode.memory, device)

    @torch.inference_mode()
    def step() -> None:
        with precision.autocast():
            network(x)

    return step


def evaluation(device: torch.device, quick: bool) -> dict[str, Any]:
    """Its logits (batch 256)."""
    return _found(_evaluation_step, EAGER, 256, device, quick)


def _chain_search_step(size: int, batch: int, device: torch.device, mode: Mode) -> Step:
    side = ("plain" if mode.side == "plain" else "CyDAS") + (", channels last" if mode.channels_last else "")
    return chain_speed.make_step(side, size, batch, device, Precision(device, mode.bf16, "bf16").autocast)


def _chain_training_step(size: int, batch: int, device: torch.device, mode: Mode) -> Step:
    network = chain_network(PUBLISHED["cdarts_a"].architecture).to(device).train()
    x, y = torch.randn(batch, 3, size, size, device=device), torch.randint(1000, (batch,), device=device)
    if mode.channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    optimiser, precision = (
        make_optimiser(list(network.parameters()), 0.1, 0.9, 4e-5),
        Precision(device, mode.bf16, "bf16"),
    )

    def step() -> None:
        with precision.autocast():
            logits = network(x)
        update([classification_loss(logits, y, 0.1)], [optimiser], math.inf, precision.scaler)

    return step


def chain(device: torch.device, quick: bool) -> dict[str, Any]:
    """The chain space: its search network, forward and backward, against six modules a block (they share weights
    otherwise; batch 128 of 224 pixels), and a training step of CDARTS-a (batch 256).
    """
    size, batch = (32, 2) if quick else (224, 128)
    search_modes, modes = (EAGER[:2], EAGER[1:2]) if quick else (EAGER, EAGER[1:])
    return {
        "search network": _measure(
            partial(_chain_search_step, size, batch, device), search_modes, batch, device, quick
        ),
        "cdarts_a": _measure(partial(_chain_training_step, size, 2 * batch, device), modes, 2 * batch, device, quick),
    }


def compiled(device: torch.device, quick: bool) -> dict[str, Any]:
    """torch.compile, which takes a while itself: a found network's logits (batch 256) and training (batch 128)."""
    modes = EAGER[1:2] if quick else EAGER[1:2] + COMPILED
    return {
        "evaluation": _found(_evaluation_step, modes, 256, device, quick),
        "retrain": _found(_retrain_step, modes, 128, device, quick),
    }


TIMES = {
    "ceilings": ceilings, "nats": nats, "search": search, "evaluation": evaluation, "retrain": retrain,
    "chain": chain, "compiled": compiled,
}  # fmt: skip
