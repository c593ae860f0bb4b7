"""Figures go where they are wanted; a tracker that fails costs a run nothing but itself."""

import json
import sys
from types import ModuleType

import pytest

from CyDAS.runs.logs import RunLog
from CyDAS.runs.trackers import open_tracker
from CyDAS.search import main as search
from CyDAS.utils.errors import CydasError

SMALL = (
    "--dataset digits --space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --batch_size 16 --device cpu "
    "--threads 1 --sample_ratio 0.05 --pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --print_freq 1"
).split()


class Stub(ModuleType):
    """What trackio and wandb have in common."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec(name, None)
        self.begun, self.logged, self.finished = [], [], 0

    def init(self, **options):
        self.begun.append(options)

    def log(self, figures, step):
        if self.fails_at is not None and len(self.logged) == self.fails_at:
            raise RuntimeError("no network")
        self.logged.append((step, figures))

    def finish(self):
        self.finished += 1

    fails_at = None
    Image = staticmethod(lambda pixels: ("image", pixels))


@pytest.fixture(params=["trackio", "wandb"])
def package(request, monkeypatch):
    stub = Stub(request.param)
    monkeypatch.setitem(sys.modules, request.param, stub)
    return stub


def figures_of(run):
    return [json.loads(line) for line in (run / "figures.jsonl").read_text().splitlines()]


def test_a_package_gets_every_figure_of_the_run(package, tmp_path):
    search([*SMALL, "--output_dir", str(tmp_path), "--name", "run", "--tracker", package.__name__])
    (begun,) = package.begun
    assert begun["project"] == "CyDAS" and begun["name"] == "search run" and begun["config"]["batch_size"] == 16
    written = figures_of(tmp_path / "search/run")
    assert package.logged == [(entry["step"], entry["figures"]) for entry in written] and len(written) > 3
    assert package.finished == 1 and not (tmp_path / "search/run/tensorboard").exists()


def test_a_package_that_fails_costs_the_run_nothing(package, tmp_path):
    package.fails_at = 1
    search([*SMALL, "--output_dir", str(tmp_path), "--name", "run", "--tracker", package.__name__])
    run = tmp_path / "search/run"
    assert (run / "genotype.json").exists() and len(package.logged) == 1 and len(figures_of(run)) > 3
    assert (run / "search.log").read_text().count("nothing more is tracked: RuntimeError: no network") == 1


def test_a_package_that_does_not_start_is_an_error(package, tmp_path, monkeypatch):
    monkeypatch.setattr(package, "init", lambda **options: 1 / 0)
    with pytest.raises(CydasError, match=f"--tracker {package.__name__} does not start: ZeroDivisionError"):
        open_tracker(package.__name__, tmp_path, {})


def test_a_missing_package_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("CyDAS.config.programs.find_spec", lambda name: None)
    with pytest.raises(CydasError, match="pip install wandb"):
        search([*SMALL, "--output_dir", str(tmp_path), "--tracker", "wandb"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tensorboard", "none"])
def test_tensorboard_is_there_unless_nothing_is_wanted(tmp_path, name):
    log = RunLog(tmp_path, "x.log", open_tracker(name, tmp_path, {}))
    log.scalars({"a": 1.0}, 3)
    log.close()
    assert (tmp_path / "tensorboard").exists() == (name == "tensorboard")
    assert figures_of(tmp_path) == [{"step": 3, "figures": {"a": 1.0}}]


def test_pictures_go_to_the_package(package, tmp_path):
    tracker = open_tracker(package.__name__, tmp_path, {})
    tracker.picture("b", [[1]], 2)
    assert package.logged == [(2, {"b": ("image", [[1]])})]


def test_a_disk_that_stays_full_is_said_once(tmp_path, monkeypatch):
    log = RunLog(tmp_path, "x.log", open_tracker("none", tmp_path, {}))
    for step, is_full in enumerate([False, True, True, False, True]):
        with monkeypatch.context() as patch:
            if is_full:
                patch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "no space left")))
            log.scalars({"a": 1.0}, step)
    log.close()
    lines = [line.split("figures ")[1] for line in (tmp_path / "x.log").read_text().splitlines()]
    first, second = (f"of step {step} and on are not in figures.jsonl: [Errno 28] no space left" for step in (1, 4))
    assert lines == [first, "are in figures.jsonl again from step 3 on", second]
    assert [entry["step"] for entry in figures_of(tmp_path)] == [0, 3]
