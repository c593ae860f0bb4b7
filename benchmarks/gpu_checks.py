"""The parts of ``gpu.py`` that say whether something holds. Each raises ``AssertionError`` where it does not."""

import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor
from torch.utils._pytree import tree_map

from benchmarks import speed
from CyDAS.config import RetrainConfig
from CyDAS.data import load_data
from CyDAS.engine.graphs import WARM_UP
from CyDAS.engine.optim import Precision
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.keeper import Keeper
from CyDAS.search import main as search
from CyDAS.utils import distributed
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import Stopped
from CyDAS.utils.files import read_json

ROOT = Path(__file__).resolve().parents[1]
#: Largest ||out - expected|| / ||expected||.
BY_NORM = {"float32": 2e-3, "bf16": 0.03}


def reference(device: torch.device, quick: bool) -> dict[str, Any]:
    """Every reference value in float64: the test suite's own test of them, computing on the device."""
    chosen = ["-k", "test_head"] if quick else []
    environment = os.environ | {"CYDAS_TEST_DEVICE": str(device)}
    ended = _pytest("tests/test_equivalence.py", *chosen, env=environment)
    lines = ended.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    assert ended.returncode == 0, "; ".join([*failed[:5], *lines[-1:], ended.stderr[-300:]])
    assert re.search(r"[1-9]\d* passed", lines[-1]), f"no reference value was compared: {lines[-1]}"
    return {"float64": lines[-1].strip(" =")}


def _pytest(*arguments: str, **options: Any) -> subprocess.CompletedProcess:
    """Tests in a process of their own, with the stand-ins of ``gpu.py`` for what is missing."""
    code = "import sys, benchmarks.gpu, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', *sys.argv[1:]]))"
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, **options)


def lower_precision(device: torch.device, quick: bool) -> dict[str, Any]:
    """By norm, against float64 on the CPU: whole networks in float32, and in bf16 the cells that they are made of.

    So deep a network with random weights makes much of little: in bf16 its logits say nothing.
    """
    channels, worst = 4 if quick else 16, {}
    networks: dict[str, Callable[[], Any]] = {
        "NATS-Bench": lambda: speed.make_search("cydas", channels, nats=True).joint.train(),
        "DARTS": lambda: speed.make_search("cydas", channels).joint.train(),
        "retrain": lambda: speed.make_retrain("cydas", channels).eval(),
    }
    for name, build in networks.items():
        torch.manual_seed(0)
        network = build()
        x = speed.batch(8 if quick else 64)[0]
        if not (quick and name == "DARTS"):
            worst[f"{name}, float32"] = _error(name, network, (x,), device, "float32")
        if name != "retrain":
            mixtures = [_detached(mixture) for mixture in network.super_layers_arch.mixtures()]
            states = network.feature_extractor(x)
            cells: dict[str, tuple[torch.nn.Module, tuple]] = {
                "search cell": (network.super_layers[0][0], (states, mixtures[0]))
            }
            cells["evaluation cell"] = network.nas_layers[0][0], (states,)
            for what, (cell, inputs) in cells.items():
                what = f"{name} {what}"
                worst[f"{what}, bf16"] = _error(what, cell, inputs, device, "bf16")
    return worst


def _error(name: str, module: torch.nn.Module, inputs: tuple, device: torch.device, kind: str) -> str:
    expected = _output(module.double(), *_moved(inputs, "cpu", torch.float64))
    module.float().to(device)
    with Precision(device, kind == "bf16", "bf16").autocast():
        found = _output(module, *_moved(inputs, device, torch.float32))
    module.cpu()
    error = float((found - expected).norm() / expected.norm())
    assert error < BY_NORM[kind], f"{name} in {kind}: {error:.2g}, more than {BY_NORM[kind]:g}"
    return f"{error:.2g}"


def _detached(value: Any) -> Any:
    return tree_map(lambda tensor: tensor.detach(), value)


def _moved(value: Any, device: str | torch.device, dtype: torch.dtype) -> Any:
    return tree_map(lambda tensor: tensor.to(device, dtype), _detached(value))


@torch.no_grad()
def _output(module: torch.nn.Module, *inputs: Any) -> Tensor:
    """A cell's last state, a network's logits, or those of both networks. The running statistics stay as they are."""
    before = {name: buffer.clone() for name, buffer in module.named_buffers()}
    output = module(*inputs)
    for name, buffer in module.named_buffers():
        buffer.copy_(before[name])
    if hasattr(output, "search"):
        return torch.cat([each.logits for each in output]).double().cpu()
    return (output.logits if hasattr(output, "logits") else output[-1]).double().cpu()


def no_waiting(device: torch.device, quick: bool) -> dict[str, Any]:
    """No step waits for the device. On a GPU CUDA says so; elsewhere a device without numbers does."""
    if device.type != "cuda":
        ended = _pytest("tests/test_device_steps.py", "-k", "retraining or noticed")
        assert ended.returncode == 0, ended.stdout[-1000:]
        return {"steps on the device without numbers": "none waits"}
    steps = {}
    for nats in (False, True):
        engine = speed.make_search("cydas", 16, nats, device)
        x, y = speed.batch(64, device=device)
        for name, further in (("train_update", ()), ("evaluation_update", ()), ("alpha_update", (0,))):
            update = getattr(engine, name)
            steps[f"{'NATS-Bench' if nats else 'DARTS'}, {name}"] = _watched(engine, update, (x, y, *further))
        joint = lambda x, y, engine=engine: engine._joint_step([(x, y), (x, y)], 2)  # noqa: E731
        steps[f"{'NATS-Bench' if nats else 'DARTS'}, joint step"] = _watched(engine, joint, (x, y))
    return steps


def _watched(engine: Any, update: Callable, batch: tuple[Tensor, Tensor]) -> str:
    engine.averages.add(update(*batch), 1)  # what is made once may wait
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        engine.averages.add(update(*batch), 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "does not wait"


def graphs(device: torch.device, quick: bool) -> dict[str, Any]:
    """Steps that are recorded and replayed give the figures of steps that are not; in float64, since after some steps
    in float32 two trainings differ in the third digit by the order of the GPU's sums alone. Not to the last digit: an
    Adam that can be recorded forms 1 - beta^t on the GPU in float32, 1e-5 off in the first step.
    """
    steps = WARM_UP + (2 if quick else 8)
    worst = {}
    for nats in (True,) if quick else (True, False):
        plain, recorded = (_figures(device, quick, nats, steps, use_graphs) for use_graphs in (False, True))
        shares = [key for key in plain[0] if "top1" in key]  # one image more or less is no error, but a jump
        differences = []
        for first, second in zip(plain, recorded, strict=True):
            assert all(abs(first[key] - second[key]) <= 2 for key in shares), (first, second)
            differences += [abs(first[key] - second[key]) / max(abs(first[key]), 1e-3) for key in first.keys() - shares]
        worst[f"{'NATS-Bench' if nats else 'DARTS'}, largest relative difference of {steps} steps"] = max(differences)
    assert max(worst.values()) < 1e-4, f"figures differ: {worst}"
    return {name: f"{difference:.2g}" for name, difference in worst.items()}


def _figures(device: torch.device, quick: bool, nats: bool, steps: int, use_graphs: bool) -> list[dict[str, float]]:
    engine = speed.make_search("cydas", 4 if quick else 16, nats, device, cuda_graphs=use_graphs)
    if use_graphs and device.type != "cuda":
        from tests.test_cuda_graphs import with_graphs

        with_graphs(engine)
    assert bool(engine.graphs) == use_graphs
    engine.joint.double()
    x, y = speed.batch(8 if quick else 64, device=device)
    x = x.double()
    batches = ([(x.roll(step, 0), y), (x.flip(-1), y)] for step in range(steps))
    return [{key: float(value) for key, value in engine._joint_step(pair, 2).items()} for pair in batches]


def resume(device: torch.device, quick: bool) -> dict[str, Any]:
    """With --deterministic a search and a retraining that were stopped in mid-epoch end bit for bit as others do."""
    common = f"--dataset digits --device {device.type} --deterministic --threads 1 --space nats --cells_per_stage 1"
    common += " --init_channels 4 --image_size 8 --batch_size 32"
    flags = "--pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --nasnet_warmup 1 --sample_ratio 0.2"
    with tempfile.TemporaryDirectory() as folder:
        command = [*common.split(), "--output_dir", folder]
        for name, stop in (("whole", None), ("stopped", 7)):
            _run(search, [*command, *flags.split(), "--name", name], stop)
            cell = ["--cell_file", str(Path(folder, "search/whole/genotype.json")), "--aux_weight", "0"]
            _run(retrain, [*command, *cell, "--epochs", "2", "--batch_size", "240", "--name", name], stop)
        alphas = [
            read_json(Path(folder, "search", name, "alphas/round_002.json"), "x") for name in ("whole", "stopped")
        ]
        assert alphas[0]["alphas"] == alphas[1]["alphas"], "the alphas differ"
        files = [Path(folder, "retrain", name, "last.pth.tar") for name in ("whole", "stopped")]
        first, second = (load_checkpoint(file)["model_main"] for file in files)
        differing = [key for key, value in first.items() if not torch.equal(value, second[key])]
        assert not differing, f"{len(differing)} tensors differ, the first is {differing[0]}"
    return {"search and retraining": "bit for bit"}


def _run(program: Callable, command: list[str], stop: int | None) -> None:
    """The program; with ``stop`` it is told to stop after so many steps, and then goes on with --resume."""
    if stop is not None:
        with _stopping_after(stop):
            try:
                program(command)
            except Stopped:
                pass
            else:
                raise AssertionError("the run was not stopped")
        command = [*command, "--resume"]
    program(command)


@contextmanager
def _stopping_after(steps: int) -> Iterator[None]:
    asked = 0

    def count(self: Keeper) -> tuple[bool, bool]:
        nonlocal asked
        asked += 1
        return (asked == steps,) * 2

    with patch.object(Keeper, "wants", count):
        yield


def processes(device: torch.device, quick: bool) -> dict[str, Any]:
    """Every message between processes: over NCCL by one process, over gloo by two, whose tensors are on one device."""
    found = {}
    backends = {"cpu:gloo,cuda:nccl": 1, "gloo": 2} if device.type == "cuda" else {"gloo": 2}
    for backend, size in backends.items():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        multiprocessing.spawn(_messages, (size, backend, address, device), nprocs=size)
        found[f"{backend}, {size} process(es)"] = "all messages arrive"
    return found


def _messages(rank: int, size: int, backend: str, address: str, device: torch.device) -> None:
    dist.init_process_group(backend, init_method=address, rank=rank, world_size=size)
    distributed.is_distributed = lambda: True  # also of one process
    own = torch.arange(4.0, device=device) + rank
    total = size * torch.arange(4.0) + sum(range(size))
    assert torch.equal(distributed.all_sum(own.clone()).cpu(), total)
    assert torch.equal(distributed.least(own.clone()).cpu(), torch.arange(4.0))
    assert distributed.any_of(rank == size - 1) and not distributed.any_of(False)
    assert distributed.gather({"rank": rank}) == [{"rank": other} for other in range(size)]
    assert distributed.is_same_everywhere(own) == (size == 1)
    linear = torch.nn.Linear(3, 2)
    module = torch.nn.Sequential(linear, torch.nn.BatchNorm1d(2)).to(device)
    with torch.no_grad():
        linear.weight.fill_(rank)
    distributed.copy_from_main(module)
    assert float(linear.weight.detach().sum()) == 0
    linear.bias.grad = torch.full((2,), float(rank), device=device)
    distributed.average_gradients(module.parameters(), images=1 + rank)
    expected = sum(other * (1 + other) for other in range(size)) / sum(1 + other for other in range(size))
    torch.testing.assert_close(linear.bias.grad.cpu(), torch.full((2,), expected))
    dist.destroy_process_group()


def loading(device: torch.device, quick: bool) -> dict[str, Any]:
    """Batches on the device are bit for bit those of the CPU; with AutoAugment, whose colours a device may round its
    own way, they repeat.
    """
    places = (torch.device("cpu"), device)
    for use_aa, where in ((False, places), (True, (device, device))):
        first, second = (_batches(place, use_aa) for place in where)
        assert len(first) == len(second) == 4
        for batch, own in zip(first, second, strict=True):
            assert all(map(torch.equal, batch, own)), f"a batch differs (AutoAugment: {use_aa})"
    return {"batches of two epochs": "as on the CPU; with AutoAugment repeatable"}


def _batches(device: torch.device, use_aa: bool) -> list[tuple[Tensor, Tensor]]:
    config = RetrainConfig(dataset="digits", batch_size=240, use_aa=use_aa)
    batches = load_data(config, Process(0, 1, device)).train_batches(range(480), cutout_length=4)
    return [(x.cpu(), y.cpu()) for epoch in range(2) for x, y in batches.epoch(epoch)]


CHECKS = {
    "processes": processes, "loading": loading, "lower_precision": lower_precision, "no_waiting": no_waiting,
    "graphs": graphs, "resume": resume, "reference": reference,
}  # fmt: skip
