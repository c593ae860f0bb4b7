"""Fixtures of the tests: where reference values and real data lie, and what to say where they do not."""

import json
import logging
import os
from pathlib import Path

import pytest

from CyDAS.engine import results
from CyDAS.utils import lost

ROOT = Path(__file__).resolve().parents[1]
FIXTURES = Path(os.environ.get("CYDAS_FIXTURES", ROOT.parent / "shared/fixtures/equivalence.pt"))
CHAIN_FIXTURES = Path(os.environ.get("CYDAS_CHAIN_FIXTURES", ROOT.parent / "shared/fixtures/chain_fixtures.pt"))
DETECTION_FIXTURES = Path(
    os.environ.get("CYDAS_DETECTION_FIXTURES", ROOT.parent / "shared/fixtures/detection_fixtures.pt")
)
SPEC = Path(os.environ.get("CYDAS_SPEC", ROOT.parent / "shared/spec"))


def reference_counts(name):
    path = SPEC / name
    if not path.exists():
        pytest.skip(f"reference counts are not at {path} (set CYDAS_SPEC)")
    return json.loads(path.read_text())


@pytest.fixture(scope="session")
def golden():
    return reference_counts("golden.json")


@pytest.fixture(scope="session")
def chain_golden():
    return reference_counts("chain_golden.json")


@pytest.fixture(autouse=True, scope="session")
def no_reports_but_where_they_are_tested():
    """Hundreds of runs would each draw a dozen pictures that nobody looks at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results, "report_at_end", lambda folder, log: None)
        yield


@pytest.fixture(autouse=True)
def no_process_waits_for_others_after_a_test():
    """What a test leaves of a process group would speak up in the tests after it."""
    yield
    left, lost._meeting = lost._meeting, None
    assert left is None, "this test has met other processes and has not left them"


@pytest.fixture(autouse=True)
def a_log_that_no_run_has_taken():
    """A run's log keeps its lines to itself; a test that looks for a warning must not depend on those before it."""
    logger = logging.getLogger("CyDAS")
    logger.propagate = True
    logger.setLevel(logging.NOTSET)
