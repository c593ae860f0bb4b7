"""Several processes: the same mathematics as one, the same parameters in all, and what happens when one dies."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from CyDAS.runs.checkpoint import load_checkpoint
from tests.ranks import SIZE, batches, make_search, take_steps

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SEARCH = (
    "--space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --device cpu --threads 1 --batch_size 16 "
    "--sample_ratio 1 --pretrain_epochs 1 --search_iter 3 --search_iter_epochs 1 --nasnet_warmup 1 --print_freq 1 "
    "--ensemble_param --checkpoint_minutes 0.001"
).split()


def run_ranks(mode, folder):
    command = [*TORCHRUN, "tests/ranks.py", mode, str(folder)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)


def test_two_processes_with_half_the_images_make_the_update_of_one(tmp_path):
    """Without batch statistics the mathematics is that of one process with all images."""
    result = run_ranks("split", tmp_path)
    assert result.returncode == 0, result.stderr
    two = torch.load(tmp_path / "split.pt", weights_only=True)
    search = make_search(statistics=False)
    before = {name: p.detach().clone() for name, p in search.joint.named_parameters()}
    norms = take_steps(search, 1)
    for one, other in zip(norms, two["norms"], strict=True):
        assert torch.allclose(one, other, rtol=1e-6)
    moved = 0
    for name, parameter in search.joint.named_parameters():
        change = (parameter - before[name]).abs().max()
        moved += bool(change > 0)
        assert (parameter - two["parameters"][name]).abs().max() <= 1e-6 * max(1e-3, change), name
    assert moved > 100


def test_two_processes_keep_equal_parameters_with_statistics_of_their_own(tmp_path):
    result = run_ranks("statistics", tmp_path)
    assert result.returncode == 0, result.stderr


def test_alphas_that_differ_between_processes_stop_the_run(tmp_path):
    result = run_ranks("apart", tmp_path)
    assert result.returncode != 0
    assert "the architecture parameters differ between processes" in result.stderr


def test_batches_one_after_the_other_make_the_update_of_one():
    whole, parts = make_search(statistics=False), make_search(statistics=False, accum_steps=4)
    for one, other in zip(take_steps(whole, 1), take_steps(parts, 1), strict=True):
        assert torch.allclose(one, other, rtol=1e-9)
    figures = (search.val_losses(*batches(5, 2 * SIZE), epoch=2)[0].total for search in (whole, parts))
    assert torch.allclose(*figures, rtol=1e-9)


def start_search(folder, *flags, restarts=0, torchrun=TORCHRUN):
    command = [
        *torchrun,
        "--max_restarts",
        str(restarts),
        "CyDAS/search.py",
        *SEARCH,
        "--output_dir",
        str(folder),
        *flags,
    ]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.01)


def worker(parent, rank):
    """The process id of the launcher's worker of this rank."""
    for entry in Path("/proc").iterdir():
        try:
            if int(re.search(r"\) \S (\d+)", (entry / "stat").read_text())[1]) != parent:
                continue
            if f"RANK={rank}" in (entry / "environ").read_bytes().decode(errors="replace").split("\0"):
                return int(entry.name)
        except (OSError, TypeError, ValueError):
            continue
    return None


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    process = start_search(folder)
    assert process.wait(300) == 0, process.communicate()
    return folder / "search/default"


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc to find a worker")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_is_started_again_and_the_search_ends_as_if_nothing_had_been(undisturbed, tmp_path, rank):
    run = tmp_path / "search/default"
    cut = start_search(tmp_path, restarts=1)
    log = run / "search.log"
    wait_for(lambda: log.exists() and "cycle 1/2, joint 1/1 [5/" in log.read_text(), cut)
    os.kill(worker(cut.pid, rank), signal.SIGKILL)
    assert cut.wait(300) == 0, cut.communicate()
    assert log.read_text().count("device cpu") == 2  # it was started again
    assert (run / "genotype.json").read_text() == (undisturbed / "genotype.json").read_text()
    for name in ("joint", "pool", "optimisers"):
        states = [load_checkpoint(folder / "search_resume.pth.tar")["search"][name] for folder in (undisturbed, run)]
        assert repr(states[0]) == repr(states[1])
    alphas = [json.loads((folder / "alphas/round_003.json").read_text())["alphas"] for folder in (undisturbed, run)]
    assert alphas[0] == alphas[1]


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc to find a worker")
def test_a_dead_process_ends_the_run_soon_and_says_so(tmp_path):
    process = start_search(tmp_path, "--search_iter", "500")
    log = tmp_path / "search/default/search.log"
    wait_for(lambda: log.exists() and "warm-up 1/1 [3/" in log.read_text(), process)
    os.kill(worker(process.pid, 1), signal.SIGKILL)
    start = time.monotonic()
    errors = process.communicate(timeout=60)[1]
    assert process.returncode != 0 and time.monotonic() - start < 60
    assert "process 0 has lost another process of this run" in errors


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc to find a worker")
def test_a_process_that_dies_on_one_of_two_machines_is_started_again_with_the_others(
    undisturbed, tmp_path, monkeypatch
):
    """Two launchers stand for the machines. The one whose worker lives on does not count a restart."""
    monkeypatch.setitem(ENVIRONMENT, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")  # as scripts/launch.sh has it
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "test"]
    machines = []
    for host in ("true", "false"):
        torchrun = [*TORCHRUN[:3], *meeting, "--rdzv_conf", f"is_host={host}", "--nproc_per_node", "1"]
        machines.append(start_search(tmp_path, restarts=1, torchrun=torchrun))
    run = tmp_path / "search/default"
    log = run / "search.log"
    wait_for(lambda: log.exists() and "cycle 1/2, joint 1/1 [5/" in log.read_text(), machines[0])
    os.kill(next(pid for pid in (worker(m.pid, 1) for m in machines) if pid), signal.SIGKILL)
    for machine in machines:
        assert machine.wait(300) == 0, machine.communicate()
    alphas = [json.loads((folder / "alphas/round_003.json").read_text())["alphas"] for folder in (undisturbed, run)]
    assert alphas[0] == alphas[1] and log.read_text().count("device cpu") == 2
