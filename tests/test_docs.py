"""The documents: links lead somewhere, flags and files that they name are there."""

import re

import pytest
from conftest import ROOT

from CyDAS.config import DetectConfig, EvaluationConfig, RetrainConfig, SearchConfig, SegmentConfig

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
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
