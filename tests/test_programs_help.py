"""The helper programs: usage, one line for what is wrong, and what happens where nobody reads their output."""

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from PIL import Image
from published_cells import call

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.spaces import DartsSpace, load_architecture
from CyDAS.spaces.nats_table import COLUMNS, write_table
from CyDAS.utils.errors import CydasError, Stopped, run_program

CELL = ROOT / "CyDAS/cells/cifar_genotype.json"
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
PROGRAMS = {
    "demo/draw_cells.py": 2, "scripts/compare.py": 3, "scripts/random_genotype.py": 2, "CyDAS/nats_table.py": 1,
    "benchmarks/speed.py": 0, "benchmarks/scaling.py": 0, "benchmarks/estimates.py": 0, "benchmarks/faults.py": 0,
    "benchmarks/busy.py": 0, "benchmarks/kernels.py": 0,
    "benchmarks/plots.py": 1, "CyDAS/search.py": 0, "CyDAS/retrain.py": 0, "CyDAS/test.py": 0,
    "CyDAS/check_data.py": 1, "CyDAS/report.py": 1, "CyDAS/segment.py": 0, "CyDAS/detect.py": 0,
    "CyDAS/export.py": 1, "scripts/model_zoo.py": 0,
}  # fmt: skip


def main_of(program):
    spec = importlib.util.spec_from_file_location(f"program_{Path(program).stem}", ROOT / program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def run(program, *arguments):
    """The program as its file runs it, in this process. Returns the exit code."""
    main = main_of(program)
    try:
        run_program(lambda _: main([str(argument) for argument in arguments]))
    except SystemExit as end:
        return end.code
    return 0


# -- usage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_has_help_and_refuses_what_it_does_not_know(program, capfd, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert run(program, "-h") == 0
    assert capfd.readouterr().out.startswith("usage: ")
    assert run(program, *["x"] * PROGRAMS[program], "--no_such_flag") == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("usage: ") and "Traceback" not in err
    if PROGRAMS[program]:
        assert run(program) == 2
        assert "are required" in capfd.readouterr().err


def test_every_file_that_is_a_program_runs_by_the_one_error_handling():
    files = [f for folder in ("CyDAS", "demo", "scripts", "benchmarks") for f in (ROOT / folder).rglob("*.py")]
    programs = [file for file in files if "__main__" in file.read_text()]
    assert len(programs) >= len(PROGRAMS)
    for file in programs:
        ending = file.read_text().partition('if __name__ == "__main__":\n')[2].strip()
        assert ending.startswith(("run_program(main", "run_main()")), file


# -- draw_cells --------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[True, False], ids=["with dot", "without dot"])
def drawn(request, tmp_path, monkeypatch, capfd):
    """Draw a file; the names that were written and said. With ``dot`` or, as where it is missing, without."""
    if request.param and not shutil.which("dot"):
        pytest.skip("the program dot is missing")
    monkeypatch.setattr(logging.getLogger("CyDAS"), "handlers", [])  # those of runs in other tests write to stdout
    if not request.param:
        monkeypatch.setenv("PATH", "")

    def draw(file):
        assert run("demo/draw_cells.py", file, tmp_path / "out") == 0
        out, err = capfd.readouterr()
        said = [Path(line) for line in out.splitlines()]
        assert all(path.suffix == ".png" and Image.open(path).width > 200 for path in said)
        return [path.stem for path in said]

    return draw


def test_every_genotype_of_every_space_is_drawn(drawn, tmp_path):
    four = [random_genotype(torch.Generator().manual_seed(seed)) for seed in range(4)]
    (tmp_path / "four.json").write_text(json.dumps(DartsSpace.to_strings(four)))
    (tmp_path / "nats.json").write_text(json.dumps({"0": BEST}))
    (tmp_path / "best.txt").write_text("[3,3,3,1,3,2]")
    (tmp_path / "many.py").write_text(f"DARTS_V2 = {call('DARTS_V2')}\nSNAS = {call('SNAS')}\n")
    assert drawn(CELL) == ["cifar_genotype_normal", "cifar_genotype_reduce"]
    assert drawn(tmp_path / "four.json") == [f"four_stage{i}_{c}" for i in range(4) for c in ("normal", "reduce")]
    assert drawn(tmp_path / "nats.json") == ["nats"] and drawn(tmp_path / "best.txt") == ["best"]
    assert drawn(tmp_path / "many.py::SNAS") == ["many_SNAS_normal", "many_SNAS_reduce"]
    source = (tmp_path / "out/nats.gv").read_text()
    assert source.count("->") == 6 and (tmp_path / "out/four_stage3_normal.gv").read_text().count("->") == 12


@pytest.mark.parametrize(
    ("content", "folder", "word"),
    [
        (None, "out", "there is no such file"),
        ("{", "out", "not JSON"),
        ("A = 1", "out", "it holds no genotype"),
        (f"A = {call('NASNet')}", "out", "this one five"),
        (BEST.replace("none", "x").replace("skip_connect", "x"), "out", "node 3, edge 0: 'x' is not one of"),
        (json.dumps({"0": 5}), "out", "stage 0: a genotype is a string"),
        (BEST, "file", "cannot write .*file/file.gv: "),
        (BEST, "file/under", "cannot write "),
        (BEST, "/proc/none", "cannot write "),
    ],
)
def test_what_cannot_be_drawn_is_one_line(tmp_path, content, folder, word, capfd):
    if content is not None:
        (tmp_path / "file").write_text(content)
    assert run("demo/draw_cells.py", tmp_path / "file", tmp_path / folder) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and re.search(word, err)


# -- compare, random_genotype, nats_table, benchmarks ------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path):
    """Three retrained runs, the first of a found cell."""

    def result(top1, **config):
        made = {"dataset": "digits", "epochs": 3, "name": str(top1), "seed": int(top1)} | config
        return {"last": {"top1": top1}, "parameters": 1000, "about": {"config": made}}

    for name, content in {
        "found": result(97.5), "a": result(96.0), "b": result(95.0), "other": result(9.0, dataset="cifar10"),
        "longer": result(98.0, epochs=6), "odd": {"last": 3},
    }.items():  # fmt: skip
        (tmp_path / "retrain" / name).mkdir(parents=True)
        (tmp_path / "retrain" / name / "result.json").write_text(json.dumps(content))
    (tmp_path / "retrain/unfinished").mkdir()
    (tmp_path / "search/found").mkdir(parents=True)
    shutil.copy(CELL, tmp_path / "search/found/genotype.json")
    return tmp_path


def test_runs_are_compared(runs, capfd):
    assert run("scripts/compare.py", runs, "found", "a", "b") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1].startswith("found: Genotype(normal=[[('sep_conv_3x3', 0)")
    assert [line.split() for line in lines[4:7]] == [
        ["found", "by", "the", "search", "97.50", "1000"],
        ["a", "96.00", "1000"],
        ["b", "95.00", "1000"],
    ]
    assert lines[7].split() == ["others,", "mean", "±", "std", "95.50", "±", "0.71"] and len(lines) == 8
    assert run("scripts/compare.py", runs, "found", "longer") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-2].split() == ["others", "98.00"] and lines[-1] == "not alike: --epochs was 3 for found, 6 for longer"


@pytest.mark.parametrize(
    ("names", "word"),
    [
        (("found", "a", "a"), "a is named twice"),
        (("found", "found"), "found is named twice"),
        (("found", "a", "./a/"), "./a/ is named twice"),
        (("found", "missing"), "there is no run missing in"),
        (("found", "unfinished"), "has no result.json: it has not ended"),
        (("found", "odd"), "odd/result.json is no result of a retraining"),
        (("found", "other"), "of different data: --dataset was digits for found, cifar10 for other"),
        (("a", "b"), "genotype file .*search/a/genotype.json: there is no such file"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(runs, names, word):
    with pytest.raises(CydasError, match=word):
        main_of("scripts/compare.py")([str(runs), *names])


def test_random_cells_depend_on_a_seed_that_is_a_number(tmp_path, capfd):
    assert run("scripts/random_genotype.py", 7, tmp_path / "cell.json") == 0
    expected = random_genotype(torch.Generator().manual_seed(7))
    assert load_architecture(tmp_path / "cell.json", 3) == [expected] * 3
    cells = []
    for seed in (7, 8, 7):
        assert run("scripts/random_genotype.py", seed, tmp_path / "cell.json", "--space", "nats") == 0
        cells.append(load_architecture(tmp_path / "cell.json", 3, "nats"))
    assert cells[0] == cells[2] != cells[1]
    for seed in ("x", "-1", "1_0", "+1", "٣", "1.0", "9" * 30):
        assert run("scripts/random_genotype.py", seed, tmp_path / "other.json") == 2
    for place in (".", "/proc/none/cell.json", tmp_path):
        capfd.readouterr()
        assert run("scripts/random_genotype.py", 1, place) == 2
        assert capfd.readouterr().err.startswith("error: cannot write")
    assert [path.name for path in tmp_path.iterdir()] == ["cell.json"]


@pytest.mark.parametrize(
    ("program", "arguments", "word"),
    [
        ("benchmarks/plots.py", ["nats", "none.json"], "summary none.json: there is no such file"),
        ("benchmarks/plots.py", ["nats", str(CELL)], "not the results that this picture shows"),
        ("benchmarks/plots.py", ["nats", "."], "summary .: Is a directory"),
        ("benchmarks/speed.py", ["--only", "none"], "no case none; there are supernet"),
        ("benchmarks/speed.py", ["--repeats", "0"], "must be at least 1"),
        ("benchmarks/busy.py", ["--threads", "0"], "--repeats and --threads must be at least 1"),
        ("CyDAS/nats_table.py", ["show", "none.csv", "1"], "table none.csv: there is no such file"),
        ("CyDAS/nats_table.py", ["show", ".", "1"], "it cannot be read"),
        ("CyDAS/nats_table.py", ["random", str(CELL)], "the column index is missing"),
    ],
)
def test_other_programs_say_what_is_wrong_in_one_line(program, arguments, word, capfd):
    if "plots" in program:
        pytest.importorskip("matplotlib")
    assert run(program, *arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and re.search(word, err)


# -- output that cannot be written -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """A shell in a folder with a table; ``$TABLE`` asks it, and ``$LONG`` says more than a pipe holds."""
    folder = tmp_path_factory.mktemp("shell")
    write_table(folder / "t.csv", [dict.fromkeys(COLUMNS, 50) | {"index": 0, "arch_str": BEST}])
    program = f"{sys.executable} -m CyDAS.nats_table"
    variables = {"SHOW": f"{program} show t.csv", "LONG": f"{program} random t.csv --seeds {' '.join(['0'] * 1000)}"}

    def shell(command, unbuffered):
        environment = os.environ | variables | {"PYTHONPATH": str(ROOT)}
        environment |= {"PYTHONUNBUFFERED": "1"} if unbuffered else {}
        if not unbuffered:
            environment.pop("PYTHONUNBUFFERED", None)
        return subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)

    return shell


@pytest.mark.parametrize("unbuffered", [False, True], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize(
    ("command", "code", "error"),
    [
        ("$LONG | head -n 1 >/dev/null; exit ${PIPESTATUS[0]}", 141, ""),
        ("$SHOW 0 | true; exit ${PIPESTATUS[0]}", None, ""),
        ("$SHOW 0 >/dev/full", 2, "error: cannot write the output: No space left on device\n"),
        ("$SHOW 0 >&-", 0, ""),
        ("$SHOW -1 2>&-", 2, ""),
        ("$SHOW -1 2>/dev/full", 2, ""),
        ("$SHOW -1 >/dev/full", 2, "error: '-1' is no index"),
        ("$SHOW -h >/dev/full", 2, "error: cannot write the output"),
    ],
)
def test_nothing_but_a_word_comes_of_output_that_nobody_takes(shell, command, code, error, unbuffered):
    done = shell(command, unbuffered)
    assert done.stdout == "" and done.stderr.startswith(error) and bool(done.stderr) == bool(error)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    assert done.returncode == code or (code is None and done.returncode in (0, 141))


def test_a_program_that_must_go_on_does_whatever_becomes_of_its_output(tmp_path):
    """As search.py and retrain.py are started: their log has it all."""
    program = tmp_path / "long.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\nfrom CyDAS.utils.errors import run_program\n"
        "def main(_):\n    for i in range(3000):\n        print('x' * 100, flush=True)\n"
        "        print('y', file=sys.stderr)\n    Path('done').touch()\n"
        "run_program(main, lasting=True)\n"
    )
    start = f"{sys.executable} {program}"
    for command in (f"{start} 2>&1 | head -n 1", f"{start} >/dev/full 2>&1", f"{start} >&- 2>&-"):
        command += "; exit ${PIPESTATUS[0]}"
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == 0 and (tmp_path / "done").exists()
        (tmp_path / "done").unlink()
    for file in ("search", "retrain"):
        assert "run_program(main, lasting=True)" in (ROOT / f"CyDAS/{file}.py").read_text()


def test_ends_of_programs_have_their_codes(capfd):
    def end(error):
        def main(_):
            raise error

        with pytest.raises(SystemExit) as raised:
            run_program(main)
        return raised.value.code, capfd.readouterr().err

    assert end(CydasError("two\nlines \x1b[31m of \udcff")) == (2, "error: two\\nlines \\x1b[31m of \\xff\n")
    assert end(Stopped(15, "saved")) == (143, "saved\n") and end(Stopped(2, "")) == (130, "")
    assert end(KeyboardInterrupt()) == (130, "interrupted\n") and end(SystemExit("why")) == (1, "why\n")
    for error in (OSError(5, "of a disk"), BrokenPipeError(32, "of a worker"), ZeroDivisionError()):
        with pytest.raises(type(error)):  # not of the output: a bug or a fault that must be seen
            end(error)


def test_names_that_are_not_text_can_be_printed(capfd):
    run_program(lambda _: print("\udcff ±"))
    assert capfd.readouterr().out == "\\udcff ±\n"
