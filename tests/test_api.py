"""CyDAS from Python does what the programs do, reads no command line, and importing it costs and says nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import CyDAS
from CyDAS.search import main as search_program
from CyDAS.utils.errors import CydasError

SEARCH = {
    "dataset": "digits", "space": "nats", "cells_per_stage": 1, "init_channels": 4, "image_size": 8, "batch_size": 16,
    "device": "cpu", "threads": 1, "sample_ratio": 0.05, "pretrain_epochs": 1, "search_iter": 2, "ensemble_param": True,
}  # fmt: skip
TRAIN = {
    "cells_per_stage": 1, "init_channels": 4, "epochs": 1, "device": "cpu", "threads": 1, "aux_weight": 0,
    "cutout_length": 0, "lr": 0.05,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["somebody", "--no_such_flag"])
        found = CyDAS.search(**SEARCH, output_dir=folder, name="mine")
        return found, CyDAS.retrain(found, **TRAIN)


def test_a_search_is_that_of_the_program(runs, tmp_path):
    found, _ = runs
    words = [f"--{k}" if v is True else f"--{k}={v}" for k, v in SEARCH.items()]
    search_program([*words, "--output_dir", str(tmp_path), "--name", "mine"])
    other = CyDAS.Run(tmp_path / "search/mine")
    assert found.genotype == other.genotype and found.name == "mine" and found.config["ensemble_param"]
    assert list(found.alphas) == ["alpha"] and found.alphas["alpha"].shape == (6, 5)
    assert torch.equal(found.alphas["alpha"], other.alphas["alpha"])


def test_a_retraining_takes_data_and_architecture_of_its_search(runs):
    found, trained = runs
    assert trained.folder == found.folder.parents[1] / "retrain/mine"
    assert trained.genotype == found.genotype and trained.config["dataset"] == "digits"
    with pytest.raises(CydasError, match="is not of a search"):
        _ = trained.alphas


def test_a_loaded_network_answers_as_the_test_did(runs):
    _, trained = runs
    network = CyDAS.load(trained)
    assert network.classes == [str(digit) for digit in range(10)] and not network.training
    assert network.architecture == trained.genotype
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(grey), generator=torch.Generator().manual_seed(0))[: len(grey) // 5].tolist()
    pixels = [np.round(grey[index].reshape(8, 8) * 255 / 16).astype(np.uint8) for index in order]
    batch = torch.stack([network.preprocess(Image.fromarray(each)) for each in pixels])
    assert batch.shape == (359, 3, 8, 8)
    with torch.inference_mode():
        right = (network(batch).argmax(dim=1) == torch.tensor(labels[order])).double().mean()
    assert 100 * float(right) == pytest.approx(trained.result["last"]["top1"], abs=1e-6)


def test_a_report_is_a_file(runs):
    path = runs[0].report()
    assert path.name == "report.html" and path.read_text().startswith("<!doctype html>")


def test_a_file_of_a_genotype_is_trained_too(runs, tmp_path):
    file = tmp_path / "cell.json"
    file.write_text(json.dumps(runs[0].genotype))
    size = {"dataset": "digits", "space": "nats", "image_size": 8}
    trained = CyDAS.retrain(file, **TRAIN, **size, output_dir=tmp_path, name="x")
    assert trained.result["last"] == runs[1].result["last"]  # the same seed


def test_wrong_flags_are_errors_of_python():
    with pytest.raises(TypeError, match=r"search\(\) got unexpected flags: epochs, speed"):
        CyDAS.search(epochs=3, speed=1)
    with pytest.raises(CydasError, match="value of the wrong kind"):
        CyDAS.search(search_iter="many")
    with pytest.raises(CydasError, match=r"search\(\): w_lr: no value of a flag"):
        CyDAS.search(w_lr={"a": 1})
    with pytest.raises(CydasError, match="one search at a time"):
        CyDAS.search(seeds=[1, 2])
    with pytest.raises(CydasError, match="neither a file nor a run"):
        CyDAS.load("nothing of this name")
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = CyDAS.nothing


def test_importing_says_and_loads_nothing():
    code = "import CyDAS, sys; assert not {'torch', 'timm'} & set(sys.modules); assert callable(CyDAS.search)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
