"""Flags: which win, which are remembered, which have no effect, and which file a name means."""

import re
import subprocess
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import CyDAS.retrain
import CyDAS.search
import CyDAS.test
from CyDAS.config import IN_MEMORY, DetectConfig, EvaluationConfig, RetrainConfig, SearchConfig, SegmentConfig
from CyDAS.effects import RULES, idle_flags
from CyDAS.engine.optim import scale_learning_rates
from CyDAS.engine.training import Training
from CyDAS.models.cells.genotype import make_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.remembered import recall
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import save_checkpoint
from CyDAS.runs.resume import check_continuation, find_file
from CyDAS.search import main as search
from CyDAS.spaces import DartsSpace
from CyDAS.spaces.darts import make_layout
from CyDAS.tasks.classification import Accuracy
from CyDAS.test import main as evaluate
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse, plain, to_arguments

ROOT = Path(__file__).resolve().parents[1]
CELL = ROOT / "CyDAS/cells/dartsv2_genotype.json"
KINDS = {"search": SearchConfig, "retrain": RetrainConfig, "test": EvaluationConfig, "segment": SegmentConfig,
         "detect": DetectConfig}  # fmt: skip
#: A cell with few tensors.
LIGHT = [
    make_genotype([[("max_pool_3x3", 0), ("skip_connect", 1)]] * 4, [[("sep_conv_3x3", 0), ("skip_connect", 1)]] * 4)
] * 3
ONE = Process(0, 1, torch.device("cpu"))


def save_network(path, **settings):
    """A CyDAS checkpoint of an untrained network of two channels on ten classes."""
    config = RetrainConfig(init_channels=2, stem_multiplier=1, image_size=12, model_type="cifar", **settings)
    torch.manual_seed(0)
    layout = Layout("cifar", 2, 1, image_size=12)
    network = RetrainNetwork(layout, LIGHT, auxiliary=False)
    genotype = DartsSpace.to_strings(LIGHT)
    save_checkpoint(
        path, {"model_main": network.state_dict(), "genotype": genotype, "config": plain(config)}, keep=False
    )
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """``a/val`` and ``b/val``: ten classes, one and two images each."""
    root = tmp_path_factory.mktemp("folders")
    for name, images in (("a", 1), ("b", 2)):
        for label in range(10):
            folder = root / name / "val" / f"class{label}"
            folder.mkdir(parents=True)
            for index in range(images):
                pixels = np.full((8, 8, 3), 20 * label + index, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.fixture
def counted(monkeypatch):
    """A test that counts its images instead of running the network."""

    def count(network, task, batches, precision):
        return Accuracy(0.0, 0.0, 0.0, sum(len(labels) for _, labels in batches.epoch()))

    monkeypatch.setattr(CyDAS.test, "count_macs", lambda *a: 0)
    monkeypatch.setattr(CyDAS.test, "evaluate", count)


# -- given and remembered ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("remembered", "given", "tested"),
    [
        ({"data_dir": "a"}, [], "a/val"),
        ({"data_dir": "a"}, ["--data_dir", "b"], "b/val"),
        ({"data_dir": "a"}, ["--test_dir", "b/val"], "b/val"),
        ({"train_dir": "a/train", "test_dir": "a/val"}, [], "a/val"),
        ({"train_dir": "a/train", "test_dir": "a/val"}, ["--data_dir", "b"], "b/val"),
        ({"data_dir": "a", "test_dir": "b/val"}, ["--data_dir", "a"], "a/val"),
        ({"train_dir": "a/train", "test_dir": "a/val"}, ["--dataset", "folder"], "a/val"),
        ({"test_dir": "a/val"}, ["--dataset", "folder", "--data_dir", "b", "--test_dir", "a/val"], "a/val"),
    ],
)
@pytest.mark.usefixtures("counted")
def test_the_images_that_were_given_are_tested_and_named(
    tmp_path, folders, monkeypatch, capsys, remembered, given, tested
):
    monkeypatch.chdir(folders)
    path = save_network(tmp_path / "net.pth.tar", dataset="folder", **{k: Path(v) for k, v in remembered.items()})
    evaluate(["--resume_name", str(path), "--workers", "0", *given])
    images = 10 if tested == "a/val" else 20
    assert f"on {images} test images of folder in {folders / tested}\n" in capsys.readouterr().out


def recalled(saved, *given):
    config, names = parse(EvaluationConfig, "", list(given))
    recall(config, names, plain(RetrainConfig()) | saved, Path("net"))
    return config


def test_another_data_set_keeps_nothing_of_where_the_first_one_lies_but_the_image_size():
    saved = {"dataset": "folder", "data_dir": "pets", "test_dir": "pets/some", "image_size": 64, "n_classes": 37}
    config = recalled(saved, "--dataset", "cifar10")
    assert (config.dataset, config.data_dir, config.test_dir) == ("cifar10", EvaluationConfig().data_dir, None)
    assert config.image_size == 64 and config.n_classes is None
    assert recalled(saved, "--image_size", "48").image_size == 48


@pytest.mark.parametrize(("dataset", "pixels"), [("digits", 16), ("cifar100", 32), ("imagenet", 224)])
def test_the_image_size_of_a_training_without_that_flag_is_its_data_sets(dataset, pixels):
    config = recalled({"dataset": dataset, "model_type": "cifar"}, "--dataset", "folder", "--test_dir", "x")
    assert config.image_size == pixels and config.test_dir == Path("x")


def test_every_setting_of_the_network_comes_from_the_checkpoint_and_none_may_contradict_it():
    saved = {"init_channels": 8, "stem_multiplier": 1, "layer_num": 4, "model_type": "imagenet", "res_stem": True}
    config = recalled(saved)
    assert {name: getattr(config, name) for name in saved} == saved
    assert recalled(saved, "--init_channels", "8", "--res_stem").init_channels == 8
    for flags, word in {
        ("--init_channels", "36"): "--init_channels is 8 there, 36 was given",
        ("--stem_multiplier", "3"): "--stem_multiplier is 1 there",
        ("--layer_num", "3"): "--layer_num is 4",
        ("--model_type", "cifar"): "--model_type is imagenet",
        ("--no-res_stem",): "--res_stem is True there, False was given",
        ("--space", "nats"): "--space is darts there, nats was given",
    }.items():
        with pytest.raises(CydasError, match=f"net is of another architecture or size: .*{word}"):
            recalled(saved, *flags)
    nats = recalled({"space": "nats", "cells_per_stage": 2}, "--stem_multiplier", "7")
    assert nats.cells_per_stage == 2 and nats.stem_multiplier == 7  # which means nothing there
    with pytest.raises(CydasError, match="--cells_per_stage is 2 there, 5"):
        recalled({"space": "nats", "cells_per_stage": 2}, "--cells_per_stage", "5")


def test_settings_that_no_flag_can_have_are_refused():
    for wrong in ({"dataset": "mnist"}, {"init_channels": "many"}, {"test_dir": 7}, {"res_stem": None}):
        with pytest.raises(CydasError, match=f"checkpoint net: its --{next(iter(wrong))} is "):
            recalled(wrong)


@pytest.mark.usefixtures("counted")
def test_folders_for_a_network_of_another_kind_of_data_need_a_word(tmp_path, folders):
    path = save_network(tmp_path / "net.pth.tar", dataset="digits")
    flags = ["--resume_name", str(path), "--test_dir", str(folders / "a/val")]
    with pytest.raises(CydasError, match="--test_dir has no effect with --dataset digits.*give --dataset folder"):
        evaluate(flags)
    evaluate([*flags, "--dataset", "folder", "--workers", "0"])


def command_of(script, tmp_path):
    """The flags of every program that a script starts, as (program, flags); it is run with a stand-in for Python."""
    stand_in = tmp_path / "python"
    stand_in.write_text('#!/bin/sh\nif [ "$1" = -c ]; then echo 0; else printf "%s\\n" "$@"; fi\n')
    stand_in.chmod(0o755)
    environment = {"PYTHON": str(stand_in), "PATH": "/usr/bin:/bin"}
    result = subprocess.run(["bash", str(script)], cwd=ROOT, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    starts = [i for i, line in enumerate(lines) if re.fullmatch(r"CyDAS/\w+\.py", line)]
    ends = [next((j for j in range(i + 1, len(lines)) if re.match(r"==|CyDAS/\w+\.py$|scripts/", lines[j])), len(lines))
            for i in starts]  # fmt: skip
    return [(Path(lines[i]).stem, lines[i + 1 : end]) for i, end in zip(starts, ends, strict=True)]


@pytest.mark.usefixtures("counted")
def test_the_test_scripts_take_a_checkpoint_of_any_size(tmp_path, capsys):
    save_network(tmp_path / "retrain/mine/last.pth.tar", dataset="digits")
    for script in ("run_test_cifar.sh", "run_test_imagenet.sh"):
        ((_, flags),) = command_of(ROOT / "scripts" / script, tmp_path)
        evaluate([*flags, "--output_dir", str(tmp_path), "--name", "mine"])
        assert "on 359 test images of digits (scikit-learn's)" in capsys.readouterr().out
        config, _ = parse(EvaluationConfig, "", [*flags, "--init_channels", "24"])
        assert config.init_channels == 24 and config.dataset == ("cifar10" if "cifar" in script else "imagenet")


def test_the_command_for_a_child_says_the_same_also_where_a_value_starts_with_a_dash():
    flags = ["--output_dir=-runs", "--search_iter=6", "--seeds", "1", "2", "--regular", "--no-tf32", "--alpha_lr=0.001"]
    config, given = parse(SearchConfig, "", flags)
    assert parse(SearchConfig, "", to_arguments(config, given)) == (config, given)


# -- the network's structure ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pixels", [28, 32, 48, 64, 96, 180, 224, 256])
@pytest.mark.parametrize("dataset", ["folder", "imagenet", "cifar10"])
def test_the_structure_is_imagenets_for_224_pixels_and_cifars_else(pixels, dataset):
    config = RetrainConfig(dataset=dataset, init_channels=2)
    layout = make_layout(config, SimpleNamespace(n_classes=10, input_channels=3, image_size=pixels))
    assert layout.model_type == config.model_type == ("imagenet" if pixels == 224 else "cifar")


@pytest.mark.parametrize(
    ("pixels", "flags", "word"),
    [
        (299, {}, "take 296 or 300"),
        (30, {}, "take 28 or 32"),
        (5, {}, "take 12"),
        (180, {"model_type": "imagenet"}, "take 160 or 192; or --model_type cifar"),
    ],
)
def test_an_image_size_that_no_network_takes_is_an_error_with_those_next_to_it(pixels, flags, word):
    data = SimpleNamespace(n_classes=10, input_channels=3, image_size=pixels)
    with pytest.raises(CydasError, match=f"not {pixels}: {word}"):
        make_layout(RetrainConfig(**flags), data)


def test_checkpoints_from_before_the_structure_was_recorded_are_of_the_one_that_was_built_then():
    for dataset, expected in {"folder": "imagenet", "imagenet": "imagenet", "digits": "cifar"}.items():
        assert recalled({"dataset": dataset, "image_size": 64, "model_type": None}).model_type == expected
    assert recalled({"space": "nats", "dataset": "folder", "model_type": None}).model_type is None
    saved = plain(RetrainConfig()) | {"model_type": None}
    check_continuation(saved, RetrainConfig(model_type="cifar"), Path("x"))
    with pytest.raises(CydasError, match="--model_type was imagenet, is cifar"):
        check_continuation(saved | {"model_type": "imagenet"}, RetrainConfig(model_type="cifar"), Path("x"))


def test_a_run_goes_on_where_a_flag_that_means_nothing_in_its_space_has_changed():
    saved = plain(SearchConfig(space="nats", stem_multiplier=1))
    check_continuation(saved, SearchConfig(space="nats"), Path("x"))
    with pytest.raises(CydasError, match="--stem_multiplier was 1, is 3"):
        check_continuation(saved | {"space": "darts"}, SearchConfig(), Path("x"))


# -- which file a name means ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "present", "expected"),
    [
        ("c", False, ["run/c", "c"], "run/c"),
        ("c", False, ["c"], "run/c"),
        ("c", True, ["run/c", "c"], "run/c"),
        ("c", True, ["run/c.previous", "c"], "run/c"),
        ("c", True, ["c"], "c"),
        ("c", True, [], "run/c"),
        ("./c", True, ["run/c", "c"], "c"),
        ("old/c", True, ["old/c", "run/old/c"], "old/c"),
        ("old/c", True, ["run/old/c"], "run/old/c"),
    ],
)
def test_only_a_name_that_was_given_may_be_a_path_and_the_run_comes_first(
    tmp_path, monkeypatch, name, given, present, expected
):
    monkeypatch.chdir(tmp_path)
    for file in present:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    notes = []
    assert find_file(name, Path("run"), given, notes.append) == Path(expected)
    both = name == "c" and given and len(present) == 2  # which is said
    assert notes == (["c is the run's run/c; the one in the current folder is ./c"] if both else [])


@pytest.mark.usefixtures("counted")
def test_a_checkpoint_that_lies_in_the_current_folder_is_not_taken_for_the_runs(tmp_path, monkeypatch, capsys):
    save_network(tmp_path / "retrain/mine/last.pth.tar", dataset="digits")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("last.pth.tar").write_text("of something else")
    evaluate(["--output_dir", str(tmp_path), "--name", "mine"])
    assert capsys.readouterr().out.startswith(f"{tmp_path}/retrain/mine/last.pth.tar: ")
    monkeypatch.setattr(CyDAS.retrain, "count_macs", lambda *a: 0)
    evaluate(["--output_dir", str(tmp_path), "--name", "mine", "--resume_name", "last.pth.tar"])
    assert "the one in the current folder is ./last.pth.tar" in capsys.readouterr().out
    with pytest.raises(CydasError, match="retrain/other/last.pth.tar: there is no such file"):
        evaluate(["--output_dir", str(tmp_path), "--name", "other"])
    Path("retrain_resume.pth.tar").write_text("of something else")
    with pytest.raises(CydasError, match="checkpoint .*retrain/other/retrain_resume.pth.tar: there is no such file"):
        retrain(f"--output_dir {tmp_path} --name other --cell_file {CELL} --init_channels 2 --resume".split())


# -- flags without effect ------------------------------------------------------------------------------------------

DARTS = "--search_iter 6 --method darts "
UNTRAINED = (
    "--overwrite --seed 3 --print_freq 9 --sync_bn --use_apex --resume --resume_or_start --dry_run --on_nan skip "
    "--checkpoint_minutes 3 --accum_steps 2 --scale_lr --reference_batch 8 --batch_size 8 --short_sides 64 --flip "
    "--long_side 99 --repeats 2 --pictures 3 --backbone_checkpoint x --epochs 3 --lr 0.1 --warmup_steps 3 "
    "--warmup_lr 0.01 --momentum 0.8 --weight_decay 0.1 --grad_clip 3 --aux_weight 0.1 --ohem_threshold 0.5 "
    "--ohem_share 4 --bn_momentum 0.1 --ema_decay 0.9 --report --tracker none --optimizer rmsproptf --opt_alpha 0.8 "
    "--opt_eps 0.1 --no_decay_1d"
)
IDLE = {  # program, flags: those which have no effect
    ("test", "--overwrite --seed 3 --print_freq 9 --use_aa --train_dir x --sync_bn --use_apex"): "overwrite seed "
    "print_freq use_aa train_dir sync_bn use_apex",
    ("search", "--search_iter 6 --data_dir x"): "data_dir",
    ("retrain", "--dataset folder --data_dir x --train_dir y --test_dir z"): "data_dir",
    ("test", "--dataset folder --data_dir x --test_dir z"): "data_dir",
    ("retrain", "--dataset folder --data_dir x --test_dir z"): "",
    ("retrain", "--workers 2 --max_bad_images 3"): "workers max_bad_images",
    ("test", "--dataset cifar10 --workers 2"): "workers",
    ("search", DARTS + "--regular --regular_ratio 0.2 --regular_coeff 3"): "regular regular_ratio regular_coeff",
    ("search", DARTS + "--ensemble_param --ensemble_sum --fix_head --share_fc"): "ensemble_param ensemble_sum fix_head "
    "share_fc",
    ("search", DARTS + "--loss_alpha 2 --loss_T 3 --interactive_type 0"): "loss_alpha loss_T interactive_type",
    ("search", DARTS + "--nasnet_lr 0.2 --nasnet_warmup 2 --clip_apart"): "nasnet_lr nasnet_warmup clip_apart",
    ("search", DARTS + "--bn_affine"): "bn_affine",
    ("search", DARTS + "--bn_affine --space nats"): "",
    ("search", "--search_iter 6 --regular_ratio 0.2 --regular_coeff 3"): "regular_ratio regular_coeff",
    ("search", "--search_iter 6 --regular --regular_coeff 0"): "regular",
    ("search", "--search_iter 6 --w_lr_min 0.1"): "w_lr_min",
    ("search", "--search_iter 6 --w_lr_min 0.1 --lr_schedule cosine"): "",
    ("search", "--search_iter 6 --jobs 2 --launcher slurm --slurm mem=1G"): "jobs launcher slurm",
    ("search", DARTS + "--space nats --lone_teacher --evaluation_cells 3"): "lone_teacher evaluation_cells",
    ("search", "--search_iter 6 --evaluation_cells 3 --lone_teacher"): "evaluation_cells",
    ("search", "--search_iter 6 --finalists 2 --finalist_cells 3"): "finalist_cells",
    ("search", "--search_iter 6 --space nats --layer_num 3 --finalist_cells 3"): "finalist_cells",
    ("search", "--search_iter 6 --finalist_rounds 3 --finalist_epochs 2 --finalist_lr 0.2"): "finalist_rounds "
    "finalist_epochs finalist_lr",
    ("search", "--search_iter 6 --finalists 2 --finalist_rounds 3"): "",
    ("search", "--search_iter 6 --finalists 2 --finalist_rounds 3 --finalist_noise 1"): "finalist_rounds",
    ("search", "--search_iter 6 --finalist_noise 1"): "finalist_noise",
    ("search", "--search_iter 6 --finalists 2 --finalist_sweep --finalist_noise 1"): "finalist_noise",
    ("search", "--search_iter 6 --finalists 2 --finalist_sweep --finalist_rounds 3"): "",
    ("search", "--search_iter 6 --finalist_sweep --finalist_margin 1 --finalist_size 1 --finalist_val 0.5 "
     "--finalist_image_size 8 --finalist_largest"):
    "finalist_sweep finalist_margin finalist_size finalist_val finalist_image_size finalist_largest",
    ("search", "--search_iter 6 --finalists 2 --finalist_largest"): "finalist_largest",
    ("search", "--search_iter 6 --finalists 2 --finalist_sweep --finalist_largest"): "",
    ("search", "--search_iter 6 --finalist_runoff 2 --finalist_runoff_epochs 2 --finalist_runoff_margin 1"):
    "finalist_runoff finalist_runoff_epochs finalist_runoff_margin",
    ("search", "--search_iter 6 --finalists 2 --finalist_runoff_epochs 2"): "finalist_runoff_epochs",
    ("search", "--search_iter 6 --finalists 2 --finalist_runoff_margin 1"): "finalist_runoff_margin",
    ("search", "--search_iter 6 --finalists 2 --finalist_runoff 2 --finalist_runoff_epochs 2 "
     "--finalist_runoff_margin 0"): "",
    ("search", "--search_iter 6 --dataset folder --test_seed 3"): "test_seed",
    ("search", "--search_iter 6 --dataset folder --test_seed 3 --test_share 0.2"): "",
    ("search", "--search_iter 6 --cells_per_stage 2"): "cells_per_stage",
    ("search", "--search_iter 6 --space chain --target_tolerance 0.1 --target_flops 300M"): "",
    ("retrain", "--space nats --stem_multiplier 1 --model_type cifar --drop_path_prob 0.1 --cells_per_stage 3"):
        "stem_multiplier model_type drop_path_prob",
    ("retrain", "--warmup_epochs 3 --batch_size 256"): "warmup_epochs",
    ("retrain", "--warmup_epochs 3 --batch_size 128 --accum_steps 3"): "",
    ("retrain", "--warmup_epochs 3 --warmup_lr 0 --lr_schedule timm_cosine --min_lr 0 --cooldown_epochs 3"): "",
    ("retrain", "--warmup_lr 0 --min_lr 0 --cooldown_epochs 3 --decay_epochs 2 --decay_rate 0.9"): "warmup_lr min_lr "
    "cooldown_epochs decay_epochs decay_rate",
    ("retrain", "--lr_schedule timm_step --warmup_epochs 0 --warmup_lr 1e-3 --decay_epochs 2 --min_lr 1e-3"):
        "warmup_lr min_lr",
    ("retrain", "--opt_alpha 0 --opt_eps 1 --nesterov --cooldown_epochs 0"): "opt_alpha opt_eps",
    ("retrain", "--optimizer rmsproptf --opt_alpha 0 --opt_eps 1 --nesterov"): "nesterov",
    ("retrain", "--no_decay_1d --weight_decay 0"): "no_decay_1d",
    ("retrain", "--interpolation random --rand_augment rand-m9 --random_erase 0.2"): "interpolation",
    ("test", "--dataset cifar10 --crop_pct 0.9 --test_interpolation bicubic"): "crop_pct test_interpolation",
    ("retrain", "--dataset folder --crop_pct 0.9 --test_interpolation bicubic --interpolation random"): "",
    ("test", "--amp_dtype bf16"): "amp_dtype",
    ("retrain", "--amp_dtype fp16 --use_amp"): "",
    ("retrain", "--compile_mode max-autotune"): "compile_mode",
    ("test", "--compile --compile_mode reduce-overhead"): "compile_mode",
    ("retrain", "--use_apex"): "use_apex",
    ("retrain", "--sync_bn"): "sync_bn",
    ("test", "--tf32"): "tf32",
    ("search", "--search_iter 6 --process_timeout 5"): "process_timeout",
    ("search", "--search_iter 6 --cuda_graphs"): "cuda_graphs",
    ("segment", "--eval_only " + UNTRAINED): " ".join(re.findall(r"--(\w+)", UNTRAINED)),
    ("segment", "--predict a --test_part val --test_batch_size 2 --test_long_side 9 --check_masks --pixel_range 0 9"):
        "test_part test_batch_size test_long_side check_masks pixel_range",
    ("segment", "--eval_only --test_long_side 64 --window 64 64 --weights_key ema"): "",
    ("segment", "--predict_dir x --weights_key ema"): "predict_dir weights_key",
    ("detect", "--eval_only --train_json x --train_dir y --lr_epochs 3 --lr 1"): "train_json train_dir lr_epochs lr",
    ("detect", "--eval_only --test_json x --test_dir y --long_side 900 --workers 2"): "",
    ("detect", "--eval_only --show_score 0.1 --predict_dir x"): "show_score predict_dir",
    ("detect", "--predict x --data_dir a --test_json b --test_dir c --workers 2 --max_bad_images 1"):
        "data_dir test_json test_dir workers max_bad_images",
    ("detect", "--predict x --predict_dir y --show_score 0.1 --weights_key ema --pixel_range 0 9"): "",
    ("detect", "--data_dir a --train_json b --train_dir c --test_json d --test_dir e"): "data_dir",
    ("detect", "--data_dir a --train_json b --train_dir c"): "",
    ("segment", UNTRAINED.replace("--sync_bn --use_apex --resume --resume_or_start ", "").replace("--overwrite ", "")):
        "",
    ("retrain", "--resume --overwrite"): "overwrite",
    ("retrain", "--resume_or_start --overwrite"): "overwrite",
    ("retrain", "--overwrite"): "",
    ("retrain", "--cutout_length 0 --no-sync_bn --no-use_apex --warmup_epochs 0 --workers 0 --no-tf32"): "",
    ("search", DARTS + "--no-regular --nasnet_warmup 0 --regular_coeff 0 --no-fix_head"): "",
}  # fmt: skip


#: The same where the run would not be the one that was meant.
MISTAKES = {
    ("retrain", "--train_dir x"): "_dir has no effect with --dataset .*give --dataset folder",
    ("search", "--search_iter 6 --dataset cifar10 --test_dir x"):
        "_dir has no effect with --dataset .*give --dataset folder",
    ("test", "--dataset cifar100 --test_dir x"): "_dir has no effect with --dataset .*give --dataset folder",
    ("search", "--search_iter 6 --blocks_per_stage 2 --target_flops 3M --target_flops_published 3M --target_latency 2 "
        "--latency_table x --target_tolerance 0.1 --c_last 320"): "have no effect with --space darts: only chains",
    ("retrain", "--space nats --drop_rate 0.1 --drop_path_rate 0.1"): "have no effect with --space nats: only chains",
    ("search", "--search_iter 6 --space chain --use_beta --repeat_cell --res_stem --stem_multiplier 1 "
        "--model_type cifar --cells_per_stage 1 --init_channels 8 --layer_num 4 --regular --regular_ratio 0.1 "
        "--regular_coeff 1"):
        "have no effect with --space chain: only cells",
    ("retrain", "--space chain --drop_path_prob 0.1 --aux_weight 0.4"): "with --space chain: only cells",
    ("retrain", "--dataset cifar10 --test_share 0.2"): "it is for one folder of classes",
    ("retrain", "--dataset folder --test_share 0.2 --test_dir x"): "it is for one folder of classes",
    ("test", "--space chain --published cifar10"): "--published has no effect with --space chain: only cells",
    ("search", "--search_iter 6 --space chain --target_tolerance 0.1"): "_tolerance has no effect without a target",
    ("search", "--search_iter 6 --nats_table x"): "--nats_table has no effect with --space darts: the table knows",
}  # fmt: skip


@pytest.mark.parametrize(("program", "flags"), IDLE)
def test_a_flag_without_effect_is_said(program, flags):
    config, given = parse(KINDS[program], "", flags.split())
    expected = IDLE[program, flags]
    lines = idle_flags(config, given, ONE)
    assert sorted(re.findall(r"--(\w+)", " ".join(line.split(" ha")[0] for line in lines))) == sorted(expected.split())


@pytest.mark.parametrize(("program", "flags"), MISTAKES)
def test_a_flag_that_can_only_be_a_mistake_is_refused(program, flags):
    config, given = parse(KINDS[program], "", flags.split())
    with pytest.raises(CydasError, match=MISTAKES[program, flags]):
        idle_flags(config, given, ONE)


def test_every_rule_speaks_for_each_of_its_flags():
    """No rule stands behind another that has spoken already, and none names a flag that no program has."""
    heard = set()
    for program, flags in [*IDLE, *MISTAKES]:
        config, given = parse(KINDS[program], "", flags.split())
        left = set(given)
        for index, rule in enumerate(RULES):
            names = left & set(rule.flags)
            if names and rule.applies(config, ONE):
                left -= names
                heard |= {(index, name) for name in names}
    assert heard == {(index, name) for index, rule in enumerate(RULES) for name in rule.flags}


def test_flags_have_their_effect_in_several_processes_on_gpus():
    flags = "--tf32 --process_timeout 9 --warmup_epochs 5 --sync_bn --use_apex".split()
    config, given = parse(RetrainConfig, "", flags)
    assert idle_flags(config, given, Process(0, 8, torch.device("cuda", 0))) == []


def test_cuda_graphs_are_for_one_gpu():
    config, given = parse(SearchConfig, "", ["--search_iter", "6", "--cuda_graphs"])
    gpu = torch.device("cuda", 0)
    assert idle_flags(config, given, Process(0, 1, gpu)) == []
    (line,) = idle_flags(config, given, Process(1, 2, gpu))
    assert line.startswith("--cuda_graphs has no effect") and "several processes" in line


def scripts():
    return sorted(path.name for path in (ROOT / "scripts").glob("run_*.sh")) + ["quickstart.sh"]


@pytest.mark.parametrize("script", scripts())
def test_the_scripts_carry_no_flag_without_effect(tmp_path, script):
    text = (ROOT / "scripts" / script).read_text()
    gpus = int((re.findall(r"NGPUS:-(\d)", text) or [1])[0])
    for program, flags in command_of(ROOT / "scripts" / script, tmp_path):
        config, given = parse(KINDS[program], "", flags)
        process = Process(0, gpus, torch.device("cuda", 0))
        assert idle_flags(config, given, process) == []
        if program != "test":
            assert scale_learning_rates(config, gpus) == []


def test_every_flag_is_read_somewhere():
    files = (ROOT / "CyDAS").rglob("*.py")
    code = "\n".join(p.read_text() for p in files if p.parent.name != "config" and p.name != "effects.py")
    own = "\n".join(p.read_text() for p in (ROOT / "CyDAS/config").glob("*.py")).split("self.")
    read = set(re.findall(r"""\b(?:config|self\.config|options|c)\.(\w+)|["'](\w+)["']""", code))
    names = {name for pair in read for name in pair} | {re.match(r"\w+", part)[0] for part in own[1:]}
    flags = {item.name for kind in KINDS.values() for item in fields(kind)}
    assert flags - names == set()


def test_what_has_no_effect_is_in_the_log_and_on_the_console_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Training, "run", lambda *a: None)
    monkeypatch.setattr(CyDAS.retrain, "estimate_training", lambda *a: [])
    monkeypatch.setattr(CyDAS.retrain, "count_macs", lambda *a: 0)
    flags = f"--cell_file {CELL} --init_channels 2 --stem_multiplier 1 --image_size 12 --output_dir {tmp_path}".split()
    flags += ["--amp_dtype", "fp16", "--reference_batch", "512"]
    retrain([*flags, "--name", "x"])
    for text in ((tmp_path / "retrain/x/retrain.log").read_text(), capsys.readouterr().out):
        assert text.count("--amp_dtype has no effect without --use_amp") == 1
        assert text.count("the learning rates are meant for 512 images an update, here are 128: --scale_lr") == 1
    retrain([*flags, "--dry_run", "--epochs", "1", "--batch_size", "240"])
    assert "--amp_dtype has no effect" in capsys.readouterr().out
    monkeypatch.setattr(CyDAS.search, "estimate_search", lambda *a: [])
    flags = "--search_iter 1 --pretrain_epochs 0 --method darts --fix_head --init_channels 2 --dry_run".split()
    search([*flags, "--output_dir", str(tmp_path)])
    assert "--fix_head has no effect with --method darts" in capsys.readouterr().out


def test_the_learning_rates_batch_is_spoken_of_only_where_it_differs():
    config = RetrainConfig(reference_batch=512, batch_size=128)
    assert scale_learning_rates(config, 4) == [] and scale_learning_rates(RetrainConfig(), 1) == []
    (line,) = scale_learning_rates(config, 2)
    assert line == "the learning rates are meant for 512 images an update, here are 256: --scale_lr"


@pytest.mark.parametrize(
    ("program", "flags", "word"),
    [
        (retrain, "--nesterov --momentum 0", "--nesterov is a kind of momentum"),
        (search, "--search_iter 6 --seeds 1 2 --seed 3", "leave out --seed"),
        (retrain, f"--cell_file {CELL} --train_dir x --test_dir y", "give --dataset folder"),
        (search, "--search_iter 6 --dataset cifar10 --train_dir x", "give --dataset folder"),
    ],
)
def test_what_can_only_be_a_mistake_is_an_error(tmp_path, program, flags, word):
    with pytest.raises(CydasError, match=word):
        program([*flags.split(), "--output_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_the_data_sets_in_memory_are_those_without_folders():
    assert set(IN_MEMORY) == {"digits", "cluttered", "cifar10", "cifar100"}


@pytest.mark.parametrize("value", ["1_0", "٣", "１", "1e1_0"])
@pytest.mark.parametrize("flag", ["--epochs", "--lr"])
def test_numbers_are_ascii_digits_without_underscores(flag, value, capsys):
    with pytest.raises(SystemExit):
        parse(RetrainConfig, "", [flag, value])
    assert (
        f"argument {flag}: invalid {'int' if flag == '--epochs' else 'float'} value: '{value}'"
        in capsys.readouterr().err
    )


def test_a_network_on_images_that_are_prepared_otherwise_is_said():
    config, given = parse(EvaluationConfig, "", "--dataset folder --test_dir x".split())
    saved = plain(RetrainConfig(dataset="cifar10", model_type="cifar"))
    (line,) = recall(config, given, saved, Path("net"))
    assert line.startswith("the network was trained on cifar10: images of folder are resized and normalised in another")
    config, given = parse(EvaluationConfig, "", [])
    assert recall(config, given, saved, Path("net")) == []


@pytest.mark.parametrize(("length", "blank"), [(24, True), (23, False)])
def test_a_square_that_blanks_whole_images_is_said(tmp_path, monkeypatch, capsys, length, blank):
    monkeypatch.setattr(CyDAS.retrain, "estimate_training", lambda *a: [])
    monkeypatch.setattr(CyDAS.retrain, "count_macs", lambda *a: 0)
    (tmp_path / "cell.json").write_text('{"0": "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"}')
    flags = (
        f"--cell_file {tmp_path}/cell.json --space nats --cells_per_stage 1 --init_channels 2 --aux_weight 0".split()
    )
    retrain([*flags, "--image_size", "12", "--dry_run", "--cutout_length", str(length)])
    assert ("blanks whole images of 12 pixels: give less" in capsys.readouterr().out) == blank
