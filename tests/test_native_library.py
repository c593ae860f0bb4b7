"""The compiled library: only one of the user's own is run, a damaged one is compiled anew, a run says which it is."""

import json
import logging
import os
import shlex
import shutil
from pathlib import Path

import pytest
import torch

from CyDAS import retrain
from CyDAS.models import native
from CyDAS.models.native import cache
from CyDAS.runs.about import other_bits

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


@pytest.fixture
def home(monkeypatch, tmp_path):
    """A cache folder of the test's own, and no library from before."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("CYDAS_NATIVE", "CYDAS_NATIVE_FLAGS", "CXX"):
        monkeypatch.delenv(name, raising=False)
    native.library.cache_clear()
    yield tmp_path / "cydas"
    native.library.cache_clear()


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A source that compiles at once, with all the library's functions and one that counts."""
    source = tmp_path / "source"
    source.mkdir()
    functions = "\n".join(f"void {name}() {{}}" for name in cache.FUNCTIONS)
    (source / "cell.cpp").write_text(f'extern "C" {{\n{functions}\n}}\n')
    monkeypatch.setattr(native, "SOURCE", source)
    monkeypatch.setattr(native, "FLAGS", ("-O0", "-shared", "-fPIC"))
    return source


def load_again():
    native.library.cache_clear()
    return native.library()


def compilations(caplog):
    return sum("compiling" in record.getMessage() for record in caplog.records)


@pytest.fixture
def log(caplog):
    with caplog.at_level(logging.INFO, logger="CyDAS"):
        yield caplog


@needs_compiler
def test_the_library_is_kept_for_its_owner_alone_and_compiled_once(home, quick, log):
    assert native.library() is not None and load_again() is not None
    assert compilations(log) == 1
    (kept,) = home.iterdir()
    assert [path.stat().st_mode & 0o777 for path in (home, kept)] == [0o700, 0o700]
    home.chmod(0o755)  # as earlier versions made it
    assert load_again() is not None and home.stat().st_mode & 0o777 == 0o700


@needs_compiler
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_may_write_to_is_refused(home, quick, log, mode):
    assert native.library() is not None
    home.chmod(mode)
    assert load_again() is None
    assert "other users may write to" in log.text and str(home) in log.text and "is not run" in log.text
    assert native.record()["used"] is False and str(home) in native.record()["reason"]


@needs_compiler
def test_a_folder_of_another_user_is_refused(home, quick, log, monkeypatch):
    assert native.library() is not None
    monkeypatch.setattr(os, "geteuid", lambda: home.stat().st_uid + 12345)
    if home.stat().st_uid == 0:  # root may be trusted by everyone: let another one own it
        os.chown(home, 4321, -1)
    assert load_again() is None and "owns" in log.text


@needs_compiler
@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.write_bytes(b""),
        lambda kept: kept.write_bytes(kept.read_bytes()[:4096]),
        lambda kept: kept.write_bytes(kept.read_bytes()[:-1]),
        lambda kept: kept.write_bytes(b"garbage"),
        lambda kept: kept.write_bytes(kept.read_bytes().replace(b"cydas", b"cybas")),
        lambda kept: kept.chmod(0o777),
        lambda kept: (kept.rename(kept.with_name("elsewhere")), kept.symlink_to("elsewhere")),
        lambda kept: kept.write_bytes(Path(torch._C.__file__).read_bytes()),  # a library, but not ours
    ],
)
def test_a_damaged_library_is_compiled_anew_once(home, quick, log, damage):
    native.library()
    (kept,) = home.iterdir()
    damage(kept)
    assert load_again().cydas_cell_float32
    assert compilations(log) == 2
    assert sum(record.levelname == "WARNING" and "compiled anew" in record.getMessage() for record in log.records) == 1
    assert kept.is_file() and not kept.is_symlink()
    assert load_again() is not None and compilations(log) == 2


@needs_compiler
def test_a_sealed_library_without_our_functions_is_compiled_anew(home, quick, log):
    """What an earlier version under the same name might be."""
    native.library()
    (kept,) = home.iterdir()
    names = cache.FUNCTIONS
    try:
        cache.FUNCTIONS = (*names, "cydas_of_tomorrow")
        assert load_again() is None  # nor does compiling it help
        assert "no function cydas_of_tomorrow" in log.text and compilations(log) == 3
    finally:
        cache.FUNCTIONS = names
    assert load_again() is not None


@needs_compiler
@pytest.mark.parametrize("place", ["a file", "/proc/nothing/here"])
def test_without_a_folder_to_keep_it_in_it_is_compiled_for_this_process(home, quick, log, place, monkeypatch):
    if place == "a file":
        home.write_text("in the way")
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", place)
    assert native.library().cydas_cell_float32
    assert "cannot be kept" in log.text and native.record()["used"]


@needs_compiler
def test_the_current_folder_is_never_the_cache(home, quick, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "source")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert native.library() is not None
    assert not (tmp_path / "source" / "cydas").exists() and (tmp_path / "home/.cache/cydas").is_dir()


@needs_compiler
def test_the_compiler_may_be_a_command_of_several_words(home, quick, log, monkeypatch, tmp_path):
    wrapper = tmp_path / "my ccache"
    wrapper.write_text(f'#!/bin/sh\necho "$*" >> {shlex.quote(str(tmp_path / "calls"))}\nexec "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setenv("CXX", f"'{wrapper}' g++")
    monkeypatch.setenv("CYDAS_NATIVE_FLAGS", "-DONE -DTWO=2")
    assert native.library() is not None
    first, second = (tmp_path / "calls").read_text().splitlines()
    assert first == "g++ --version" and second.startswith("g++ -O0") and "-DONE -DTWO=2" in second
    assert native.record()["compiler"].startswith("g++")
    monkeypatch.setenv("CYDAS_NATIVE_FLAGS", "")
    assert load_again() is not None and compilations(log) == 2  # other flags, another library


@pytest.mark.parametrize(
    ("command", "said"),
    [("ccash g++", "not there: ccash"), ("'g++", "No closing quotation"), ("false", ""), ("g++ --no-such-flag", "")],
)
def test_a_compiler_that_does_not_work_is_said_once(home, quick, log, monkeypatch, command, said):
    monkeypatch.setenv("CXX", command)
    assert native.library() is None and native.library() is None
    (record,) = [record for record in log.records if record.levelname == "WARNING"]
    assert "plain PyTorch instead" in record.getMessage() and said in record.getMessage()
    assert native.record() == {"used": False, "reason": native.record()["reason"]}


@needs_compiler
def test_flags_that_the_compiler_does_not_know_are_said(home, quick, log, monkeypatch):
    """As -march=native or -fopenmp to some compilers."""
    monkeypatch.setattr(native, "FLAGS", ("-fno-such-thing", "-shared", "-fPIC"))
    assert native.library() is None and "no-such-thing" in log.text
    assert not list(home.iterdir())


CELL = {"0": "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"}


def train(folder, *flags):
    arguments = f"--space nats --cells_per_stage 1 --init_channels 2 --aux_weight 0 --output_dir {folder} --name r"
    cell = folder / "cell.json"
    cell.write_text(json.dumps(CELL))
    retrain.main([*arguments.split(), "--cell_file", str(cell), "--batch_size", "600", "--workers", "0", *flags])
    return folder / "retrain" / "r"


def test_a_run_says_how_it_computed_and_a_continuation_what_differs(tmp_path, monkeypatch):
    if native.library() is None:
        pytest.skip("no native kernels")
    run = train(tmp_path, "--epochs", "1", "--threads", "1")
    made = json.loads((run / "config.json").read_text())["native"]
    assert made == {"used": True, "library": made["library"], "compiler": made["compiler"]} == native.record()
    assert made["library"].startswith("cell-")
    train(tmp_path, "--epochs", "2", "--threads", "1", "--resume")
    assert "other bits" not in (run / "retrain.log").read_text()
    native.library.cache_clear()
    monkeypatch.setenv("CYDAS_NATIVE", "0")
    try:
        train(tmp_path, "--epochs", "3", "--threads", "2", "--resume")
    finally:
        native.library.cache_clear()
        torch.set_num_threads(1)
    (line,) = [line for line in (run / "retrain.log").read_text().splitlines() if "other bits" in line]
    assert "threads 1, now 2" in line and f"native kernels {made['library']}, now none" in line
    assert "torch" not in line


def test_records_that_say_nothing_are_no_difference():
    now = {"versions": {"torch": "3"}, "machine": {"threads": 1}, "native": {"used": False, "reason": "no compiler"}}
    for then in (None, {}, {"versions": None}, "text", {"versions": {"torch": "3"}}, now):
        assert other_bits(then, now) == []
    assert other_bits({"versions": {"torch": "2"}}, now) == ["torch 2, now 3"]
    assert other_bits({"native": {"used": True, "library": "cell-1"}}, now) == ["native kernels cell-1, now none"]
