"""The programs as a user starts them: from the repository root, on digits, and with mistakes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from CyDAS.config import DetectConfig, EvaluationConfig, RetrainConfig, SearchConfig
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import load_checkpoint, save_checkpoint
from CyDAS.search import main as search
from CyDAS.spaces import load_architecture
from CyDAS.test import main as evaluate
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse

ROOT = Path(__file__).resolve().parents[1]
CELL = ROOT / "CyDAS/cells/dartsv2_genotype.json"
TINY = "--init_channels 2 --stem_multiplier 1 --image_size 12 --batch_size 16 --print_freq 1 --device cpu".split()
ROUNDS = "--sample_ratio 0.05 --pretrain_epochs 1 --search_iter 3 --search_iter_epochs 1 --nasnet_warmup 1".split()
SEARCH = [*TINY, *ROUNDS, "--regular", "--repeat_cell", "--ensemble_param"]
RETRAIN = [*TINY, *"--batch_size 240 --cutout_length 4 --drop_path_prob 0.2 --lr 0.1".split()]


def run_search(folder, name, *flags):
    search([*SEARCH, "--output_dir", str(folder), "--name", name, *flags])
    return folder / "search" / name


def run_retrain(folder, name, *flags):
    retrain([*RETRAIN, "--output_dir", str(folder), "--name", name, *flags])
    return folder / "retrain" / name


def last_alphas(run):
    found = json.loads((run / "alphas" / "round_003.json").read_text())
    assert found.pop("about")["config"]["name"] == run.name
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search, the retraining of what it found, and their folder."""
    folder = tmp_path_factory.mktemp("finished")
    run_search(folder, "first")
    run_retrain(folder, "first", "--epochs", "2")
    return folder


def test_a_search_writes_what_it_found(finished):
    run = finished / "search/first"
    architecture = load_architecture(run / "genotype.json", 3)
    assert len(architecture) == 3
    assert {p.name for p in (run / "alphas").iterdir()} == {f"round_{i:03d}.json" for i in (1, 2, 3)}
    assert (run / "cells/round_003_normal.gv").exists() and (run / "cells/round_003_reduce.gv").exists()
    assert list((run / "tensorboard").iterdir()) and "alpha entropy" in (run / "search.log").read_text()
    config = json.loads((run / "config.json").read_text())
    assert config["config"]["init_channels"] == 2 and "torch" in config["versions"]
    assert set(load_checkpoint(run / "search_resume.pth.tar")) == {"search", "processes", "about"}


def test_tensorboard_shows_both_networks_and_every_operation(finished):
    names = scalar_names(finished / "search/first/tensorboard")
    assert {
        "val/loss_search", "val/loss_evaluation", "val/loss_kd", "val/loss_regulariser", "val/top1_search",
        "val/top1_evaluation", "train/loss_search", "train/top1_search", "warmup/loss_evaluation",
        "lr/w", "lr/nas", "lr/alpha", "alphas/entropy", "operations/skip_connect", "operations/sep_conv_3x3",
    } <= names  # fmt: skip
    assert {"train/loss", "test/top1", "test/top5", "lr"} <= scalar_names(finished / "retrain/first/tensorboard")


def scalar_names(folder):
    """Names in TensorBoard's event files: length-framed records, the name a field of the summary's value."""
    from tensorboardX.proto.event_pb2 import Event

    names = set()
    for path in folder.iterdir():
        data, at = path.read_bytes(), 0
        while at < len(data):
            length = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + length])
            names |= {value.tag for value in event.summary.value}
            at += 16 + length
    return names


def test_a_retraining_writes_last_best_and_resume(finished):
    run = finished / "retrain/first"
    result = json.loads((run / "result.json").read_text())
    assert result["epochs"] == 2 and result["last"]["images"] == 359
    for name in ("last.pth.tar", "best.pth.tar"):
        assert {"model_main", "genotype", "config"} <= set(load_checkpoint(run / name))
    resume = load_checkpoint(run / "retrain_resume.pth.tar")
    assert {"model_main", "optimizer", "lr_scheduler", "best_top1", "best_top5", "sta_epoch"} <= set(resume)


def test_a_test_needs_only_the_name(finished, capsys):
    evaluate(["--output_dir", str(finished), "--name", "first"])
    expected = json.loads((finished / "retrain/first/result.json").read_text())["last"]
    printed = capsys.readouterr().out
    assert f"top-1 {expected['top1']:.2f} %  top-5 {expected['top5']:.2f} %  on 359 test images" in printed


def test_published_bare_state_dicts_are_tested_as_they_are(tmp_path, capsys):
    torch.manual_seed(0)
    layout = Layout(init_channels=4, image_size=16)
    network = RetrainNetwork(layout, load_architecture(CELL, 3), auxiliary=True)
    torch.save(network.state_dict(), tmp_path / "bare.pth.tar")
    flags = ["--resume", "--resume_name", str(tmp_path / "bare.pth.tar"), "--init_channels", "4"]
    evaluate([*flags, "--cell_file", str(CELL)])
    assert "on 359 test images" in capsys.readouterr().out
    with pytest.raises(CydasError, match="give its genotype with --cell_file"):
        evaluate(flags)
    with pytest.raises(CydasError, match="of another architecture"):
        evaluate([*flags, "--cell_file", str(CELL.with_name("cifar_genotype.json"))])


def test_two_searches_with_one_seed_find_the_same_alphas(finished, tmp_path):
    again = run_search(tmp_path, "again")
    assert last_alphas(again) == last_alphas(finished / "search/first")
    other = run_search(tmp_path, "other", "--seed", "1", "--search_iter", "2")
    assert (other / "genotype.json").exists()


def test_a_search_that_was_cut_off_ends_as_if_it_had_not(finished, tmp_path, monkeypatch):
    from CyDAS.engine.cycle import CyclicSearch

    whole = CyclicSearch._round
    monkeypatch.setattr(CyclicSearch, "_round", lambda self, *a: cut_off(self.round, lambda: whole(self, *a)))
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path, "cut")
    monkeypatch.undo()
    run = run_search(tmp_path, "cut", "--resume")
    assert last_alphas(run) == last_alphas(finished / "search/first")
    mine, theirs = (
        load_checkpoint(r / "search_resume.pth.tar")["search"]["joint"] for r in (run, finished / "search/first")
    )
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def cut_off(index, go_on):
    if index == 2:
        raise KeyboardInterrupt
    go_on()


def test_a_retraining_that_was_cut_off_ends_as_if_it_had_not(finished, tmp_path, monkeypatch):
    from CyDAS.engine.training import Training

    train_epoch, cell = Training.train_epoch, str(finished / "search/first/genotype.json")
    cut = lambda self, *a: cut_off(2 * self.epoch, lambda: None) or train_epoch(self, *a)  # noqa: E731
    monkeypatch.setattr(Training, "train_epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        run_retrain(tmp_path, "cut", "--epochs", "2", "--cell_file", cell)
    monkeypatch.undo()
    run = run_retrain(tmp_path, "cut", "--epochs", "2", "--cell_file", cell, "--resume")
    mine, theirs = (load_checkpoint(r / "last.pth.tar")["model_main"] for r in (run, finished / "retrain/first"))
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_an_earlier_run_is_not_touched_without_a_word(finished):
    before = (finished / "search/first/genotype.json").read_bytes()
    with pytest.raises(CydasError, match="--resume goes on with it, --overwrite deletes it"):
        run_search(finished, "first")
    with pytest.raises(CydasError, match="--alpha_lr was 0.0006, is 0.1"):
        run_search(finished, "first", "--resume", "--alpha_lr", "0.1")
    with pytest.raises(CydasError, match="--weight_decay was 0.0005, is 0.1"):
        run_retrain(finished, "first", "--epochs", "2", "--resume", "--weight_decay", "0.1")
    assert (finished / "search/first/genotype.json").read_bytes() == before


def copy_of_finished(finished, folder):
    """The finished search, in a folder of the test's own."""
    return Path(shutil.copytree(finished / "search/first", folder / "search/first"))


def test_a_checkpoint_from_before_a_flag_existed_goes_on(finished, tmp_path):
    run = copy_of_finished(finished, tmp_path)
    checkpoint = load_checkpoint(run / "search_resume.pth.tar")
    del checkpoint["about"]["config"]["method"]
    save_checkpoint(run / "search_resume.pth.tar", checkpoint)
    run_search(tmp_path, "first", "--resume")
    with pytest.raises(CydasError, match="--method was cdarts, is darts"):
        run_search(tmp_path, "first", "--resume", "--method", "darts")


def test_overwrite_deletes_runs_only(finished, tmp_path):
    (tmp_path / "search/mine").mkdir(parents=True)
    (tmp_path / "search/mine/thesis.txt").write_text("all there is")
    with pytest.raises(CydasError, match="it is not deleted"):
        run_search(tmp_path, "mine", "--overwrite")
    for name in ("", ".", "..", "../..", "a/b", "/tmp"):
        with pytest.raises(CydasError, match="--name is a folder's name"):
            run_search(tmp_path, name, "--overwrite")
    assert (tmp_path / "search/mine/thesis.txt").read_text() == "all there is"


def test_a_checkpoint_is_not_taken_for_one_of_an_architecture_with_the_same_weights(finished, tmp_path):
    """Sources of edges and operations without weights leave no trace in a state dict."""
    strings = json.loads((finished / "search/first/genotype.json").read_text())
    genotype = load_architecture(finished / "search/first/genotype.json", 3)[0]
    (op, source), second = genotype.normal[3]
    other = genotype._replace(normal=[*genotype.normal[:3], [(op, 4 if source != 4 else 3), second]])
    (tmp_path / "other.json").write_text(json.dumps(dict.fromkeys(strings, repr(other))))
    with pytest.raises(CydasError, match="of another architecture"):
        run_retrain(finished, "first", "--epochs", "3", "--resume", "--cell_file", str(tmp_path / "other.json"))
    with pytest.raises(CydasError, match="of another architecture"):
        evaluate(["--output_dir", str(finished), "--name", "first", "--cell_file", str(tmp_path / "other.json")])


def test_a_failed_resume_leaves_nothing_behind(tmp_path):
    for run in (run_search, lambda *a: run_retrain(*a, "--cell_file", str(CELL))):
        with pytest.raises(CydasError, match="there is no such file"):
            run(tmp_path, "new", "--resume")
    assert not list(tmp_path.rglob("*.log"))


@pytest.mark.parametrize(
    ("kind", "flags"),
    [
        (SearchConfig, {"w_lr": "-1", "alpha_lr": "0", "w_momentum": "1", "w_grad_clip": "0", "loss_T": "0"}),
        (SearchConfig, {"sample_ratio": "1.1", "regular_coeff": "-1", "image_size": "0", "batch_size": "1"}),
        (RetrainConfig, {"lr": "nan", "mixup_alpha": "nan", "aux_weight": "inf", "epochs": "0", "warmup_epochs": "-1"}),
        (RetrainConfig, {"drop_path_prob": "1", "label_smooth": "1", "grad_clip": "-1", "seed": str(2**63)}),
        (EvaluationConfig, {"batch_size": "0", "threads": "0", "workers": "-1"}),
    ],
)
def test_values_out_of_bounds_are_refused_by_the_name_of_their_flag(kind, flags):
    needed = ["--search_iter", "6"] if kind is SearchConfig else []
    for name, value in flags.items():
        with pytest.raises(CydasError, match=f"--{name} must be "):
            parse(kind, "", [*needed, f"--{name}={value}"])


def start(*command, **environment):
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300
    )


@pytest.mark.parametrize("program", ["search", "retrain", "test"])
@pytest.mark.parametrize("how", ["file", "module"])
def test_programs_start_from_the_repository_root(program, how):
    command = [f"CyDAS/{program}.py"] if how == "file" else ["-m", f"CyDAS.{program}"]
    result = start(sys.executable, *command, "--help")
    assert result.returncode == 0, result.stderr
    assert "--init_channels" in result.stdout


@pytest.mark.parametrize("program", ["search", "retrain", "test"])
def test_programs_say_how_threads_wait_before_torch_is_imported(program):
    """OpenMP reads it once; without it one more busy program on the cores slows a step down a hundredfold."""
    code = f"""
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.meta_path.remove(self)
            print("torch finds", os.environ.get("GOMP_SPINCOUNT"))
sys.meta_path.insert(0, Watch())
sys.argv = ["{program}", "--help"]
runpy.run_path("CyDAS/{program}.py", run_name="__main__")
"""
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert "torch finds 10000" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("program", "flags", "word"),
    [
        ("search", ["--search_iter", "3", "--pretrain_epochs", "3"], "no cycle is left"),
        ("search", ["--search_iter", "6", "--n_classes", "100"], "--n_classes 100: the data set digits has 10"),
        ("search", ["--search_iter", "6", "--image_size", "30"], "multiple of 4"),
        (
            "search",
            ["--search_iter", "6", "--dataset", "folder", "--train_dir", "nowhere"],
            "there is no folder nowhere",
        ),
        ("search", ["--search_iter", "6", "--resume"], "search_resume.pth.tar: there is no such file"),
        ("retrain", ["--cell_file", "nowhere.json"], "nowhere.json: there is no such file"),
        ("retrain", [], "genotype.json: there is no such file"),
        ("retrain", ["--cell_file", str(CELL), "--drop_path_prob", "1"], "--drop_path_prob"),
        ("test", ["--resume_name", "nowhere.pth.tar"], "nowhere.pth.tar: there is no such file"),
        ("test", ["--resume_name", "README.md"], "README.md: it is damaged"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, program, flags, word):
    result = start(sys.executable, f"CyDAS/{program}.py", "--output_dir", str(tmp_path), "--name", "x", *flags)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert word in result.stderr


def test_two_processes_search_and_retrain_under_torchrun(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    one = {"OMP_NUM_THREADS": "1"}
    result = start(*torchrun, "CyDAS/search.py", *SEARCH, "--search_iter", "2", "--output_dir", str(tmp_path), **one)
    assert result.returncode == 0, result.stderr
    result = start(*torchrun, "CyDAS/retrain.py", *RETRAIN, "--epochs", "1", "--output_dir", str(tmp_path), **one)
    assert result.returncode == 0, result.stderr
    result = start(*torchrun, "CyDAS/test.py", "--output_dir", str(tmp_path), **one)
    assert result.returncode == 0, result.stderr
    last = json.loads((tmp_path / "retrain/default/result.json").read_text())["last"]
    assert f"top-1 {last['top1']:.2f} %" in result.stdout and "on 359 test images" in result.stdout


def test_defaults_are_the_published_ones():
    search, _ = parse(SearchConfig, "", ["--search_iter", "6"])
    expected = {
        "w_lr": 0.05, "w_lr_min": 0.001, "w_momentum": 0.9, "w_weight_decay": 3e-4, "w_grad_clip": 5, "alpha_lr": 6e-4,
        "alpha_weight_decay": 1e-3, "pretrain_epochs": 5, "search_iter_epochs": 5, "nasnet_lr": 0.1, "nasnet_warmup": 5,
        "loss_alpha": 1, "loss_T": 2, "interactive_type": 0, "regular_ratio": 0.5, "regular_coeff": 5,
        "sample_ratio": 0.2, "batch_size": 128, "seed": 0,
    }  # fmt: skip
    assert {key: getattr(search, key) for key in expected} == expected and SearchConfig().search_iter == 5
    retrain, _ = parse(RetrainConfig, "", [])
    expected = {
        "lr": 0.025, "momentum": 0.9, "weight_decay": 5e-4, "grad_clip": 5, "epochs": 600, "warmup_epochs": 5,
        "init_channels": 36, "aux_weight": 0.4, "cutout_length": 16, "label_smooth": 0.1, "drop_path_prob": 0.3,
        "mixup_alpha": 0, "resume_name": "retrain_resume.pth.tar", "batch_size": 128,
    }  # fmt: skip
    assert {key: getattr(retrain, key) for key in expected} == expected


# fmt: off
PUBLISHED = {
    "run_search_cifar_1gpu": (SearchConfig, {
        "batch_size": 64, "w_lr": 0.08, "nasnet_lr": 0.08, "search_iter": 32, "interactive_type": 3, "fix_head": True,
        "regular_ratio": 0.667,
    }),
    "run_search_cifar_4gpus": (SearchConfig, {
        "batch_size": 64, "w_lr": 0.2, "nasnet_lr": 0.2, "pretrain_epochs": 2, "sample_ratio": 1.0, "repeat_cell": True,
    }),
    "run_search_imagenet": (SearchConfig, {
        "w_lr": 0.8, "stem_multiplier": 1, "search_iter": 40, "nasnet_warmup": 3, "fix_head": False,
        "alpha_weight_decay": 1e-5, "sample_ratio": 0.2,
    }),
    "run_retrain_cifar_1gpu": (RetrainConfig, {
        "lr": 0.025, "epochs": 600, "warmup_epochs": 0, "weight_decay": 5e-4, "drop_path_prob": 0.3, "label_smooth": 0,
        "cutout_length": 16,
    }),
    "run_retrain_cifar_4gpus": (RetrainConfig, {"lr": 0.1, "batch_size": 128, "sync_bn": True}),
    "run_retrain_imagenet": (RetrainConfig, {
        "lr": 0.5, "epochs": 250, "init_channels": 48, "weight_decay": 3e-5, "drop_path_prob": 0, "cutout_length": 0,
        "label_smooth": 0.1,
    }),
    "run_test_cifar": (EvaluationConfig, {"init_channels": 36, "dataset": "cifar10"}),
    "run_test_imagenet": (EvaluationConfig, {"init_channels": 48, "dataset": "imagenet"}),
    "run_detect_coco": (DetectConfig, {
        "backbone": "cdarts_b", "width": 256, "short_side": 800, "long_side": 1333, "batch_size": 2, "epochs": 12,
        "lr": 0.02, "reference_batch": 16, "lr_epochs": [8, 11], "warmup_steps": 500, "momentum": 0.9,
        "weight_decay": 1e-4, "grad_clip": 35, "flip": True, "sync_bn": True,
    }),
    "run_test_detect": (DetectConfig, {"eval_only": True}),
}
# fmt: on


@pytest.mark.parametrize("script", PUBLISHED)
@pytest.mark.parametrize("folder", ["scripts", "CyDAS/scripts"])
def test_run_scripts_carry_the_published_settings_and_pass_flags_on(tmp_path, script, folder):
    """The script is run with a stand-in for Python that prints the command it would have started."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 0; else printf "%s\\n" "$@"; fi\n')
    stand_in.chmod(0o755)
    result = start("bash", f"{folder}/{script}.sh", "--seed", "7", PYTHON=str(stand_in))
    assert result.returncode == 0 and "no GPU here: running on the CPU" in result.stderr
    program, *flags = result.stdout.splitlines()
    kind, expected = PUBLISHED[script]
    config, _ = parse(kind, "", flags)
    assert (ROOT / program).exists() and config.seed == 7
    assert {key: getattr(config, key) for key in expected} == expected


def test_a_dry_run_says_what_the_run_will_need_and_writes_nothing(tmp_path, capsys):
    run_search(tmp_path, "dry", "--dry_run")
    text = capsys.readouterr().out
    for word in ("M parameters", "multiply-accumulates", "step, warm-up", "step, evaluation warm-up", "step, joint"):
        assert word in text
    assert "peak memory" in text and "the whole run:" in text
    # 48 images of 720 in each half, 2 steps an epoch: a warm-up round, 2 cycles of 2 epochs
    assert ", 2 times" in text and text.count(", 4 times") >= 2
    run_retrain(tmp_path, "dry", "--dry_run", "--cell_file", str(CELL), "--epochs", "3")
    text = capsys.readouterr().out
    assert "training step" in text and ", 18 times" in text and "test step" in text
    assert not list(tmp_path.iterdir())


def test_a_dry_run_counts_the_search_network_where_there_is_no_evaluation_network(tmp_path, capsys):
    figures = []
    for method, what in (("cdarts", "both networks"), ("darts", "search network")):
        run_search(tmp_path, "dry", "--dry_run", "--method", method)
        found = re.search(rf"{what}: (\S+) M parameters, (\S+) M multiply-accumulates", capsys.readouterr().out)
        figures.append([float(number) for number in found.groups()])
    assert all(own < both for both, own in zip(*figures, strict=True))


def test_resume_or_start_starts_and_goes_on(finished, tmp_path, monkeypatch):
    from CyDAS.engine.cycle import CyclicSearch

    original, left = CyclicSearch.train_update, [1]

    def cut(self, *batch):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, *batch)

    for steps in (1, 4):  # before the first checkpoint, and after one
        left[0] = steps
        with monkeypatch.context() as patch:
            patch.setattr(CyclicSearch, "train_update", cut)
            with pytest.raises(KeyboardInterrupt):
                run_search(tmp_path, "cut", "--resume_or_start")
    run = run_search(tmp_path, "cut", "--resume_or_start")
    assert last_alphas(run)["alphas"] == last_alphas(finished / "search/first")["alphas"]


def test_a_restart_goes_on_in_its_own_folder_only(finished, tmp_path, monkeypatch):
    copy_of_finished(finished, tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another launch")
    with pytest.raises(CydasError, match="holds an earlier run"):
        run_search(tmp_path, "first")
    record = tmp_path / "search/first/config.json"
    content = json.loads(record.read_text())
    content["machine"]["launch"] = "another launch"
    record.write_text(json.dumps(content))
    run_search(tmp_path, "first")  # goes on from its checkpoint, after which nothing is left to do
    assert (tmp_path / "search/first/search.log").read_text().count("0 warm-up rounds and 0 cycles left") == 1


def test_learning_rates_are_scaled_by_the_global_batch(tmp_path):
    run = run_search(tmp_path, "scaled", "--scale_lr", "--reference_batch", "8", "--w_lr", "0.01", "--accum_steps", "2")
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["w_lr"] == pytest.approx(0.04) and config["alpha_lr"] == 6e-4
    assert "--w_lr 0.04: 0.01 times 4" in (run / "search.log").read_text()
    assert "an update sees 32 images: 16 at a time, 2 of these one after the other" in (run / "search.log").read_text()
    with pytest.raises(CydasError, match="--scale_lr needs --reference_batch"):
        run_search(tmp_path, "x", "--scale_lr")


def test_halves_without_common_classes_and_a_missing_apex_are_said(tmp_path):
    from tests.test_data import make_folder

    make_folder(tmp_path / "images", images=8)
    flags = ["--dataset", "folder", "--data_dir", str(tmp_path / "images"), "--image_size", "32", "--workers", "0"]
    flags += ["--model_type", "cifar", "--batch_size", "4", "--sample_ratio", "1"]
    run = run_search(tmp_path, "sorted", *flags, "--use_apex")
    log = (run / "search.log").read_text()
    assert "train and val have only 0 of 2 classes in common: --split class" in log
    assert log.count("--use_apex: apex is not installed") == 1
    assert "in common" not in (run_search(tmp_path, "by_class", *flags, "--split", "class") / "search.log").read_text()


def test_resume_or_start_deletes_no_checkpoint(tmp_path):
    run = run_retrain(tmp_path, "done", "--cell_file", str(CELL), "--epochs", "1")
    with pytest.raises(CydasError, match="holds an earlier run"):
        run_retrain(tmp_path, "done", "--cell_file", str(CELL), "--resume_or_start", "--resume_name", "typo.pth.tar")
    assert (run / "last.pth.tar").exists()


def test_a_dry_run_of_several_seeds_is_refused(tmp_path):
    with pytest.raises(CydasError, match="leave out --seeds"):
        run_search(tmp_path, "x", "--seeds", "1", "2", "--dry_run")
