"""Classes keep their names: a test maps by them, a continued run refuses other data, a half without a class is said."""

import json
import logging
import shutil

import numpy as np
import pytest
import torch
from torchvision import datasets

from CyDAS.data.classes import check_same_data
from CyDAS.data.halves import halves, what_halves_lack
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import load_checkpoint, save_checkpoint
from CyDAS.search import main as search
from CyDAS.test import main as evaluate
from CyDAS.utils.errors import CydasError
from tests.test_folders import ODD, make, shard, write, write_shard

CELL = "|nor_conv_1x1~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
NETWORK = "--space nats --cells_per_stage 1 --init_channels 4 --image_size 8".split()
TINY = "--batch_size 4 --workers 0 --device cpu --threads 1".split()
FOLDER = [*NETWORK, *TINY, "--dataset", "folder"]
SEARCH = "--sample_ratio 1 --pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --nasnet_warmup 0".split()


def run_retrain(root, data, *flags, name="run"):
    cell = root / "cell.json"
    cell.write_text(json.dumps(CELL))
    places = ["--output_dir", str(root), "--data_dir", str(data), "--name", name, "--cell_file", str(cell)]
    retrain([*FOLDER, *places, "--epochs", "1", "--aux_weight", "0", *flags])
    return root / "retrain" / name


def run_search(root, data, *flags):
    search([*FOLDER, *SEARCH, "--output_dir", str(root), "--data_dir", str(data), "--name", "run", *flags])
    return root / "search/run"


def animals(root):
    """Three classes with 4, 6 and 8 training images."""
    make(root / "train", cat=4, dog=6, emu=8)
    return make(root / "val", cat=2, dog=2, emu=2).parent


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search and a retraining on three classes of animals, beside their data."""
    root = tmp_path_factory.mktemp("finished")
    data = animals(root / "data")
    run_search(root, data, "--split", "class")
    run_retrain(root, data)
    return root


def always(finished, folder, label):
    """The trained checkpoint, made to answer one class to every image."""
    content = load_checkpoint(finished / "retrain/run/last.pth.tar")
    weights = content["model_main"]
    weights["fc.weight"].zero_()
    weights["fc.bias"] = torch.nn.functional.one_hot(torch.tensor(label), len(weights["fc.bias"])).float()
    save_checkpoint(folder / "always.pth.tar", content)
    return content, ["--resume_name", str(folder / "always.pth.tar"), "--device", "cpu", "--workers", "0"]


def changed(finished, tmp_path):
    """Copies of the data and the runs, which a test may change."""
    for name in ("data", "search", "retrain"):
        shutil.copytree(finished / name, tmp_path / name)
    return tmp_path


# -- the record ------------------------------------------------------------------------------------------------------


def test_checkpoints_and_records_say_which_data_they_were_made_with(finished):
    run, searched = finished / "retrain/run", finished / "search/run"
    records = [load_checkpoint(run / f"{name}.pth.tar")["data"] for name in ("last", "best", "retrain_resume")]
    records += [json.loads((run / "config.json").read_text())["data"]]
    records += [json.loads((run / "result.json").read_text())["about"]["data"]]
    records += [load_checkpoint(searched / "search_resume.pth.tar")["about"]["data"]]
    records += [json.loads((searched / "result.json").read_text())["about"]["data"]]
    assert all(record == records[0] for record in records)
    first = records[0]
    assert (first["classes"], first["train_images"], first["train_of_class"]) == (["cat", "dog", "emu"], 18, [4, 6, 8])
    assert (first["test_images"], first["test_of_class"]) == (6, [2, 2, 2])
    log = (run / "retrain.log").read_text()
    assert "train: 18 train images, 3 classes: cat 4, dog 6, emu 8" in log and "6 test images" in log


# -- testing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "label", "accuracy"),
    [
        (("emu",), 2, 100), (("emu",), 0, 0), (("dog",), 1, 100), (("cat", "emu"), 2, 50),
        (("cat", "dog", "emu"), 1, 33.33),
    ],
)  # fmt: skip
def test_a_test_folder_may_hold_some_of_the_classes(finished, tmp_path, capsys, names, label, accuracy):
    _, flags = always(finished, tmp_path, label)
    make(tmp_path / "val", **dict.fromkeys(names, 2))
    (tmp_path / "val/empty").mkdir()
    capsys.readouterr()
    evaluate([*flags, "--test_dir", str(tmp_path / "val")])
    printed = capsys.readouterr().out
    assert f"top-1 {accuracy:.2f} %" in printed and f"on {2 * len(names)} test images" in printed
    assert f"{len(names)} of 3 classes" in printed or len(names) == 3
    assert "class folder(s) without images (empty)" in printed and "names no classes" not in printed


def test_a_test_folder_with_unknown_classes_is_refused_by_their_names(finished, tmp_path):
    _, flags = always(finished, tmp_path, 0)
    make(tmp_path / "val", bear=1, dog=1, emu=1, zebra=1)
    with pytest.raises(CydasError, match="was not trained on: bear, zebra; it knows 3: cat, dog, emu"):
        evaluate([*flags, "--test_dir", str(tmp_path / "val")])
    make(tmp_path / "deep", **{"images/cat": 1, "images/dog": 1})
    with pytest.raises(CydasError, match="not trained on: images; .*is --test_dir .*deep/images meant"):
        evaluate([*flags, "--test_dir", str(tmp_path / "deep")])


def test_without_a_record_a_test_goes_by_order_and_says_so(finished, tmp_path, capsys):
    content, flags = always(finished, tmp_path, 2)
    del content["data"], content["about"]
    save_checkpoint(tmp_path / "always.pth.tar", content)
    make(tmp_path / "val", a=1, b=1, c=2)
    evaluate([*flags, "--test_dir", str(tmp_path / "val")])
    printed = capsys.readouterr().out
    assert "names no classes: they are numbered in the order of the test images': 0 a, 1 b, 2 c" in printed
    assert "top-1 50.00 %" in printed
    shutil.rmtree(tmp_path / "val/b")
    with pytest.raises(CydasError, match="is of a network for 3 classes, but .*val has 2"):
        evaluate([*flags, "--test_dir", str(tmp_path / "val")])
    shutil.rmtree(tmp_path / "val/a")
    with pytest.raises(CydasError, match="--test_dir .* holds a single class, c$"):
        evaluate([*flags, "--test_dir", str(tmp_path / "val")])


@pytest.mark.parametrize("record", [7, {}, {"classes": "cat"}, {"classes": []}, {"classes": ["a", "a"]}])
def test_a_record_that_is_none_is_refused(finished, tmp_path, record):
    content, flags = always(finished, tmp_path, 2)
    save_checkpoint(tmp_path / "always.pth.tar", content | {"data": record})
    with pytest.raises(CydasError, match="always.pth.tar: its record of the data"):
        evaluate(flags)


def test_shards_with_some_of_the_numbers_keep_their_classes(tmp_path, capsys):
    write_shard(tmp_path / "data/train/0.tar", shard(*(5, 12, 7) * 3))
    write_shard(tmp_path / "data/val/0.tar", shard(7, 12, 12))
    run = run_retrain(tmp_path, tmp_path / "data")
    assert load_checkpoint(run / "last.pth.tar")["data"]["classes"] == ["5", "7", "12"]
    _, flags = always(tmp_path, tmp_path, 2)
    capsys.readouterr()
    evaluate(flags)
    printed = capsys.readouterr().out
    assert "top-1 66.67 %" in printed and "2 of 3 classes: 7 1, 12 2" in printed and "no test images of 5" in printed
    write_shard(tmp_path / "data/val/0.tar", shard(8, 12))
    with pytest.raises(CydasError, match="not trained on: 8; it knows 3: 5, 7, 12"):
        evaluate(flags)
    with pytest.raises(CydasError, match="no training images of 8"):
        run_retrain(tmp_path, tmp_path / "data", name="other")


class Cifar:
    """A stand-in of two images with CIFAR's names of classes."""

    classes = [f"thing {number}" for number in range(10)]

    def __init__(self, root, train, download):
        self.data = np.zeros((2, 32, 32, 3), dtype=np.uint8)
        self.targets = [0, 1]


def test_sets_in_memory_are_told_apart_by_their_classes(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", Cifar)
    flags = [*NETWORK, *TINY, "--output_dir", str(tmp_path), "--cell_file", str(finished / "cell.json")]
    retrain([*flags, "--batch_size", "500", "--epochs", "1", "--aux_weight", "0"])
    record = load_checkpoint(tmp_path / "retrain/default/last.pth.tar")["data"]
    assert record["classes"] == list("0123456789") and record["train_images"] == 1438
    with pytest.raises(CydasError, match="--dataset cifar10 .* was not trained on: thing 0, thing 1"):
        evaluate(["--output_dir", str(tmp_path), "--dataset", "cifar10"])
    with pytest.raises(CydasError, match="was not trained on: 0, 1, 2, 3, 4 and 5 more; it knows 3: cat, dog, emu"):
        evaluate([*always(finished, tmp_path, 0)[1], "--dataset", "digits"])


# -- going on --------------------------------------------------------------------------------------------------------


def add(data, name):
    for part in ("train", "val"):
        write(data / part / name / "000.png")


OTHER_DATA = {
    "renamed": (
        lambda data: [(data / part / "dog").rename(data / part / "zebra") for part in ("train", "val")],
        r"class\(es\) dog are missing; class\(es\) zebra are new",
    ),
    "added": (lambda data: add(data, "fox"), r"class\(es\) fox are new; train images were 18, are 19"),
    "removed": (lambda data: (data / "train/dog/003.png").unlink(), "train images were 18, are 17"),
    "moved": (
        lambda data: (data / "train/dog/003.png").rename(data / "train/cat/003_.png"),
        "train images of cat were 4, are 5, dog were 6, are 5",
    ),
    "exchanged": (
        lambda data: (data / "train/dog/003.png").rename(data / "train/dog/other.png"),
        "as many train images, but others",
    ),
}


@pytest.mark.parametrize("case", OTHER_DATA)
def test_a_run_that_goes_on_refuses_other_data(finished, tmp_path, case):
    change, words = OTHER_DATA[case]
    root = changed(finished, tmp_path)
    change(root / "data")
    before = (root / "retrain/run/retrain_resume.pth.tar").read_bytes()
    with pytest.raises(CydasError, match=f"retrain_resume.pth.tar was made with other data: {words}"):
        run_retrain(root, root / "data", "--resume", "--epochs", "2")
    with pytest.raises(CydasError, match=f"search_resume.pth.tar was made with other data: {words}"):
        run_search(root, root / "data", "--split", "class", "--resume")
    assert (root / "retrain/run/retrain_resume.pth.tar").read_bytes() == before


def test_test_images_matter_to_a_retraining_only(finished, tmp_path):
    root = changed(finished, tmp_path)
    write(root / "data/val/dog/more.png")
    with pytest.raises(CydasError, match="test images were 6, are 7"):
        run_retrain(root, root / "data", "--resume", "--epochs", "2")
    run_search(root, root / "data", "--split", "class", "--resume")


def test_the_same_data_may_lie_elsewhere(finished, tmp_path):
    root = changed(finished, tmp_path)
    (root / "data").rename(root / "moved")
    log = (run_retrain(root, root / "moved", "--resume", "--epochs", "2") / "retrain.log").read_text()
    assert "epoch 2/2" in log and "is not known" not in log


def test_a_run_from_before_data_were_recorded_goes_on_with_a_warning(finished, tmp_path):
    root = changed(finished, tmp_path)
    for path in (root / "retrain/run/retrain_resume.pth.tar", root / "search/run/search_resume.pth.tar"):
        content = load_checkpoint(path)
        content.pop("data", None)
        del content["about"]["data"]
        save_checkpoint(path, content)
    run = run_retrain(root, root / "data", "--resume", "--epochs", "2")
    word = "does not say which images it was made with: whether these are the same is not known"
    assert (run / "retrain.log").read_text().count(word) == 1
    assert load_checkpoint(run / "last.pth.tar")["data"]["train_images"] == 18
    searched = run_search(root, root / "data", "--split", "class", "--resume")
    assert (searched / "search.log").read_text().count(word) == 1


def test_an_order_of_classes_that_changed_is_other_data():
    here = {"classes": ["b", "a"], "train_images": 1, "train_of_class": [0, 1], "train_digest": ""}
    with pytest.raises(CydasError, match="the classes are in another order"):
        check_same_data({"data": {"classes": ["a", "b"]}}, here, "path", ("train",))
    check_same_data({"data": {"classes": ["b", "a"]}}, here, "path", ("train",))


def test_val_may_lack_a_class_of_train_and_has_none_more(tmp_path):
    data = animals(tmp_path / "data")
    shutil.rmtree(data / "val/cat")
    (data / "val/dog/000.png").unlink()
    run = run_retrain(tmp_path, data)
    assert "3 test images, 2 of 3 classes: dog 1, emu 2" in (run / "retrain.log").read_text()
    assert "no test images of cat" in (run / "retrain.log").read_text()
    assert load_checkpoint(run / "last.pth.tar")["data"]["test_of_class"] == [0, 1, 2]
    write(data / "val/ant/1.png")
    with pytest.raises(CydasError, match="differ in their class folders: ant, cat; .*no training images of ant"):
        run_retrain(tmp_path, data, name="other")


# -- halves ----------------------------------------------------------------------------------------------------------


def lacks(counts, split, seed=0):
    """The warnings for classes that lie one after the other, with so many images each."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(list(counts.values())))
    return what_halves_lack(labels, halves(labels, split, seed), list(counts))


def test_a_half_without_a_class_is_said_with_the_flag_that_mends_it():
    (line,) = lacks({"a": 90, "b": 10}, "index")
    assert line == "train has too few images of b (0 of 10): --split class cuts every class in two"
    (line,) = lacks({"a": 10, "b": 90}, "index")
    assert line == "val has too few images of a (0 of 10): --split class cuts every class in two"


@pytest.mark.parametrize(("few", "warned"), [(0, True), (4, True), (5, False), (50, False)])
def test_a_class_is_too_rare_below_a_tenth_of_its_share(few, warned):
    """A half of 100 of all 200 images should have 50 of b."""
    labels = torch.tensor([0] * 100 + [1] * 100)
    train = [*range(100 - few), *range(100, 100 + few)]
    lines = what_halves_lack(labels, (train, sorted({*range(200)} - {*train})), ["a", "b"])
    assert any(f"train has too few images of b ({few} of 100)" in line for line in lines) == warned


def test_halves_of_the_classes_that_are_whole_need_no_word():
    for split in ("index", "class", "random"):
        labels = torch.arange(10).repeat(50)
        assert what_halves_lack(labels, halves(labels, split, 3), [str(n) for n in range(10)]) == []
    assert lacks({"a": 90, "b": 2, "c": 3}, "class") == []


def test_a_single_image_cannot_be_in_both_halves():
    (line,) = lacks({"a": 9, "b": 1}, "class")
    assert "a single image cannot be in both halves, whatever --split: b (not in " in line
    first, second = lacks({"a": 90, "b": 10, "c": 1}, "index")
    assert "train has too few images of b (0 of 10)" in first and "c (not in train)" in second


def test_at_random_a_rare_class_may_be_missing_and_is_said():
    lines = [line for seed in range(20) for line in lacks({"a": 500, "b": 2}, "random", seed)]
    assert lines and all("images of b (0 of 2): --split class" in line for line in lines)


def test_many_missing_classes_are_named_by_the_first_few():
    (line,) = lacks({f"c{number}": 4 for number in range(30)}, "index")
    assert line.startswith("train and val have only 0 of 30 classes in common: --split class cuts every class in two; ")
    assert "val has too few images of c0 (0 of 4), c1 (0 of 4)" in line and "and 10 more" in line


def test_a_search_says_once_what_its_halves_lack(tmp_path):
    data = animals(tmp_path / "data")
    log = (run_search(tmp_path, data) / "search.log").read_text()
    assert log.count("--split class") == 1
    assert (
        "train and val have only 1 of 3 classes in common" in log and "train has too few images of emu (0 of 8)" in log
    )


def test_a_dry_run_says_what_was_read_and_what_halves_lack(tmp_path, capsys):
    run_search(tmp_path, animals(tmp_path / "data"), "--dry_run")
    printed = capsys.readouterr().out
    assert "18 train images, 3 classes: cat 4, dog 6, emu 8" in printed and "--split class" in printed


# -- names that are no text ------------------------------------------------------------------------------------------


def test_names_that_are_no_text_go_through_runs_files_and_tests(tmp_path, capsys, monkeypatch):
    odd = {"cat": 4, f"d{ODD}g": 4, "e\nm\x1b[31mu": 4}
    make(tmp_path / f"data{ODD}/train", **odd)
    make(tmp_path / f"data{ODD}/val", **odd)
    bad = tmp_path / f"data{ODD}/train/cat/bad{ODD}\n.png"
    bad.write_bytes(b"")
    run = run_retrain(tmp_path, tmp_path / f"data{ODD}", "--max_bad_images", "1", name=f"r{ODD}n")
    assert load_checkpoint(run / "last.pth.tar")["data"]["classes"] == list(odd)
    assert json.loads((run / "config.json").read_text())["data"]["classes"] == list(odd)
    log = (run / "retrain.log").read_text(encoding="utf-8")
    assert r"cat 5, d\xffg 4, e\nm\x1b[31mu 4" in log and r"bad\xff\n.png" in log
    assert all(line[:4].isdigit() for line in log.splitlines()) and list((run / "tensorboard").iterdir())
    capsys.readouterr()
    (tmp_path / f"data{ODD}/val/cat/bad{ODD}\n.png").write_bytes(b"")
    monkeypatch.setattr(logging.getLogger("CyDAS"), "handlers", [])  # those of the run before
    evaluate(["--output_dir", str(tmp_path), "--name", f"r{ODD}n", "--workers", "0", "--max_bad_images", "1"])
    printed, warned = capsys.readouterr()
    assert r"val/cat/bad\xff\n.png" in warned
    assert r"d\xffg 4" in printed and r"r\xffn/last.pth.tar" in printed and "on 12 test images" in printed
    searched = run_search(tmp_path, tmp_path / f"data{ODD}", "--max_bad_images", "1", "--split", "class")
    assert (searched / "genotype.json").exists()
