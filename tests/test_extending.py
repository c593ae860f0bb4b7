"""What docs/extending.md says is all that it takes."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import nn

from CyDAS.config import RetrainConfig
from CyDAS.models.cells.cell_plan import NoPlan, Operation, plan_cell
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse, take_over

SEARCH = (
    "--dataset digits --init_channels 4 --batch_size 16 --sample_ratio 0.02 --pretrain_epochs 1 "
    "--search_iter 2 --device cpu --threads 1 --no-report --alpha_lr 3"
).split()


def test_an_operation_is_added_by_the_lines_in_the_docs(tmp_path):
    shutil.copytree(ROOT / "CyDAS", tmp_path / "CyDAS")
    file = tmp_path / "CyDAS/models/cells/operations.py"
    source = file.read_text()
    for change in re.findall(r"```diff\n(.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL):
        lines = change.splitlines()
        old = "".join(f"{line[1:]}\n" for line in lines if line[0] == " ")
        new = "".join(f"{line[1:]}\n" for line in lines)
        before = old.splitlines(keepends=True)[0]
        assert source.count(old if old in source else before) == 1
        added = "".join(f"{line[1:]}\n" for line in lines if line[0] == "+")
        source = source.replace(before, before + added, 1)
        assert new in source
    file.write_text(source)
    command = [sys.executable, "CyDAS/search.py", *SEARCH, "--output_dir", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alphas = json.loads((tmp_path / "runs/search/default/alphas/round_002.json").read_text())["alphas"]
    assert {len(row) for name, rows in alphas.items() if ".0." in name[1:4] for row in rows} == {9}
    counts = re.findall(r"'conv_1x1': (\d+)", done.stdout)
    assert counts, done.stdout
    cell = "Genotype(normal=[{0}], normal_concat=range(2, 6), reduce=[{0}], reduce_concat=range(2, 6))"
    cell = cell.format(", ".join(["[('conv_1x1', 0), ('conv_1x1', 1)]"] * 4))
    genotype = tmp_path / "runs/search/default/genotype.json"
    genotype.write_text(json.dumps({str(stage): cell for stage in range(3)}))
    small = "'--device', 'cpu', '--threads', '1'"
    done = python(
        f"""
from CyDAS.retrain import main as retrain
from CyDAS.test import main as test
flags = "--init_channels 4 --epochs 1 --batch_size 700 --cutout_length 0 --lr 0.1 --no-report --output_dir runs"
retrain([*flags.split(), {small}])
test(["--output_dir", "runs", {small}])
import CyDAS
print("conv_1x1" in CyDAS.Run(CyDAS.api.Path("runs/retrain/default")).report().read_text())
""",
        tmp_path,
    )
    assert "on 359 test images" in done and done.endswith("True\n")


def python(program, folder, *, path=ROOT):
    """What a program of Python prints, run in a folder."""
    environment = os.environ | {"PYTHONPATH": str(folder if (folder / "CyDAS").exists() else path)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Own(nn.Module):
    def forward(self, x):
        return 2 * x


def test_a_cell_with_an_operation_of_ones_own_has_no_native_plan_and_that_is_said_once(caplog):
    for _ in range(2):
        plan = plan_cell([Operation(0, 0, Own())], 4, False)
        assert isinstance(plan, NoPlan) and not plan.applies([torch.zeros(1, 4, 2, 2)], True)
    assert caplog.text.count("no native kernel for Own: cells with it are computed by PyTorch") == 1


def test_known_operations_have_a_plan():
    assert not isinstance(plan_cell([Operation(0, 0, nn.Identity())], 4, False), NoPlan)


def test_a_plan_of_a_later_node_is_still_an_error_of_the_caller():
    with pytest.raises(ValueError, match="cannot read"):
        plan_cell([Operation(3, 0, nn.Identity())], 4, False)


# -- a space and a data set of one's own -----------------------------------------------------------------------------

SPACE = ROOT / "demo/tiny_space.py"
EXTENDING = (ROOT / "docs/extending.md").read_text()


def test_the_space_in_the_docs_is_the_file_and_it_is_short():
    assert SPACE.read_text() in EXTENDING
    assert len(SPACE.read_text().splitlines()) < 60


#: Run in a process of its own, so that no other test sees the space.
EVERYTHING = """
import json
from pathlib import Path

import torch

import CyDAS
from CyDAS.export import main as export
from CyDAS.retrain import main as retrain
from CyDAS.search import main as search
from CyDAS.test import main as test

own = ["--extension", SPACE, "--device", "cpu", "--threads", "1"]
quiet = ["--no-report", "--tracker", "none"]
size = "--space tiny --cells_per_stage 1 --init_channels 4 --image_size 8 --batch_size 16".split()
few = "--sample_ratio 0.05 --pretrain_epochs 1 --search_iter 4 --search_iter_epochs 1 --nasnet_warmup 1".split()
few += "--alpha_lr 0.5 --regular --finalists 2 --finalist_noise 1 --finalist_epochs 0.1 --average_rounds 2".split()
search([*own, *quiet, *size, *few])
alphas = CyDAS.Run(Path("experiments/search/default")).alphas["alpha"]
assert alphas.shape == (3, 4)

search([*own, *quiet, *size, *few, "--name", "again", "--seeds", "0"])  # a child is told of the file
found = json.loads(Path("experiments/search/again-seed0/result.json").read_text())["genotype"]
assert found == CyDAS.Run(Path("experiments/search/default")).genotype, found

once = "--epochs 1 --batch_size 700 --cutout_length 0 --lr 0.1".split()
retrain([*own, *quiet, *size[:-2], *once])
retrain([*own, *quiet, *size[:-2], *once[2:], "--epochs", "2", "--resume"])
test(own)
export(["default", "--extension", SPACE, "--to", "out"])
assert json.loads(Path("out/export.json").read_text())["space"] == "tiny"
page = CyDAS.Run(Path("experiments/search/default")).report().read_text()
assert "conv_5x5" in page and "softmax(alpha)" in page and f"--extension {SPACE}" in page

run = CyDAS.search(space="tiny", cells_per_stage=1, init_channels=4, image_size=8, batch_size=16, sample_ratio=0.05,
                   pretrain_epochs=1, search_iter=2, search_iter_epochs=1, device="cpu", threads=1, name="api",
                   report=False)
network = CyDAS.load(CyDAS.retrain(run, cells_per_stage=1, init_channels=4, epochs=1, batch_size=700, lr=0.1,
                                   cutout_length=0, device="cpu", threads=1, report=False))
assert network(torch.zeros(2, 3, 8, 8)).shape == (2, 10)
"""


def test_a_space_of_ones_own_is_searched_retrained_tested_exported_and_reported(tmp_path):
    out = python(f"SPACE = {str(SPACE)!r}\n{EVERYTHING}", tmp_path)
    assert "on 359 test images" in out and "'conv_5x5'" in out
    done = subprocess.run(
        [sys.executable, ROOT / "CyDAS/test.py", "--name", "default"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and "its --space is 'tiny', not one of darts, nats, chain" in done.stderr
    assert "give --extension FILE" in done.stderr
    done = subprocess.run(
        [sys.executable, ROOT / "CyDAS/report.py", "experiments/search/default"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 2 and "--extension FILE" in done.stderr


def test_a_data_set_of_ones_own_is_what_the_docs_say(tmp_path):
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", EXTENDING, re.DOTALL)
    (tmp_path / "stripes.py").write_text(code)
    out = python(
        """
import CyDAS, stripes
run = CyDAS.search(dataset="stripes", space="nats", cells_per_stage=1, init_channels=4, image_size=8, batch_size=16,
                   sample_ratio=0.1, pretrain_epochs=1, search_iter=2, search_iter_epochs=1, device="cpu", threads=1,
                   report=False)
network = CyDAS.load(CyDAS.retrain(run, cells_per_stage=1, init_channels=4, epochs=3, batch_size=64, lr=0.1,
                                   cutout_length=0, device="cpu", threads=1, report=False))
print(network.classes, network.preprocess.transforms[-1].mean)
""",
        tmp_path,
        path=f"{ROOT}{os.pathsep}{tmp_path}",
    )
    assert "500 train images, 2 classes: across 250, down 250" in out
    assert out.endswith("['across', 'down'] [0.5, 0.5, 0.5]\n")


def test_a_file_that_cannot_be_run_is_named(tmp_path):
    (tmp_path / "random.py").write_text("")
    for file, word in {"none.py": "no such Python file", "random.py": "another module is called random"}.items():
        with pytest.raises(CydasError, match=f"{file}: .*{word}"):
            parse(RetrainConfig, "", ["--extension", str(tmp_path / file)])


def test_a_file_is_run_once_and_before_flags_are_read_and_no_record_can_name_one(tmp_path, monkeypatch):
    file = tmp_path / "counted_extension.py"
    file.write_text(f"print(file=open({str(tmp_path / 'ran')!r}, 'a'))\n")
    monkeypatch.setattr(sys, "path", sys.path[:])
    settings = tmp_path / "flags.yaml"
    settings.write_text(f"extension: {file}\n")
    for words in (["--extension", str(file)], ["--config", str(settings)]):
        config, _ = parse(RetrainConfig, "", words)
        assert config.extension == file and (tmp_path / "ran").read_text() == "\n"
    del sys.modules["counted_extension"]
    config = RetrainConfig()
    with pytest.raises(CydasError, match="its --space is 'other'.*--extension FILE"):
        take_over(config, {"space": "other", "extension": str(file)}, ["space"], "checkpoint")
    assert (tmp_path / "ran").read_text() == "\n"
