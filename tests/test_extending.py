"""What docs/extending.md says is all that it takes."""

import json
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from torch import nn

from CyDAS.models.cells.cell_plan import NoPlan, Operation, plan_cell

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
