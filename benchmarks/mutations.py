"""Which single changes of the code the tests notice: each of ``mutation_list.py`` must make a test fail.

    python benchmarks/mutations.py                                  # all of them, about 20 minutes on one core
    python benchmarks/mutations.py --only "label smoothing 0" --jobs 2

Every change is made in a temporary copy, never in this tree, and only the tests named for it are run; unchanged, the
copy must pass all of them. A change is noticed where a test fails: not where no test can be collected any more, and not
where none ends in time.
"""

import argparse
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from benchmarks.mutation_list import MUTATIONS, Mutation
from benchmarks.speed import record
from CyDAS.runs.checkpoint import refusing
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.numbers import whole_number

ROOT = Path(__file__).resolve().parents[1]
#: What tests need of the tree.
PARTS = ("CyDAS", "benchmarks", "demo", "docs", "scripts", "tests", "pyproject.toml", "README.md")
NOTICED = "noticed"


def changed(mutation: Mutation, root: Path = ROOT) -> str:
    """The file's text with the change. Raises ``ValueError`` where what it replaces is not there exactly once."""
    text = (root / mutation.file).read_text()
    count = text.count(mutation.old)
    if count != 1:
        raise ValueError(f"{mutation.name}: {mutation.file} holds the text {count} times, not once: {mutation.old!r}")
    return text.replace(mutation.old, mutation.new)


def copy_tree(target: Path) -> Path:
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / part)
    return target


def run_tests(folder: Path, tests: Sequence[str], seconds: float) -> tuple[str, str]:
    """What became of the tests in ``folder`` up to the first that fails: (outcome, that test or the last words).

    The outcome is ``noticed``, ``survived``, ``broken`` where no test was run, or ``timed out``.
    """
    shared = ROOT.parent / "shared"
    environment = {
        "CYDAS_FIXTURES": str(shared / "fixtures/equivalence.pt"),
        "CYDAS_CHAIN_FIXTURES": str(shared / "fixtures/chain_fixtures.pt"),
        "CYDAS_SPEC": str(shared / "spec"),
        **os.environ,
        "PYTHONPATH": str(folder),
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",  # a change within a second would else be taken for the file before it
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return "timed out", f"after {seconds:g} seconds"
    if done.returncode == 0:
        return "survived", ""
    if done.returncode == 1 and (failed := re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)):
        return NOTICED, failed[1]
    return "broken", (done.stdout + done.stderr).strip()[-500:]


def try_mutation(mutation: Mutation, folder: Path, seconds: float) -> dict[str, Any]:
    """Make the change in the copy ``folder``, run its tests, take it back."""
    path = folder / mutation.file
    before, start = path.read_text(), time.perf_counter()
    path.write_text(changed(mutation, folder))
    try:
        outcome, by = run_tests(folder, mutation.tests.split(), seconds)
    finally:
        path.write_text(before)
    return {"file": mutation.file, "outcome": outcome, "by": by, "seconds": round(time.perf_counter() - start, 1)}


@contextmanager
def copies(count: int) -> Iterator["queue.SimpleQueue[Path]"]:
    """Copies of the tree, each to be taken by one change at a time."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        free: queue.SimpleQueue[Path] = queue.SimpleQueue()
        for number in range(count):
            free.put(copy_tree(Path(folder) / str(number)))
        yield free


def try_all(mutations: Sequence[Mutation], jobs: int, seconds: float) -> dict[str, dict[str, Any]]:
    """What became of each. Raises ``RuntimeError`` where the unchanged copy does not pass their tests."""
    tests = list(dict.fromkeys(test for mutation in mutations for test in mutation.tests.split()))
    with copies(jobs) as free:
        folder = free.get()
        outcome, by = run_tests(folder, tests, 60 * seconds)
        if outcome != "survived":
            raise RuntimeError(f"the tests do not pass without any change: {outcome}, {by}")
        print(f"the unchanged copy passes {len(tests)} tests", flush=True)
        free.put(folder)

        def take(mutation: Mutation) -> dict[str, Any]:
            folder = free.get()
            try:
                result = try_mutation(mutation, folder, seconds)
            finally:
                free.put(folder)
            print(f"{result['outcome']} ({result['seconds']} s): {mutation.name}", flush=True)
            return result

        with ThreadPoolExecutor(jobs) as pool:
            return dict(zip((mutation.name for mutation in mutations), pool.map(take, mutations), strict=True))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="changes to try (default: all)")
    parser.add_argument(
        "--jobs", type=whole_number, metavar="N", default=1, help="changes tried at a time (default: 1)"
    )
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the tests of a change (default: 300)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/mutations.json")
    options = parser.parse_args(arguments)
    chosen = [m for m in MUTATIONS if not options.only or m.name in options.only]
    if missing := set(options.only or ()) - {m.name for m in chosen}:
        raise CydasError(f"there is no change {', '.join(map(repr, sorted(missing)))}")
    if not options.jobs:
        raise CydasError("--jobs must be at least 1")
    before = {}
    if options.only and options.output.exists():
        with refusing(f"{options.output} holds no results of this benchmark"):
            before = dict(read_json(options.output, "results")["results"])
    try:
        for mutation in MUTATIONS:
            changed(mutation)
        results = before | try_all(chosen, options.jobs, options.timeout)
    except (ValueError, RuntimeError) as error:
        raise CydasError(str(error)) from None
    left = {name: result for name, result in results.items() if result["outcome"] != NOTICED}
    figures = {"changes": len(results), "noticed": len(results) - len(left), "results": results}
    write_json(options.output, record() | figures)
    print(f"{figures['noticed']} of {figures['changes']} changes are noticed")
    for name, result in left.items():
        print(f"NOT NOTICED ({result['outcome']}): {name} in {result['file']} {result['by']}")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    run_program(main)
