"""Style and types of all the code, as ruff and mypy judge them by pyproject.toml."""

import subprocess
import sys

import pytest
from conftest import ROOT


def run(*command, **options):
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, **options)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("command", ["ruff check", "ruff format --check", "mypy"])
def test_nothing_is_to_be_said_against_the_code(command):
    code, said = run(*command.split(), cwd=ROOT)
    assert code == 0, f"python -m {command}\n{said}"


def test_a_wrong_type_would_be_seen(tmp_path):
    """Also in a function without annotations."""
    (tmp_path / "wrong.py").write_text("def f():\n    return 1 + 'a'\n")
    code, said = run("mypy", "--config-file", str(ROOT / "pyproject.toml"), "wrong.py", cwd=tmp_path)
    assert code == 1 and "wrong.py:2" in said and "[operator]" in said
