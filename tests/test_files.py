"""Checkpoints and other files: whole or not at all, and never able to run code."""

import os
import pickle
import random

import numpy as np
import pytest
import torch

from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.runs.checkpoint import load_checkpoint, load_weights, process_states, save_checkpoint, set_process_state
from CyDAS.spaces import DartsSpace
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_atomically, write_json


def test_a_checkpoint_round_trips(tmp_path):
    content = {"a": torch.arange(3), "b": [1, 2.5, "x", None], "c": {"d": True}}
    save_checkpoint(tmp_path / "c.pth.tar", content)
    loaded = load_checkpoint(tmp_path / "c.pth.tar")
    assert torch.equal(loaded.pop("a"), content.pop("a")) and loaded == content
    assert [p.name for p in tmp_path.iterdir()] == ["c.pth.tar"]


def test_a_write_that_fails_leaves_the_earlier_file_whole(tmp_path):
    path = tmp_path / "file"
    write_json(path, {"first": 1})

    def half(beside):
        beside.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(CydasError, match="cannot write .*No space left"):
        write_atomically(path, half)
    assert path.read_text() == '{\n  "first": 1\n}\n' and len(list(tmp_path.iterdir())) == 1


class Attack:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_checkpoint_that_would_run_code_is_refused_and_does_not(tmp_path, save):
    marker, path = tmp_path / "ran", tmp_path / "c.pth.tar"
    save({"model_main": Attack(marker)}, path)
    with pytest.raises(CydasError, match="not read|no checkpoint"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"hello", lambda b: b[:20] + b[60:]]
)
def test_a_damaged_checkpoint_is_one_clear_line(tmp_path, damage):
    path = tmp_path / "c.pth.tar"
    save_checkpoint(path, {"a": torch.arange(1000)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CydasError, match="damaged") as error:
        load_checkpoint(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_what_is_missing_or_no_dict_is_refused(tmp_path):
    with pytest.raises(CydasError, match="no such file"):
        load_checkpoint(tmp_path / "none")
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(CydasError, match="a dict is expected, not list"):
        load_checkpoint(tmp_path / "list")


def small_network(channels=2, seed=0):
    layout = Layout(init_channels=channels, image_size=16)
    torch.manual_seed(seed)
    space = DartsSpace(layout)
    return RetrainNetwork(layout, space.discretise(space.build()), auxiliary=True)


def test_weights_load_with_and_without_the_prefix_of_data_parallel(tmp_path):
    network, other = small_network(), small_network()
    with torch.no_grad():
        other.fc.weight.add_(1)
    load_weights(network, {f"module.{key}": value for key, value in other.state_dict().items()}, tmp_path)
    assert torch.equal(network.fc.weight, other.fc.weight)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w: w.pop("fc.bias"), "fc.bias is missing"),
        (lambda w: w.update(extra=torch.zeros(1)), "extra has no place"),
        (lambda w: w.update({"fc.bias": torch.zeros(7)}), r"fc.bias is \(7,\), here \(10,\)"),
        (lambda w: w.update({"fc.bias": "text"}), "fc.bias"),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, change, word):
    network = small_network()
    weights = dict(small_network().state_dict())
    change(weights)
    before = network.fc.weight.clone()
    with pytest.raises(CydasError, match=f"another architecture or size: {word}"):
        load_weights(network, weights, tmp_path)
    assert torch.equal(network.fc.weight, before)


def test_random_state_goes_back_through_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path / "r", {"processes": process_states()})
    first = random.random(), float(np.random.rand()), float(torch.rand(()))
    states, one = load_checkpoint(tmp_path / "r")["processes"], Process(0, 1, torch.device("cpu"))
    set_process_state(states, one)
    assert (random.random(), float(np.random.rand()), float(torch.rand(()))) == first
    with pytest.raises(CydasError, match=r"of 1 process\(es\), here are 2"):
        set_process_state(states, Process(0, 2, torch.device("cpu")))
