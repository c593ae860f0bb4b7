"""What a GPU would suffer from, as far as it can be told without one: its calls are replaced by traps."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.augment import BatchAugmentation, seeded
from CyDAS.engine import local_jobs
from CyDAS.runs.checkpoint import process_states, set_process_state
from CyDAS.search import main as search
from CyDAS.utils import distributed
from CyDAS.utils.distributed import Process, start_process

ONE = Process(0, 1, torch.device("cpu"))


def trap(*arguments, **options):
    raise AssertionError("a GPU was touched")


@pytest.fixture
def host_with_gpus(monkeypatch):
    """GPUs are there, none is in use, and none may be asked for its state or seeded."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name in ("get_rng_state", "set_rng_state", "manual_seed", "manual_seed_all", "set_device", "_lazy_init"):
        monkeypatch.setattr(torch.cuda, name, trap)


def test_augmentation_moves_no_generator(host_with_gpus, tmp_path):
    """``torch.manual_seed`` seeds every device's."""
    before = torch.get_rng_state()
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmentation = BatchAugmentation((0.5,) * 3, (0.2,) * 3, auto_augment=True)
    augmentation.train(images, torch.Generator().manual_seed(3))
    for part in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            Image.fromarray(np.full((9, 9, 3), 100, dtype=np.uint8)).save(tmp_path / part / name / "1.png")
    for auto in (False, True):
        config = SearchConfig(dataset="folder", data_dir=tmp_path, image_size=8, workers=0, batch_size=2, use_aa=auto)
        list(load_data(config, ONE).train_batches(range(2)).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_drawn_under_a_seed_is_what_torch_draws_and_the_generator_comes_back_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(7):
        drawn = torch.rand(3)
        _ = 1 / 0
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_checkpoint_of_a_run_on_the_cpu_asks_no_gpu(host_with_gpus):
    (state,) = process_states()
    assert state["cuda"] is None
    set_process_state([state | {"cuda": torch.zeros(16, dtype=torch.uint8)}], ONE)


def test_a_checkpoint_of_a_run_on_a_gpu_holds_its_generator(monkeypatch):
    held, given = torch.arange(16, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: held)
    monkeypatch.setattr(torch.cuda, "set_rng_state", given.append)
    states = process_states()
    set_process_state(states, Process(0, 1, torch.device("cuda", 0)))
    assert states[0]["cuda"] is held and given == [held]


def test_a_process_on_the_cpu_does_not_look_for_gpus(host_with_gpus, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", trap)
    assert start_process("cpu", 1.0) == ONE


def test_a_process_takes_its_own_gpu_before_it_meets_the_others(host_with_gpus, monkeypatch):
    order = []
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: order.append(device))
    monkeypatch.setattr(distributed, "_join", lambda backend, rank, size, wait: order.append((backend, rank, size)))
    assert start_process("auto", 1.0) == Process(3, 4, torch.device("cuda", 1))
    assert order == [1, ("cpu:gloo,cuda:nccl", 3, 4)]


class Child:
    """A search that ends when it has been asked so many times."""

    def __init__(self, asked):
        self.asked = asked
        self.returncode = 1

    def poll(self):
        self.asked -= 1
        return None if self.asked > 0 else self.returncode

    def terminate(self): ...

    def wait(self): ...


@pytest.mark.parametrize(
    ("visible", "flags", "gpus"),
    [
        (None, ["--jobs", "2"], ["0", "1", "0"]),
        ("5, GPU-8932f937", ["--jobs", "2"], ["5", "GPU-8932f937", "5"]),
        (None, ["--jobs", "3"], ["0", "1", "0"]),
        (None, ["--jobs", "2", "--device", "cpu"], [None] * 3),
        (None, ["--jobs", "1"], [None] * 3),
        ("7,8", ["--jobs", "1"], ["7,8"] * 3),
    ],
)
def test_every_search_of_several_seeds_has_a_gpu_of_its_own(
    host_with_gpus, monkeypatch, visible, flags, gpus, tmp_path
):
    """The first of two searches ends first; the third takes its place."""
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    seen, lasts = {}, iter((2, 4, 2))

    def start(command, env, **options):
        seen[int(command[command.index("--seed") + 1])] = env.get("CUDA_VISIBLE_DEVICES")
        return Child(next(lasts))

    monkeypatch.setattr(local_jobs, "subprocess", SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL))
    monkeypatch.setattr(local_jobs.time, "sleep", lambda seconds: None)
    with pytest.raises(Exception, match=r"failed: default-seed4 \(code 1\), default-seed5 \(code 1\), def"):
        search(["--search_iter", "6", "--seeds", "4", "5", "6", "--output_dir", str(tmp_path), *flags])
    assert [seen[seed] for seed in (4, 5, 6)] == gpus


def test_no_gpu_is_given_where_none_is_seen(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local_jobs.visible_gpus() == []
    code = "import os, sys; sys.exit(len(os.environ.get('CUDA_VISIBLE_DEVICES', 'none')))"
    assert local_jobs.run_all({0: [sys.executable, "-c", code]}, 2, 1) == {0: 0}
