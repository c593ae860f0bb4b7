"""People with one folder of images: a share of each class is kept for tests, by the files' names, whatever the run."""

import json

import pytest
import torch
from PIL import Image

from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.halves import test_split as split
from CyDAS.retrain import main as retrain
from CyDAS.runs.start import start
from CyDAS.test import main as evaluate
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse

SMALL = (
    "--dataset folder --image_size 8 --space nats --init_channels 4 --cells_per_stage 1 --device cpu --threads 1 "
    "--workers 0 --batch_size 4 --test_share 0.25"
).split()
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three classes of 12, 8 and 1 images."""
    folder = tmp_path_factory.mktemp("mine")
    generator = torch.Generator().manual_seed(0)
    for name, count in {"a": 12, "b": 8, "c": 1}.items():
        (folder / name).mkdir()
        for index in range(count):
            pixels = torch.randint(256, (8, 8, 3), generator=generator, dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def load(folder, *flags):
    config, _ = parse(SearchConfig, "", [*SMALL, "--data_dir", str(folder), *flags, "--search_iter", "9"])
    return load_data(config, start(config))


def parts(data):
    return [set(data.names(part)) for part in ("train", "test")]


def test_each_class_gives_its_share_and_keeps_an_image():
    names = [f"x/{index}" for index in range(30)]
    labels = [0] * 20 + [1] * 7 + [2] * 2 + [3]
    train, test = split(names, labels, 0.25, 0)
    assert sorted(train + test) == list(range(30))
    assert [sum(labels[index] == label for index in test) for label in range(4)] == [5, 2, 1, 0]
    assert split(names, labels, 0.25, 0) == (train, test) != split(names, labels, 0.25, 1)
    assert [sum(labels[index] == label for index in split(names, labels, 0.99, 0)[0]) for label in range(4)] == [1] * 4


def test_more_images_leave_most_others_where_they_were():
    names = [f"x/{index}" for index in range(400)]
    before = {names[index] for index in split(names[:360], [0] * 360, 0.25, 0)[1]}
    after = {names[index] for index in split(names, [0] * 400, 0.25, 0)[1]}
    assert len(before - after) <= 8


def test_the_split_is_of_files_and_not_of_the_run(images):
    train, test = parts(load(images))
    assert not train & test and len(train) == 16 and len(test) == 5
    assert {name[0] for name in train} == {"a", "b", "c"} and {name[0] for name in test} == {"a", "b"}
    assert parts(load(images, "--seed", "7")) == [train, test]
    assert parts(load(images, "--test_seed", "1")) != [train, test]
    assert parts(load(images.parent / "elsewhere", "--train_dir", str(images))) == [train, test]


def test_the_report_of_the_data_does_not_call_them_the_same(images):
    assert "are the same" not in " ".join(load(images).report("train", "test"))


def test_a_test_is_of_the_images_that_the_training_left_out(images, tmp_path, capsys):
    (tmp_path / "cell.json").write_text(json.dumps({"0": CELL}))
    run = ["--output_dir", str(tmp_path), "--name", "run", "--device", "cpu", "--threads", "1"]
    flags = ["--cell_file", str(tmp_path / "cell.json"), "--epochs", "1", "--lr", "0.01", "--aux_weight", "0"]
    retrain([*SMALL, *run, *flags, "--data_dir", str(images), "--seed", "3"])
    result = json.loads((tmp_path / "retrain/run/result.json").read_text())["last"]
    assert result["images"] == 5
    capsys.readouterr()
    evaluate([*run, "--workers", "0", "--resume_name", "last.pth.tar"])
    assert f"top-1 {result['top1']:.2f} %" in (out := capsys.readouterr().out) and "on 5 test images" in out
    evaluate([*run, "--workers", "0", "--resume_name", "last.pth.tar", "--test_dir", str(images)])
    assert "on 21 test images" in capsys.readouterr().out  # another folder is taken whole


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--dataset digits --test_share 0.1", "one folder of classes"),
        ("--dataset folder --test_share 0.1 --test_dir x", "one folder of classes"),
        ("--dataset folder --test_share 1", "--test_share must be below 1"),
    ],
)
def test_where_it_means_nothing_it_is_an_error(flags, message):
    from CyDAS.search import main as search

    with pytest.raises(CydasError, match=message):
        search([*flags.split(), "--device", "cpu", "--search_iter", "9"])


def test_shards_cannot_be_taken_apart(tmp_path):
    import io
    import tarfile

    with tarfile.open(tmp_path / "0.tar", "w") as shard:
        for index in range(4):
            for end, content in {"cls": str(index % 2).encode(), "png": b"x"}.items():
                member = tarfile.TarInfo(f"{index}.{end}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))
    with pytest.raises(CydasError, match="holds tar shards: --test_share"):
        load(tmp_path)
