"""The list of changes that tests must notice fits the code, and the program that tries them tells outcomes apart."""

import ast
from pathlib import Path

import pytest

from benchmarks.mutation_list import MUTATIONS, Mutation
from benchmarks.mutations import ROOT, changed, run_tests, try_mutation


def test_every_change_applies_and_names_its_tests():
    assert len(MUTATIONS) >= 60 and len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
    for mutation in MUTATIONS:
        text = changed(mutation)
        assert text != (ROOT / mutation.file).read_text(), mutation.name
        ast.parse(text)
        assert mutation.tests.split(), mutation.name
        for test in mutation.tests.split():
            file, _, function = test.partition("::")
            assert f"def {function}(" in (ROOT / file).read_text(), test


def test_a_change_that_does_not_fit_is_an_error(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\nx = 1\n")
    with pytest.raises(ValueError, match="holds the text 2 times"):
        changed(Mutation("twice", "a.py", "x = 1", "x = 2", ""), tmp_path)
    with pytest.raises(ValueError, match="holds the text 0 times"):
        changed(Mutation("never", "a.py", "y", "x", ""), tmp_path)


def test_outcomes_are_told_apart(tmp_path):
    (tmp_path / "product.py").write_text("VALUE = 1\nUNTESTED = 1\n")
    (tmp_path / "test_it.py").write_text("from product import VALUE\n\ndef test_value():\n    assert VALUE == 1\n")

    def outcome(old, new):
        result = try_mutation(Mutation("", "product.py", old, new, "test_it.py"), Path(tmp_path), 60)
        return result["outcome"], result["by"].splitlines()[0] if result["by"] else ""

    assert outcome("\nUNTESTED = 1", "") == ("survived", "")
    assert outcome("VALUE = 1\nU", "VALUE = 2\nU") == ("noticed", "test_it.py::test_value")
    assert outcome("VALUE = 1\nU", "OTHER = 1\nU")[0] == "broken"  # nothing can be collected: no test has noticed it
    assert (tmp_path / "product.py").read_text() == "VALUE = 1\nUNTESTED = 1\n"
    (tmp_path / "test_it.py").write_text("import time\n\ndef test_value():\n    time.sleep(60)\n")
    assert run_tests(tmp_path, ["test_it.py"], 3.0)[0] == "timed out"
