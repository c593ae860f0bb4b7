"""``benchmarks/gpu.py`` at small sizes on the CPU: every part holds, and fails where what it looks at is broken."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_checks, gpu_times
from CyDAS.data import augment
from CyDAS.engine import graphs
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import SearchOptimisers
from CyDAS.utils.errors import CydasError
from tests.conftest import FIXTURES

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def settings_of_pytorch(monkeypatch):
    """A part is meant for a process of its own, and leaves them as it likes."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision(precision)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("part", gpu.PARTS)
def test_every_part_holds(part):
    if part == "reference" and not FIXTURES.exists():
        pytest.skip(f"no fixture file at {FIXTURES} (set CYDAS_FIXTURES)")
    result = gpu.run_part(part, CPU, quick=True)
    assert result["ok"], result
    assert result["figures"] and json.dumps(result)


def stale(self, x, y):
    """A replay that forgets to take the new batch."""
    self._replay()
    return dict(zip(self._names, self._values.clone().unbind(), strict=True))


BREAKS = {
    "graphs": lambda patch: patch.setattr(graphs._Recording, "take", stale),
    "loading": lambda patch: patch.setattr(augment, "batch_cutout", lambda images, *_: images + torch.rand(())),
    "lower_precision": lambda patch: patch.setattr(gpu_checks, "BY_NORM", {"bf16": 1e-6}),
    "resume": lambda patch: patch.setattr(SearchOptimisers, "load_state_dict", lambda self, states: None),
    "processes": lambda patch: patch.setattr(gpu_checks, "_messages", end),
    **dict.fromkeys(("reference", "no_waiting"), lambda patch: patch.setattr(gpu_checks, "ROOT", Path("nowhere"))),
    "ceilings": lambda patch: patch.setattr(torch, "mm", None),
    **dict.fromkeys(("nats", "search"), lambda patch: patch.setattr(CyclicSearch, "train_update", None)),
    **dict.fromkeys(
        ("retrain", "evaluation", "chain", "compiled"), lambda patch: patch.setattr(gpu_times, "Precision", None)
    ),
}


def end(*_):
    os._exit(3)


@pytest.mark.parametrize("part", gpu.PARTS)
def test_every_part_fails_where_what_it_looks_at_is_broken(part, monkeypatch):
    BREAKS[part](monkeypatch)
    result = gpu.run_part(part, CPU, quick=True)
    assert not result["ok"] and result["error"], result


def test_a_part_that_dies_or_hangs_hides_nothing_of_the_others(tmp_path, monkeypatch, capsys):
    file = tmp_path / "result.json"
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys, time\n"
        "name, file = sys.argv[sys.argv.index('--part') + 1], sys.argv[sys.argv.index('--output') + 1]\n"
        "if name == 'graphs': os.abort()\n"
        "if name == 'resume': time.sleep(60)\n"
        "json.dump({'ok': True, 'seconds': 1, 'figures': {'a': 1}}, open(file, 'w'))\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(program))
    start = time.monotonic()
    with pytest.raises(CydasError, match="failed: graphs, resume"):
        gpu.main(["--device", "cpu", "--output", str(file), "--seconds", "3", "--only", "loading", "graphs", "resume"])
    assert time.monotonic() - start < 30
    found = json.loads(file.read_text())
    assert [part["ok"] for part in found["parts"].values()] == [True, False, False]
    assert "ended with code -6" in found["parts"]["graphs"]["error"]
    assert "not ended after" in found["parts"]["resume"]["error"]
    assert found["device"] == "cpu" and found["machine"]["torch"] == torch.__version__
    assert "graphs" in capsys.readouterr().out


def test_who_has_no_gpu_hears_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CydasError, match="--device cpu --quick"):
        gpu.main([])
    with pytest.raises(CydasError, match="no part nothing; there are processes, "):
        gpu.main(["--only", "nothing", "--device", "cpu"])


WITHOUT = """
import importlib.util, sys
find = importlib.util.find_spec
names = ("tensorboardX", "thop", "graphviz", "tqdm")
importlib.util.find_spec = lambda name, *more: None if name in names and name not in sys.modules else find(name, *more)
import benchmarks.gpu as gpu
import torch
assert gpu.MISSING == list(names)
print(gpu.run_part("resume", torch.device("cpu"), quick=True))
"""


def test_what_draws_and_logs_can_be_missing():
    command = [sys.executable, "-c", WITHOUT]
    ended = subprocess.run(command, cwd=gpu.ROOT, capture_output=True, text=True, timeout=120)
    assert ended.stdout.splitlines()[-1].startswith("{'ok': True"), ended.stdout[-2000:] + ended.stderr[-2000:]
