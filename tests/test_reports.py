"""A report says what a run found, first of all; it is one file, and what is wrong with a run stands in it."""

import json
import re
import shutil

import pytest
import torch

from CyDAS.engine import results
from CyDAS.models.cells.layout import Layout
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.report import main as report
from CyDAS.reports.report import of_data, report_at_end, write_report
from CyDAS.reports.runs import differences, read_figures, read_run
from CyDAS.retrain import main as retrain
from CyDAS.runs.logs import RunLog
from CyDAS.search import main as search
from CyDAS.spaces import ChainSpace, DartsSpace, NatsSpace
from CyDAS.spaces.alpha_tables import alpha_tables
from CyDAS.utils.errors import CydasError

SMALL = (
    "--dataset digits --space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --batch_size 16 --device cpu "
    "--threads 1 --sample_ratio 0.05 --pretrain_epochs 1 --search_iter 3 --search_iter_epochs 1 --print_freq 1"
).split()
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
SKIPS = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two searches that differ in their seed, one more with another learning rate, and a training."""
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in {"one": (), "two": ("--seed", "1"), "three": ("--alpha_lr", "0.3")}.items():
        search([*SMALL, "--output_dir", str(folder), "--name", name, *flags])
    small = "--dataset digits --space nats --init_channels 4 --cells_per_stage 1 --image_size 8 --epochs 2 --lr 0.05"
    small += f" --device cpu --threads 1 --aux_weight 0 --cutout_length 0 --cell_file {folder}/search/one/genotype.json"
    retrain([*small.split(), "--output_dir", str(folder), "--name", "one"])
    return folder


def text_of(tmp_path, *folders):
    html, markdown = write_report(folders, tmp_path / "report")
    return html.read_text(), markdown.read_text()


def test_what_was_found_stands_first_and_the_file_needs_no_other(runs, tmp_path):
    html, markdown = text_of(tmp_path, runs / "search/one")
    genotype = json.loads((runs / "search/one/genotype.json").read_text())["0"]
    order = [
        html.index(text) for text in (">Found<", genotype, ">Losses and", ">Architecture parameters<", ">To go on<")
    ]
    assert order == sorted(order)
    assert not re.search(r"(src|href)=[\"'](?!data:)", html) and "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert 'name="viewport"' in html and html.count('type="range"') == 1
    assert f"{runs}/search/one/config.yaml --name one-again" in html and "python CyDAS/retrain.py --name one" in html
    pictures = re.findall(r"\]\((report_pictures/[^)]+)\)", markdown)
    assert len(pictures) > 8 and all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)


def test_every_round_has_its_weights_in_the_page_to_step_through(runs, tmp_path):
    html, _ = text_of(tmp_path, runs / "search/one")
    assert re.findall(r"figcaption>softmax\(alpha\) after round (\d)", html) == ["1", "2", "3"]


def test_the_commands_of_a_report_do_what_they_say(runs, tmp_path):
    _, markdown = text_of(tmp_path, runs / "search/one")
    again, train = (line.split()[2:] for line in markdown.splitlines() if line.startswith("python CyDAS/"))
    search([*again, "--output_dir", str(tmp_path)])
    found = [
        json.loads((folder / "genotype.json").read_text())
        for folder in (tmp_path / "search/one-again", runs / "search/one")
    ]
    assert found[0] == found[1]
    small = "--epochs 1 --init_channels 2 --cells_per_stage 1 --device cpu --threads 1"
    retrain([*train, *small.split(), "--output_dir", str(tmp_path)])
    assert (tmp_path / "retrain/one/result.json").exists()


def test_what_a_training_is_told_of_its_data():
    config = {"space": "nats", "dataset": "folder", "data_dir": "x", "c_last": 960, "test_share": 0.0, "test_seed": 3}
    assert of_data(config) == {"space": "nats", "dataset": "folder", "data_dir": "x"}
    taken = {"test_share": 0.2, "test_seed": 3}  # the same images are kept for tests
    assert of_data(config | {"test_share": 0.2}) == of_data(config) | taken
    assert of_data(config | {"space": "chain"})["c_last"] == 960


def test_a_collapse_is_said_in_words(runs, tmp_path):
    folder = tmp_path / "search/bad"
    shutil.copytree(runs / "search/one", folder)
    result = json.loads((folder / "result.json").read_text()) | {"genotype": {"0": SKIPS}}
    (folder / "result.json").write_text(json.dumps(result))
    html, markdown = text_of(tmp_path, folder)
    assert "The search has collapsed: 4 of 6 operations are skip_connect" in html and "collapsed" in markdown
    assert "hardly left their start" in html and "--finalists make it less" in html  # so few steps decide nothing
    judged = {"finalists": [{"architecture": {"0": SKIPS}, "rounds": 1, "top1": 30.0, "again": True}]}
    (folder / "result.json").write_text(json.dumps(result | judged))
    html, _ = text_of(tmp_path, folder)
    assert "run-off" in html and "finalists below have decided" in html and "--finalists make it less" not in html
    (folder / "result.json").write_text(json.dumps(result | {"genotype": {"0": BEST}}))
    assert "collapsed" not in text_of(tmp_path, folder)[0]


def test_a_run_that_has_not_ended_has_a_report_too(runs, tmp_path):
    folder = tmp_path / "search/cut"
    shutil.copytree(runs / "search/one", folder)
    (folder / "result.json").unlink()
    assert "this is what round 3 prefers" in text_of(tmp_path, folder)[0]
    for path in (folder / "alphas").iterdir():
        path.unlink()
    assert "there is nothing to show" in text_of(tmp_path, folder)[0]


def test_several_runs_stand_side_by_side_by_setting(runs, tmp_path):
    _, markdown = text_of(tmp_path, *(runs / "search" / name for name in ("one", "two", "three")))
    assert "| one, two | 2 | " in markdown and "| three | 1 | " in markdown
    assert "| --alpha_lr | 0.0006 | 0.0006 | 0.3 |" in markdown and "| --seed | 0 | 1 | 0 |" in markdown
    assert "--batch_size" not in markdown.partition("## Curves")[0]
    assert " ± " in markdown


def test_a_training_has_last_and_best_epoch_and_its_network(runs, tmp_path):
    html, markdown = text_of(tmp_path, runs / "retrain/one")
    last = json.loads((runs / "retrain/one/result.json").read_text())["last"]["top1"]
    assert f"| top-1, % | {last:.4g} |" in markdown and "chosen on the test set" in html
    assert "python CyDAS/test.py --resume --name one" in markdown and "M multiply-accumulates" in html


def test_classes_without_an_object_to_find_have_no_precision(runs, tmp_path):
    """The tool that computes them says -1, which is no figure to rank or to read."""
    run = tmp_path / "detect"
    run.mkdir()
    config = json.loads((runs / "retrain/one/config.json").read_text())
    (run / "config.json").write_text(json.dumps(config))
    (run / "detect.log").touch()
    last = {"ap": 12.5, "ap_small": -1.0, "of_classes": {"dog": 20.0, "cow": -1.0, "cat": 5.0}}
    (run / "result.json").write_text(json.dumps({"last": last, "best": last}))
    _, markdown = text_of(tmp_path, run)
    assert "-1" not in markdown.split("## Classes")[1].split("##")[0]
    assert markdown.index("| cat | 5.0 |") < markdown.index("| dog | 20.0 |")
    assert "None in the test images: cow." in markdown
    assert "| AP small | none in the test images | none in the test images |" in markdown


def test_runs_write_their_report_unless_they_are_told_not_to(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "report_at_end", report_at_end)
    for name, flags in {"with": (), "without": ("--no-report",)}.items():
        search([*SMALL, "--search_iter", "2", "--output_dir", str(tmp_path), "--name", name, *flags])
        assert (tmp_path / "search" / name / "report.html").exists() == (name == "with")


def test_a_report_that_fails_does_not_fail_the_run(runs, tmp_path, monkeypatch):
    folder = tmp_path / "search/one"
    shutil.copytree(runs / "search/one", folder)
    (folder / "alphas/round_001.json").write_text("{")
    log = RunLog(tmp_path, "x.log")
    report_at_end(folder, log)
    log.close()
    assert "no report: CydasError: " in (tmp_path / "x.log").read_text()


def test_the_program_says_what_it_has_written(runs, tmp_path, capsys):
    report([str(runs / "search/one"), "--output", str(tmp_path / "mine")])
    assert capsys.readouterr().out.splitlines() == [f"written: {tmp_path}/mine.{end}" for end in ("html", "md")]


@pytest.mark.parametrize("name", ["gone", "empty", "other"])
def test_what_is_no_run_is_refused(tmp_path, name):
    if name != "gone":
        (tmp_path / name).mkdir()
    if name == "other":
        (tmp_path / name / "config.json").write_text("[]")
    with pytest.raises(CydasError, match=f"{name}.* is no "):
        report([str(tmp_path / name)])


def test_figures_survive_a_torn_line_and_steps_that_were_taken_twice(tmp_path):
    lines = [json.dumps({"step": step, "figures": {"a": value}}) for step, value in ((3, 1.0), (1, 2.0), (3, 5.0))]
    (tmp_path / "f").write_text("\n".join([*lines, "[1]", '{"step": 9, "figures": {"a"']))
    assert read_figures(tmp_path / "f") == {"a": {1: 2.0, 3: 5.0}} and read_figures(tmp_path / "none") == {}


def test_flags_that_differ_are_told_apart_from_names(runs):
    found = differences([read_run(runs / "search" / name) for name in ("one", "three")])
    assert found == {"alpha_lr": [0.0006, 0.3]}


@pytest.mark.parametrize(
    ("name", "space", "rows"),
    [
        ("nats", NatsSpace(NatsLayout(4, 1, image_size=8)), [6]),
        ("darts", DartsSpace(Layout(init_channels=4, layer_num=3), repeat_cell=True), [14, 14]),
        ("darts", DartsSpace(Layout(init_channels=4, layer_num=3)), [14, 14, 14, 14, 14, 14]),
        ("chain", ChainSpace(ChainLayout(depth=3, c_last=32, n_classes=10, image_size=32)), [15]),
    ],
)
def test_tables_of_alphas_have_a_row_for_each_edge_or_block(name, space, rows):
    architecture = space.build().super_layers_arch
    with torch.no_grad():
        for parameter in architecture.parameters():
            parameter.normal_()
    tables = alpha_tables(name, {key: value.tolist() for key, value in architecture.state_dict().items()})
    assert [len(table.rows) for table in tables] == rows
    for table in tables:
        assert table.shares.shape == (len(table.rows), len(table.columns))
        torch.testing.assert_close(table.shares.nansum(dim=1), torch.ones(len(table.rows)))
