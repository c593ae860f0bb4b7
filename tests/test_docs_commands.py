"""Every command in README.md and docs is run, or at least what it starts understands it; what it needs is said."""

import argparse
import importlib
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from docs_commands import Command, Start, blocks, check_pip, commands_of, starts
from PIL import Image

from CyDAS.config import (
    DATASETS,
    IN_MEMORY,
    DetectConfig,
    EvaluationConfig,
    RetrainConfig,
    SearchConfig,
    SegmentConfig,
)
from CyDAS.config.spaces import FLAGS
from CyDAS.data.sets import LOADERS
from CyDAS.effects import idle_flags
from CyDAS.spaces.files import SPACES
from CyDAS.utils.distributed import Process
from CyDAS.utils.flags import parse

DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMANDS = list(dict.fromkeys(command for document in DOCUMENTS for command in commands_of(document)))
CONFIGS = {
    "CyDAS.search": SearchConfig, "CyDAS.retrain": RetrainConfig, "CyDAS.test": EvaluationConfig,
    "CyDAS.detect": DetectConfig, "CyDAS.segment": SegmentConfig,
}  # fmt: skip
#: Programs of others, and of the shell.
OUTSIDE = {"ruff", "mypy", "mkdocs", "source", "pytest"}
#: Scripts that do more than to start programs of Python.
NOT_STARTED = {"scripts/sanitize.sh", "scripts/try_wheel.sh"}
#: Documents whose commands are all run, and what makes each program small.
REAL = ("extending.md", "tutorial.md")
SMALL = {
    "CyDAS.search": "--init_channels 2 --batch_size 4 --sample_ratio 0.01 --pretrain_epochs 1 --search_iter 2 "
    "--search_iter_epochs 1 --nasnet_warmup 1 --device cpu --threads 1 --workers 0",
    "CyDAS.retrain": "--init_channels 2 --batch_size 600 --epochs 1 --lr 0.05 --device cpu --threads 1 --workers 0",
    "CyDAS.test": "--device cpu --threads 1 --workers 0",
    "CyDAS.export": "--threads 1",
}


class Parsed(Exception):
    """A program has read its command line."""


def lay(folder: Path) -> Path:
    """A folder with the repository's programs and with what the documents assume that a reader has."""
    for name in ("CyDAS", "scripts", "demo", "benchmarks", "docs", "tests"):
        (folder / name).symlink_to(ROOT / name)
    mine = folder / "experiments/search/mine/config.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("search_iter: 32\n")
    for name, text in (("BASE", "search_iter: 32"), ("slow", "alpha_lr: 3e-4"), ("fast", "alpha_lr: 3e-3")):
        (folder / f"{name}.yaml").write_text(f"{text}\n")
    (code,) = re.findall(r"```python\n(import torch\n.*?)```", (ROOT / "docs/extending.md").read_text(), re.DOTALL)
    (folder / "stripes.py").write_text(code)
    generator = np.random.default_rng(0)
    for number, name in enumerate(("daisy", "rose", "tulip")):
        (folder / "flowers" / name).mkdir(parents=True)
        for index in range(20):
            pixels = generator.integers(80 * number, 80 * number + 90, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"flowers/{name}/{index}.jpg")
    Image.fromarray(pixels).save(folder / "photo.jpg")
    (folder / "more_flowers").symlink_to("flowers")
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return lay(tmp_path_factory.mktemp("desk"))


@pytest.fixture(autouse=True)
def nothing_stays_registered(desk, monkeypatch):
    """Spaces and data sets of the documents are no other test's."""
    known = [(each, dict(each)) for each in (SPACES, FLAGS, LOADERS, IN_MEMORY)]
    names, path, modules = list(DATASETS), sys.path[:], set(sys.modules)
    monkeypatch.chdir(desk)
    yield
    for each, before in known:
        each.clear()
        each.update(before)
    DATASETS[:], sys.path[:] = names, path
    for name in {"stripes", "tiny_space"} & (set(sys.modules) - modules):
        del sys.modules[name]


def module_of(start: Start) -> str:
    """The module of a program that is named by its file or by itself."""
    if start.program.endswith(".py"):
        assert (ROOT / start.program).is_file(), f"there is no {start.program}"
        return start.program.removesuffix(".py").replace("/", ".")
    return start.program


def understood(start: Start, monkeypatch: pytest.MonkeyPatch):
    """What a program makes of its command line; it is not run. The configuration, where it has one."""
    name = module_of(start)
    if name in OUTSIDE:
        return None
    if name in CONFIGS:
        config, given = parse(CONFIGS[name], "", start.arguments)
        if name != "CyDAS.test":  # whose checkpoint says the rest
            idle_flags(config, given, Process(0, start.processes, torch.device("cpu")))
        return config
    read = argparse.ArgumentParser.parse_args

    def parse_args(self, arguments=None, namespace=None):
        read(self, arguments, namespace)
        raise Parsed

    with monkeypatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
        importlib.import_module(name).main(start.arguments)
    return None


def needed(config, processes: int) -> set[str]:
    """What a run needs that not everybody has."""
    found = {"GPU"} if processes > 1 else set()
    named = getattr(config, "train_dir", None) or getattr(config, "test_dir", None)
    if getattr(config, "dataset", "") == "imagenet" and not named:
        found.add("ImageNet")
    if isinstance(config, DetectConfig) and not config.predict and not config.test_json:
        found.add("COCO")
    if isinstance(config, SegmentConfig) and not config.predict:
        found |= {"cityscapes": {"Cityscapes"}, "ade20k": {"ADE20K"}}.get(config.dataset, set())
    return found


def is_inline(command: Command) -> bool:
    return f"`{command.text}`" in next(each for each in DOCUMENTS if each.name == command.document).read_text()


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_what_a_command_starts_is_there_and_understands_it(command, desk, monkeypatch):
    words = [word for word in command.words if not re.fullmatch(r"[A-Z_]+=.*", word)]
    program = words[0].removeprefix(".venv/bin/")
    needs = set()
    if program == "pip":
        check_pip(words[1:])
        needs = {"network"}
    elif program not in OUTSIDE and not set(words) & NOT_STARTED:
        all_started = starts(command, desk)
        assert all_started is not None, f"{command}: neither ours nor one of {', '.join(OUTSIDE)}"
        for start in all_started:
            if not start.arguments:  # a program's name in a sentence
                assert start.program in OUTSIDE or importlib.util.find_spec(module_of(start))
                continue
            processes = 1 if "CPU_PROCESSES" in command.text else start.processes
            needs |= needed(understood(start, monkeypatch), processes)
    if words[0] == "bash" and "install.sh" in Path(ROOT / words[1]).read_text() + words[1]:
        needs.add("network")
    if not is_inline(command):
        assert not {need for need in needs if need not in command.needs}, f"{command} # needs {', '.join(needs)}"


@pytest.mark.parametrize("name", REAL)
def test_every_command_of_a_document_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(lay(tmp_path))
    torch.set_num_threads(1)
    for command in commands_of(ROOT / "docs" / name):
        if is_inline(command) or command.needs or command.words[0] in OUTSIDE:
            continue
        for start in starts(command, tmp_path):
            module = module_of(start)
            small = SMALL.get(module, "").split()
            importlib.import_module(module).main([*start.arguments, *small])
    if name == "tutorial.md":
        (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / name).read_text(), re.DOTALL)
        exec(compile(code, name, "exec"), {})
        assert capsys.readouterr().out.splitlines()[-1] in ("daisy", "rose", "tulip")


def test_a_wrong_command_would_be_seen(desk, monkeypatch):
    for text in ("python CyDAS/search.py --no_such_flag", "bash scripts/run_search_nats.sh --seeds x",
                 "python -m CyDAS.latency --rounds", "python CyDAS/search.py --dataset nowhere"):  # fmt: skip
        with pytest.raises(SystemExit):
            test_what_a_command_starts_is_there_and_understands_it(Command("README.md", text), desk, monkeypatch)
    for text in ("make all", "python CyDAS/no.py", "bash scripts/no.sh", "bash scripts/run_search_imagenet.sh",
                 "pip install somebody", "pip install CyDAS[none]"):  # fmt: skip
        with pytest.raises(AssertionError):
            test_what_a_command_starts_is_there_and_understands_it(Command("README.md", text), desk, monkeypatch)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_says_what_it_is(document):
    assert {language for language, _ in blocks(document.read_text())} <= {"bash", "python", "json", "diff", "text"}
