"""Nothing is ever lost: runs that are cut off anywhere, files that are damaged, disks that are full."""

import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.faults import figures
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.models.cells.genotype import GenotypeError, parse_genotype, random_genotype
from CyDAS.models.nats.architecture import OPERATIONS, Architecture, parse_architecture
from CyDAS.retrain import main as retrain
from CyDAS.runs import checkpoint as checkpoints
from CyDAS.runs.checkpoint import load_checkpoint, load_newest, save_checkpoint
from CyDAS.runs.folder import Lock
from CyDAS.search import main as search
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import previous

TINY = "--init_channels 4 --image_size 8 --batch_size 16 --print_freq 2 --device cpu --threads 1".split()
NATS = "--space nats --cells_per_stage 1".split()
ROUNDS = "--sample_ratio 0.07 --pretrain_epochs 1 --search_iter 3 --search_iter_epochs 1 --nasnet_warmup 1".split()
SEARCH = [*TINY, *NATS, *ROUNDS, "--regular", "--ensemble_param"]
RETRAIN = [*TINY, *NATS, *"--batch_size 200 --epochs 2 --aux_weight 0 --mixup_alpha 0.2 --lr 0.05".split()]
EVERY_STEP = ["--checkpoint_minutes", "1e-9"]
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def run_search(folder, *flags):
    search([*SEARCH, "--output_dir", str(folder), "--name", "run", *flags])
    return folder / "search/run"


def run_retrain(folder, *flags):
    (folder / "cell.json").write_text(json.dumps(BEST))
    retrain([*RETRAIN, "--output_dir", str(folder), "--name", "run", "--cell_file", str(folder / "cell.json"), *flags])
    return folder / "retrain/run"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return SimpleNamespace(search=run_search(folder), retrain=run_retrain(folder))


def same(a, b):
    """Whether two nested values agree, tensors to the last bit; times and commands aside."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a if key not in ("about", "config"))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def assert_same_search(run, other):
    mine, theirs = (load_checkpoint(r / "search_resume.pth.tar", sealed=True) for r in (run, other))
    assert same(mine, theirs)
    assert (run / "genotype.json").read_text() == (other / "genotype.json").read_text()
    assert figures(run / "search.log") == figures(other / "search.log")


# -- cut off anywhere ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [1, 2, 4, 5])
def test_a_search_cut_off_in_any_epoch_ends_as_if_it_had_not(undisturbed, tmp_path, monkeypatch, step):
    """Steps 1 to 3: warm-up; then of each cycle three steps of the evaluation network and three joint ones."""
    for update, calls in (("train_update", step), ("evaluation_update", step)):
        folder = tmp_path / update
        original, left = getattr(CyclicSearch, update), [calls]

        def cut(self, *batch, original=original, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return original(self, *batch)

        with monkeypatch.context() as patch:
            patch.setattr(CyclicSearch, update, cut)
            with pytest.raises(KeyboardInterrupt):
                run_search(folder, *EVERY_STEP)
        assert_same_search(run_search(folder, "--resume"), undisturbed.search)


@pytest.mark.parametrize("step", [1, 4, 6, 9])
def test_a_retraining_cut_off_in_any_epoch_ends_as_if_it_had_not(undisturbed, tmp_path, monkeypatch, step):
    import CyDAS.engine.training as loop

    update, left = loop.learn, [step]

    def cut(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return update(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learn", cut)
        with pytest.raises(KeyboardInterrupt):
            run_retrain(tmp_path, *EVERY_STEP)
    run = run_retrain(tmp_path, "--resume")
    for name in ("retrain_resume.pth.tar", "last.pth.tar", "best.pth.tar"):
        assert same(*(load_checkpoint(r / name) for r in (run, undisturbed.retrain))), name
    assert figures(run / "retrain.log") == figures(undisturbed.retrain / "retrain.log")


def start(*command):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes)


def wait_for_text(process, word):
    for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"ended without {word!r}: {process.stderr.read()}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_how_to_go_on(undisturbed, tmp_path, number, code):
    process = start("CyDAS/search.py", *SEARCH, "--print_freq", "1", "--output_dir", str(tmp_path), "--name", "run")
    wait_for_text(process, "cycle 1/2, evaluation warm-up")
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code
    assert f"{number.name}: finishing the step" in errors and "to go on: python CyDAS/search.py" in errors
    assert errors.rstrip().endswith("--resume")
    run = run_search(tmp_path, "--resume")
    mine, theirs = (load_checkpoint(r / "search_resume.pth.tar")["search"] for r in (run, undisturbed.search))
    assert same(mine, theirs)


def test_a_second_run_in_one_folder_is_refused_and_a_dead_one_is_taken_over(tmp_path):
    process = start("CyDAS/search.py", *SEARCH, "--print_freq", "1", "--output_dir", str(tmp_path), "--name", "run")
    wait_for_text(process, "cycle 1/2")
    process.send_signal(signal.SIGSTOP)  # so that it has not ended before it is looked at
    for flag in ("--resume", "--overwrite"):
        with pytest.raises(CydasError, match=f"is in use by process {process.pid} on "):
            run_search(tmp_path, flag)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    run = run_search(tmp_path, "--resume")
    assert f"process {process.pid} on" in (run / "search.log").read_text()
    assert (run / "genotype.json").exists()


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path):
    path = tmp_path / "c.pth.tar"
    for number in (1, 2):
        save_checkpoint(path, {"number": number, "weights": torch.randn(50)})
    good = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    damages = {"cut": good[: len(good) // 2], "empty": b"", "foreign": b"not a checkpoint" * 40}
    for number in range(20):
        place = int(torch.randint(len(good), (), generator=generator))
        damages[f"flip {number}"] = good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :]
    for name, content in damages.items():
        path.write_bytes(content)
        notes = []
        assert load_newest(path, lambda content, file: None, notes.append)["number"] == 1, name
        assert len(notes) == 1 and str(path) in notes[0] and f"going on from {previous(path)}" in notes[0]
    previous(path).write_bytes(b"")
    with pytest.raises(CydasError, match="c.pth.tar: .*; .*c.pth.tar.previous: "):
        load_newest(path, lambda content, file: None, notes.append)
    assert path.read_bytes() == damages["flip 19"]


def test_another_runs_checkpoint_is_passed_over(undisturbed, tmp_path):
    run = run_search(tmp_path)
    other = run_search(tmp_path / "other", "--seed", "1")
    os.replace(run / "search_resume.pth.tar", previous(run / "search_resume.pth.tar"))
    os.replace(other / "search_resume.pth.tar", run / "search_resume.pth.tar")
    run_search(tmp_path, "--resume")
    assert "--seed was 1, is 0; going on from" in (run / "search.log").read_text()
    assert (run / "genotype.json").read_text() == (undisturbed.search / "genotype.json").read_text()


def test_a_full_disk_does_not_end_a_run_before_its_end(undisturbed, tmp_path, monkeypatch):
    seal, calls = checkpoints._seal, []

    def full(path):
        calls.append(path)
        if 2 <= len(calls) <= 3:
            raise OSError(28, "No space left on device")
        seal(path)

    monkeypatch.setattr(checkpoints, "_seal", full)
    run = run_search(tmp_path)
    assert (run / "search.log").read_text().count("No space left on device. The run goes on") == 2
    assert_same_search(run, undisturbed.search)
    assert not list(run.glob(".*.tmp"))

    monkeypatch.setattr(checkpoints, "_seal", lambda path: full(path) if len(calls) < 2 else exec_full())
    with pytest.raises(CydasError, match="its last checkpoint is missing: .*No space left"):
        run_search(tmp_path / "always")


def exec_full():
    raise OSError(28, "No space left on device")


# -- hostile files ---------------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def evil_pickles(trace):
    command = f"touch {trace}"
    return [
        Evil(os.system, command), Evil(eval, f"__import__('os').system('{command}')"), Evil(exec, "import os"),
        Evil(subprocess.Popen, ["touch", str(trace)]), Evil(__import__, "os"),
        Evil(torch.load, str(trace)), Evil(torch.hub.load, "a", "b"), Evil(open, str(trace), "w"),
    ]  # fmt: skip


def test_pickles_that_run_code_are_refused_without_running(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "c.pth.tar"
    for evil in evil_pickles(trace):
        for content in (evil, {"model_main": evil}, [{"a": (evil,)}]):
            path.write_bytes(pickle.dumps(content))
            with pytest.raises(CydasError, match="checkpoint .*c.pth.tar: it is damaged or"):
                load_checkpoint(path)
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
                archive.writestr("archive/version", "3\n")
                archive.writestr("archive/byteorder", "little")
            with pytest.raises(CydasError, match="checkpoint .*c.pth.tar: it is damaged or"):
                load_checkpoint(path)
    assert not trace.exists()


def test_files_that_claim_to_be_large_are_refused_by_their_size(tmp_path):
    path, memory = tmp_path / "c.pth.tar", io.BytesIO()
    torch.save({"weights": torch.zeros(1000)}, memory)
    with zipfile.ZipFile(memory) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for entry in archive.namelist():
            bomb.writestr(entry, archive.read(entry) if "data/0" not in entry else bytes(200_000_000))
    with pytest.raises(CydasError, match="it is compressed, which no checkpoint is"):
        load_checkpoint(path)
    # the old format writes a storage's size before it
    torch.save({"weights": torch.zeros(1000)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.count(struct.pack("<H", 1000)) >= 2
    path.write_bytes(content.replace(b"M\xe8\x03", b"J\x00\x00\x00\x20"))
    with pytest.raises(CydasError, match="checkpoint .*c.pth.tar: it"):
        load_checkpoint(path)


@pytest.mark.parametrize("order", ["little", "big", "none of the two", None])
def test_storages_that_claim_to_be_larger_than_their_zip_file_or_come_in_another_order_are_refused(tmp_path, order):
    path, memory = tmp_path / "c.pth.tar", io.BytesIO()
    torch.save({"weights": torch.arange(1000.0)}, memory)

    def write(*change):
        with zipfile.ZipFile(memory) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as other:
            for name in archive.namelist():
                content = archive.read(name).replace(*change) if name.endswith("data.pkl") else archive.read(name)
                content = order.encode() if name.endswith("/byteorder") and order else content
                if order or not name.endswith("/byteorder"):
                    other.writestr(name, content)

    write(b"M\xe8\x03", b"M\xe8\x03")
    if (order or "little") != sys.byteorder:
        with pytest.raises(CydasError, match="its bytes are in another order than this machine's"):
            load_checkpoint(path)
        return
    assert torch.equal(load_checkpoint(path)["weights"], torch.arange(1000.0))
    write(b"M\xe8\x03", b"J\x00\x00\x00\x20")
    with pytest.raises(CydasError, match="it claims to hold more than|record size"):
        load_checkpoint(path)


def test_a_checkpoint_is_gone_through_once(tmp_path, monkeypatch):
    """Those of a search have thousands of tensors, and each pass takes its time."""
    path, loads, original = tmp_path / "c.pth.tar", [], torch.load
    save_checkpoint(path, {"weights": torch.ones(3)})
    monkeypatch.setattr(torch, "load", lambda *a, **k: loads.append(a) or original(*a, **k))
    assert torch.equal(load_checkpoint(path)["weights"], torch.ones(3)) and len(loads) == 1


TEXTS = [repr(random_genotype(torch.Generator().manual_seed(seed))) for seed in range(5)]


@st.composite
def mutated(draw, originals):
    """A valid text with pieces left out, doubled, exchanged or replaced."""
    text = draw(originals)
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, max(0, len(text) - 1)))
        end = start + draw(st.integers(0, 12))
        piece = draw(
            st.sampled_from(["", text[start:end] * 2, "(", "[", "'", "none", "__import__('os')", "9" * 30, "\0"])
        )
        text = text[:start] + piece + text[end:]
    return text


LONG = settings(max_examples=2000, deadline=None, suppress_health_check=list(HealthCheck))


@LONG
@given(st.one_of(mutated(st.sampled_from(TEXTS)), st.text(max_size=200)))
def test_genotype_strings_are_read_and_round_trip_or_are_refused(text):
    try:
        genotype = parse_genotype(text)
    except GenotypeError as error:
        assert str(error)
    else:
        assert parse_genotype(repr(genotype)) == genotype


@LONG
@given(
    st.one_of(
        mutated(st.tuples(*[st.sampled_from(OPERATIONS)] * 6).map(lambda names: str(Architecture(names)))),
        st.text(max_size=200),
    )
)
def test_nats_strings_are_read_and_round_trip_or_are_refused(text):
    try:
        architecture = parse_architecture(text)
    except GenotypeError as error:
        assert str(error)
    else:
        assert str(architecture) == text.strip()


def test_a_lock_is_let_go_with_the_process_and_says_whose_it_was(tmp_path):
    """Also where a forked worker outlives its program."""
    code = "\n".join(
        [
            "import os, sys, time",
            "from pathlib import Path",
            "from CyDAS.runs.folder import Lock",
            "lock = Lock(Path(sys.argv[1]))",
            "lock.claim()",
            "time.sleep(60) if os.fork() == 0 else os._exit(0)",
        ]
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, start_new_session=True)
    try:
        assert process.wait(timeout=120) == 0
        lock = Lock(tmp_path)
        assert lock.former.startswith(f"process {process.pid} on ")
        with pytest.raises(CydasError, match="is in use by"):
            Lock(tmp_path)
        lock.release()
        assert Lock(tmp_path).former == ""
    finally:
        os.killpg(process.pid, signal.SIGKILL)
