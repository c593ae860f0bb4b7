"""Files of settings: what a run leaves repeats it, scripts start the published ones, wrong ones are named."""

import json
from pathlib import Path

import pytest
import yaml

from CyDAS.config import DetectConfig, RetrainConfig, SearchConfig, SegmentConfig
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.search import main as search
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse, plain

ROOT = Path(__file__).resolve().parents[1]
PUBLISHED = sorted((ROOT / "CyDAS/settings").glob("*.yaml"))
KINDS = {"search": SearchConfig, "retrain": RetrainConfig, "segment": SegmentConfig, "detect": DetectConfig}
SMALL = (
    "--dataset digits --space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --batch_size 16 --device cpu "
    "--threads 1 --sample_ratio 0.05 --pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --seed 5 --w_lr 0.03"
).split()


def settings(tmp_path, text):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return str(path)


def test_a_runs_file_repeats_it(tmp_path):
    search([*SMALL, "--output_dir", str(tmp_path), "--name", "first"])
    first = tmp_path / "search/first"
    search(["--config", str(first / "config.yaml"), "--name", "second"])
    second = tmp_path / "search/second"
    one, two = (load_checkpoint(run / "search_resume.pth.tar")["search"] for run in (first, second))
    alphas = [{name: value for name, value in each["joint"].items() if "arch" in name} for each in (one, two)]
    assert all((alphas[0][name] == alphas[1][name]).all() for name in alphas[0]) and len(alphas[0]) == 1
    records = [json.loads((run / "config.json").read_text())["config"] for run in (first, second)]
    assert records[0] | {"name": "second"} == records[1]
    again = yaml.safe_load((second / "config.yaml").read_text())
    assert again == yaml.safe_load((first / "config.yaml").read_text()) | {"name": "second"}


def test_flags_beside_a_file_win_and_what_is_not_said_keeps_its_default(tmp_path):
    file = settings(tmp_path, "lr: 3e-4\nlr_epochs: [2, 3]\nflip: false\ntrain_dir: some folder\n")
    config, given = parse(DetectConfig, "", ["--config", file, "--lr", "0.5"])
    assert (config.lr, config.lr_epochs, config.flip, config.train_dir) == (0.5, [2, 3], False, Path("some folder"))
    assert given == {"lr", "lr_epochs", "flip", "train_dir"} and config.batch_size == 2
    config, _ = parse(DetectConfig, "", ["--flip", "--lr_epochs", "9", "--config", file])
    assert config.lr == 3e-4 and config.flip and config.lr_epochs == [9]


def test_what_was_not_given_keeps_its_value_but_does_not_count_as_given(tmp_path):
    file = settings(tmp_path, "epochs: 24\nnot_given:\n  batch_size: 7\n  lr: 0.3\n")
    config, given = parse(DetectConfig, "", ["--config", file, "--lr", "0.1"])
    assert (config.epochs, config.batch_size, config.lr) == (24, 7, 0.1) and given == {"epochs", "lr"}
    assert config.lr_epochs == [16, 22]  # what follows from other flags follows from those that count


def test_an_empty_file_says_nothing(tmp_path):
    config, given = parse(SearchConfig, "", ["--config", settings(tmp_path, "# nothing\n"), "--search_iter", "9"])
    assert given == {"search_iter"} and plain(config) == plain(parse(SearchConfig, "", ["--search_iter", "9"])[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- lr\n", "flags with their values are expected"),
        ("lr\n", "flags with their values are expected"),
        ("1: 2\n", "flags with their values are expected"),
        ("not_given: 3\n", "flags with their values are expected"),
        ("lr: {a: 1}\n", "lr: no value of a flag"),
        ("lr_epochs: [[1]]\n", "lr_epochs: no value of a flag"),
        ("--lr: 1\n", "--lr: no value of a flag"),
        ("lr: [\n", "no YAML"),
        ("lr: !!python/object/apply:os.getcwd []\n", "no YAML"),
        ("x: " + "1" * 200_000, "more than 100000 bytes, that is no file of settings"),
    ],
)
def test_what_is_no_file_of_settings_is_refused(tmp_path, text, message):
    with pytest.raises(CydasError, match=f"--config .*settings.yaml: {message}"):
        parse(DetectConfig, "", ["--config", settings(tmp_path, text)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: fast\n", "argument --lr: invalid float value: 'fast'"),
        ("flip: 3\n", "argument --flip/--no-flip: ignored explicit argument '3'"),
        ("learning_rate: 1\n", "unrecognized arguments: --learning_rate=1"),
        ("not_given: {learning_rate: 1}\n", "unrecognized arguments: --learning_rate=1"),
        ("optimizer: adam\n", "invalid choice: 'adam'"),
        ("config: other.yaml\n", "a file of settings names no other one"),
    ],
)
def test_a_wrong_flag_in_a_file_is_named_with_the_file(tmp_path, capsys, text, message):
    with pytest.raises(SystemExit) as stop:
        parse(DetectConfig, "", ["--config", settings(tmp_path, text)])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and "settings.yaml: " in error and message in error


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(CydasError, match="gone.yaml: No such file"):
        parse(DetectConfig, "", ["--config", str(tmp_path / "gone.yaml")])


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_settings_can_be_read_and_are_started_by_a_script(path):
    program = path.stem.split("_")[0]
    config, given = parse(KINDS[program], "", ["--config", str(path)])
    assert "name" in given and config.name != "default"
    script = (ROOT / f"scripts/run_{path.stem}.sh").read_text()
    assert f"launch {program}.py --config CyDAS/settings/{path.name}" in script
