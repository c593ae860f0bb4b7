"""Fixtures of the tests: where reference values and real data lie, and what to say where they do not."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = Path(os.environ.get("CYDAS_FIXTURES", ROOT.parent / "shared/fixtures/equivalence.pt"))
SPEC = Path(os.environ.get("CYDAS_SPEC", ROOT.parent / "shared/spec"))


@pytest.fixture(scope="session")
def golden():
    import json

    path = SPEC / "golden.json"
    if not path.exists():
        pytest.skip(f"reference counts are not at {path} (set CYDAS_SPEC)")
    return json.loads(path.read_text())
