"""Several runs by one command: which there are, where they run, how they go on, and the table at the end."""

import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit
import yaml

from CyDAS.config import RetrainConfig, SearchConfig
from CyDAS.engine import many, slurm_jobs
from CyDAS.engine.local_jobs import run_all
from CyDAS.engine.many import plan
from CyDAS.engine.slurm_jobs import JOBS, Job, parameters_of, run_on_slurm
from CyDAS.retrain import main as retrain
from CyDAS.search import main as search
from CyDAS.utils.errors import CydasError, Stopped
from CyDAS.utils.flags import parse, parse_each, to_arguments

TINY = (
    "--space nats --cells_per_stage 1 --init_channels 2 --image_size 8 --batch_size 32 --device cpu --threads 1"
).split()
SEARCH = "--sample_ratio 0.05 --pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --nasnet_warmup 0".split()
TRAIN = "--epochs 1 --aux_weight 0 --cutout_length 0".split()


def write(path, **flags):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(flags))
    return str(path)


def planned(*words, kind=SearchConfig, program="search"):
    return plan(program, parse_each(kind, "", [str(word) for word in words]))


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs that would be processes are calls; the names of those that were started."""
    started = []

    def call(commands, jobs, threads, gpus):
        codes = {}
        for name, (_, program, *words) in commands.items():
            started.append(name)
            try:
                {"search": search, "retrain": retrain}[Path(program).stem](words)
                codes[name] = 0
            except CydasError:
                codes[name] = 2
        return codes

    monkeypatch.setattr(many, "run_all", call)
    return started


# -- which runs there are ----------------------------------------------------------------------------------------------


def test_every_file_and_seed_is_a_run_and_flags_beside_the_files_win(tmp_path):
    base = write(tmp_path / "base.yaml", search_iter=9, w_lr=0.1, alpha_lr=0.1, regular=True)
    a = write(tmp_path / "a.yaml", w_lr=0.2, alpha_lr=0.2)
    b = write(tmp_path / "b.yaml", w_lr=0.3, not_given={"regular": False, "jobs": 1})
    words = ["--config", base, "--configs", a, b, "--seeds", 3, 4, "--alpha_lr", 0.5, "--name", "x"]
    members = planned(*words)
    assert [member.name for member in members] == ["x-a-seed3", "x-a-seed4", "x-b-seed3", "x-b-seed4"]
    values = [(m.config.search_iter, m.config.w_lr, m.config.alpha_lr, m.config.regular) for m in members[::2]]
    assert values == [(9, 0.2, 0.5, True), (9, 0.3, 0.5, False)]
    assert "regular" in members[0].given and "regular" not in members[2].given
    command = members[3].command(Path("search.py"), 2)
    alone, _ = parse(SearchConfig, "", command[2:])
    assert (alone.name, alone.seed, alone.threads, alone.w_lr, alone.is_many) == ("x-b-seed4", 4, 2, 0.3, False)
    assert [m.name for m in planned("--config", base, "--configs", a, "--seed", 7)] == ["default-a-seed7"]


def test_a_file_that_a_run_has_left_is_one_of_the_files(tmp_path):
    files = [write(tmp_path / n / "config.yaml", name=n, seed=1, output_dir="o", search_iter=9) for n in ("one", "two")]
    members = planned("--configs", *files, "--seeds", 5, "--name", "x", "--output_dir", tmp_path)
    assert [(m.name, m.config.seed) for m in members] == [("x-one-seed5", 5), ("x-two-seed5", 5)]
    assert members[0].folder == tmp_path / "search/x-one-seed5"


def test_all_runs_train_the_cell_of_their_common_name_unless_a_file_says_another(tmp_path):
    a = write(tmp_path / "a.yaml", cell_file="other.json")
    flags = ["--seeds", 1, "--name", "x", "--output_dir", "o"]
    (one,), (other,) = (planned(*flags, *f, kind=RetrainConfig, program="retrain") for f in ((), ("--configs", a)))
    assert "--cell_file=o/search/x/genotype.json" in one.command(Path("retrain.py"), None)
    assert to_arguments(other.config, {"cell_file"}) == ["--cell_file=other.json"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--configs a.yaml folder/a.yaml", "a.yaml folder/a.yaml: runs of both would be a: rename one"),
        ("--configs a.yaml seeds.yaml", "seeds.yaml: --seeds is said once for all --configs"),
        ("--configs a.yaml gone.yaml", "gone.yaml: No such file"),
        ("--configs a.yaml --dry_run", "leave out --seeds and --configs"),
        ("--seeds 1 --slurm partition=gpu", "--slurm is for --launcher slurm"),
    ],
)
def test_what_cannot_be_several_runs_is_refused_before_any_starts(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "folder/a.yaml"):
        write(tmp_path / name, search_iter=9)
    write(tmp_path / "seeds.yaml", search_iter=9, seeds=[1])
    with pytest.raises(CydasError, match=message):
        search(["--search_iter", "6", *words.split()])
    assert not (tmp_path / "experiments").exists()


def test_without_submitit_slurm_is_refused_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(CydasError, match="pip install submitit"):
        parse(SearchConfig, "", "--search_iter 9 --seeds 1 --launcher slurm".split())


# -- the table, and going on -------------------------------------------------------------------------------------------


def test_searches_of_two_files_and_two_seeds_go_on_where_they_were_and_end_in_one_table(
    tmp_path, in_this_process, capsys
):
    files = [write(tmp_path / "slow.yaml", alpha_lr=0.001), write(tmp_path / "fast.yaml", alpha_lr=0.1)]
    flags = [*TINY, *SEARCH, "--output_dir", str(tmp_path), "--name", "x", "--configs", *files, "--seeds", "0", "1"]
    broken = tmp_path / "search/x-fast-seed1"
    broken.mkdir(parents=True)
    (broken / "somebody's file").touch()
    with pytest.raises(CydasError, match=r"failed: x-fast-seed1 \(code 2\)$"):
        search(flags)
    said = capsys.readouterr().out.splitlines()
    (slow,), (fast,) = ([s.split() for s in said if s.startswith("entropy ") and n in s] for n in ("slow", "fast"))
    assert slow[:3] == ["entropy", "slow", "2"] and slow[4] == "±" and fast[:3] == ["entropy", "fast", "1"]
    summary = json.loads((tmp_path / "search/x-seeds.json").read_text())
    assert set(summary["seeds"]) == {"slow-seed0", "slow-seed1", "fast-seed0"}
    assert summary["failed"] == {"x-fast-seed1": "code 2"}
    figure = summary["table"]["slow"]["entropy"]
    worst, best = sorted((figure["worst"], figure["best"]), key=lambda each: -each["value"])
    assert figure["n"] == 2 and (worst, best) == (figure["worst"], figure["best"]), "less entropy is better"
    assert figure["mean"] == pytest.approx((best["value"] + worst["value"]) / 2)
    page = (tmp_path / "search/x-seeds.md").read_text()
    assert "> **Note:** x-fast-seed1 failed: code 2" in page and "| entropy | slow | 2 | " in page

    (broken / "somebody's file").unlink()
    (tmp_path / "search/x-slow-seed1/result.json").unlink()  # as of a search that was cut off
    in_this_process.clear()
    search([*flags, "--resume"])
    assert in_this_process == ["x-slow-seed1", "x-fast-seed1"]
    again = json.loads((tmp_path / "search/x-seeds.json").read_text())
    assert len(again["seeds"]) == 4 and again["table"]["slow"] == summary["table"]["slow"] and not again["failed"]

    in_this_process.clear()  # runs with other flags have not ended, and say what differs
    with pytest.raises(CydasError, match="failed: x-slow-seed0 .* x-slow-seed1"):
        search([*flags, "--resume", "--configs", files[0], "--w_lr", "0.3"])
    assert in_this_process == ["x-slow-seed0", "x-slow-seed1"]


def test_trainings_of_one_cell_have_their_accuracy_in_the_table(tmp_path, in_this_process):
    cell = tmp_path / "search/x/genotype.json"
    cell.parent.mkdir(parents=True)
    cell.write_text('"|nor_conv_1x1~0|+|none~0|skip_connect~1|+|skip_connect~0|none~1|none~2|"')
    retrain([*TINY, *TRAIN, "--output_dir", str(tmp_path), "--name", "x", "--seeds", "0", "1", "--no-report"])
    found = [json.loads((tmp_path / f"retrain/x-seed{n}/result.json").read_text())["last"]["top1"] for n in (0, 1)]
    table = json.loads((tmp_path / "retrain/x-seeds.json").read_text())["table"]["x"]
    assert table["top1"]["mean"] == pytest.approx(sum(found) / 2) and table["top1"]["best"]["value"] == max(found)
    assert table["parameters"]["std"] == 0 and not (tmp_path / "retrain/x-seeds.md").exists()


# -- processes here, jobs of a cluster ---------------------------------------------------------------------------------


def test_a_signal_ends_the_processes_when_they_have_saved(tmp_path):
    code = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (save.touch(), sys.exit(143)))"
    code += "; save = pathlib.Path(sys.argv[1]); save.with_suffix('.on').touch(); time.sleep(60)"
    commands = {n: [sys.executable, "-S", "-c", code, str(tmp_path / n)] for n in ("a", "b")}

    def stop():
        while len(list(tmp_path.glob("*.on"))) < 2:
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    with pytest.raises(Stopped, match="SIGTERM: the runs have saved and ended; to go on: the same command with --res"):
        run_all(commands, 2, 1)
    assert (tmp_path / "a").exists() and (tmp_path / "b").exists()


def test_submitit_runs_the_commands_and_a_log_says_what_one_that_failed_said(tmp_path, monkeypatch):
    """By its executor for this machine: there is no Slurm here."""
    monkeypatch.setattr(slurm_jobs, "make_executor", lambda folder, parameters: submitit.LocalExecutor(folder))
    say = "import sys; print('said', file=sys.stderr); sys.exit(len(sys.argv) - 1)"
    commands = {n: [sys.executable, "-S", "-c", say, *["x"] * n] for n in (0, 3)}
    codes = run_on_slurm(commands, tmp_path / "jobs", {}, resume=False)
    assert codes[0] == 0 and codes[3].startswith("code 3, log ")
    assert "said" in Path(codes[3].partition("log ")[2]).read_text()
    assert set(json.loads((tmp_path / "jobs" / JOBS).read_text())) == {"0", "3"}


class Queue:
    """An executor whose jobs are in a cluster's queue."""

    def __init__(self):
        self.submitted = []

    def job_class(self, folder, job_id):
        states = {"7_0": "RUNNING", "7_1": "COMPLETED"}
        return SimpleNamespace(
            job_id=job_id, state=states[job_id], done=lambda: True, exception=lambda: None, result=lambda: 0
        )

    def batch(self):
        return threading.Lock()  # some context

    def submit(self, job):
        self.submitted.append(job.command)
        return self.job_class(None, "7_1") if job.command != ["stop"] else SimpleNamespace(job_id="9_0", done=stop)


def stop():
    raise KeyboardInterrupt


def test_jobs_that_are_in_the_queue_are_waited_for_not_submitted_again(tmp_path, monkeypatch):
    queue = Queue()
    monkeypatch.setattr(slurm_jobs, "make_executor", lambda folder, parameters: queue)
    (tmp_path / JOBS).write_text(json.dumps({"a": "7_0", "b": "7_1"}))
    with pytest.raises(CydasError, match="a is in the queue as job 7_0: --resume waits for it, scancel ends it"):
        run_on_slurm({"a": ["a"], "b": ["b"]}, tmp_path, {}, resume=False)
    assert run_on_slurm({"a": ["a"], "b": ["b"]}, tmp_path, {}, resume=True) == {"a": 0, "b": 0}
    assert queue.submitted == [["b"]]
    with pytest.raises(Stopped, match="SIGINT: the jobs stay in the queue, --resume waits .* scancel 9 ends them"):
        run_on_slurm({"c": ["stop"]}, tmp_path, {}, resume=True)
    assert json.loads((tmp_path / JOBS).read_text())["c"] == "9_0"


def test_a_job_whose_time_is_nearly_up_saves_and_goes_on_when_it_is_queued_again(tmp_path, monkeypatch):
    code = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (save.touch(), sys.exit(143)))"
    code += "; save = pathlib.Path('saved'); '--resume_or_start' in sys.argv and sys.exit(0)"
    code += "; pathlib.Path('on').touch(); time.sleep(60)"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slurm_jobs, "PATIENCE", 0)
    job = Job([sys.executable, "-S", "-c", code])
    codes = []
    thread = threading.Thread(target=lambda: codes.append(job()))
    thread.start()
    while not Path("on").exists():
        threading.Event().wait(0.05)
    again = job.checkpoint()
    assert Path("saved").exists() and again.function() == 0
    thread.join()
    assert codes == [143]
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")  # a job that Slurm itself has queued again
    assert Job(job.command)() == 0


def test_what_a_job_asks_for_is_said_as_sbatch_has_it(tmp_path, monkeypatch):
    asked = parameters_of(["partition=gpu", "--time=90", "mem=32G", "exclusive", "gres=gpu:a100:1"], "x", True, 3)
    (tmp_path / "srun").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    executor = slurm_jobs.make_executor(tmp_path, asked)
    lines = executor._make_submission_file_text("run", "1").splitlines()
    wanted = ["job-name=x", "partition=gpu", "time=90", "mem=32G", "exclusive", "gres=gpu:a100:1", "signal=USR2@180"]
    assert {f"#SBATCH --{each}" for each in wanted} <= set(lines) and not any("gpus" in line for line in lines)
    assert asked["array_parallelism"] == 3
    assert parameters_of([], "x", True, None)["additional_parameters"] == {"gpus_per_node": 1}
    assert parameters_of([], "x", False, None)["additional_parameters"] == {}
    for word in ("nodes=2", "time=1:00:00", "=3"):
        with pytest.raises(CydasError, match=f"--slurm {word}: "):
            parameters_of([word], "x", True, None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CydasError, match="there is no srun here"):
        slurm_jobs.make_executor(tmp_path, asked)
