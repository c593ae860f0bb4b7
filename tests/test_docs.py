"""The documents: links lead somewhere, flags and files that they name are there."""

import os
import re
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT

from CyDAS.config import DetectConfig, EvaluationConfig, RetrainConfig, SearchConfig, SegmentConfig

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
CONFIGS = (SearchConfig, RetrainConfig, EvaluationConfig, DetectConfig, SegmentConfig)


def anchor(heading):
    """As GitHub makes it."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors_of(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    return {anchor(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, place = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.exists(), f"{document.name}: {target}"
        assert not place or place in anchors_of(path), f"{document.name}: {target} is not among {anchors_of(path)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_commands_start_are_there(document):
    for block in re.findall(r"```\w*\n(.*?)```", document.read_text(), re.DOTALL):
        for name in re.findall(r"\b((?:CyDAS|scripts|demo|benchmarks)/[\w/.-]+\.(?:py|sh|json|yaml|sbatch))\b", block):
            assert (ROOT / name).exists() or "/results/" in name, f"{document.name}: {name}"


def test_flags_in_the_usage_are_flags():
    known = {name for kind in CONFIGS for name in kind.__dataclass_fields__} | {"config"}
    named = re.findall(r"`(?:[^`\n]* )?--(?:no-)?(\w+)", (ROOT / "docs/usage.md").read_text())
    others = {"help", "output", "architectures", "seeds", "to", "format"}  # of nats_table, report and export
    assert len(named) > 100 and not {name for name in named if name not in known | others}


def test_the_method_page_names_code_that_is_there():
    text = (ROOT / "docs/method.md").read_text()
    named = re.findall(r"(CyDAS/[\w/]+\.py)::(\w+)", text)
    assert len(named) > 20
    for file, name in named:
        assert re.search(rf"^ *(?:def|class) {name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{file}::{name}"
    for flag in re.findall(r"`--(\w+)`", text):
        assert flag in SearchConfig.__dataclass_fields__, flag


def test_the_site_is_built_and_every_link_on_it_leads_somewhere(tmp_path):
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = {path.parent.name: path.read_text() for path in (tmp_path / "site").rglob("index.html")}
    assert "register_space" in pages["spaces"] and "kd_loss" in pages["engine"]
    assert not [name for name, page in pages.items() if ":class:" in page]
    assert (tmp_path / "site/files/demo/tiny_space.py").read_text() == (ROOT / "demo/tiny_space.py").read_text()


def test_the_oldest_pytorch_that_is_admitted_is_tried():
    (oldest,) = re.findall(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    (python,) = re.findall(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    tried = [jobs[name]["strategy"]["matrix"]["include"][0] for name in ("tests", "wheel")]
    assert [each["python"] for each in tried] == [python, python]
    assert tried[0]["torch"].startswith(f"torch=={oldest}.0 ") and tried[1]["torch"] == f"{oldest}.0"
