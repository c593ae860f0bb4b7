"""The benchmark that compares methods of search on NATS-Bench: what it keeps of runs."""

import json

import pytest

from benchmarks import nats_searches, runs
from benchmarks.runs import flags_in, minutes_of
from CyDAS.utils.errors import CydasError

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
LOG = "2026-11-26 23:59:30,{} a first line\nwithout a time\n2026-11-27 00:02:00,{} the last one\n"


def searched(accuracies, place):
    """What a search leaves, in the place of it."""

    def run(program, *flags):
        name = flags[flags.index("--name") + 1]
        known = {seed: {"accuracies": {"cifar10_test": value}} for seed, value in accuracies[name].items()}
        results = {
            seed: {"genotype": {"0": CELL}, "benchmark": each, "trajectory": [{"benchmark": each}], "about": {}}
            for seed, each in known.items()
        }
        for seed in results:
            folder = place / "search" / f"{name}-seed{seed}"
            folder.mkdir(parents=True)
            (folder / "search.log").write_text(LOG.format("000", "500"))
        (place / "search" / f"{name}-seeds.json").write_text(json.dumps({"seeds": results}))

    return run


def test_every_seed_counts_with_its_minutes_and_pairs_are_compared(tmp_path, monkeypatch):
    found = {"nats_best": {"1": 94.0, "2": 94.4}, "nats_best_darts": {"1": 90.0, "2": 92.0}}
    monkeypatch.setattr(runs, "run", searched(found, tmp_path))
    monkeypatch.setattr(nats_searches, "ROOT", tmp_path)
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    command = f"--cifar10 x --table y --runs {tmp_path} --methods best best_darts --seeds 1 2"
    nats_searches.main(command.split())
    best, darts = (
        json.loads((tmp_path / f"benchmarks/results/nats_{name}.json").read_text()) for name in ("best", "best_darts")
    )
    summary = best["cifar10_test"]
    assert (summary["n"], summary["mean"], summary["min"], summary["minutes_max"]) == (2, 94.2, 94.0, 2.5)
    assert summary["std"] == pytest.approx(0.2828, abs=1e-4)
    assert best["seeds"]["2"]["rounds"] == [94.4] and "best_minus_this" not in best
    difference = darts["best_minus_this"]
    assert difference["seeds"] == ["1", "2"] and difference["mean"] == pytest.approx(3.2)
    assert difference["interval_95"] == pytest.approx([3.2 - 12.706 * 0.8, 3.2 + 12.706 * 0.8], abs=1e-2)


def test_a_seed_that_has_not_ended_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "run", searched({"nats_best": {"1": 94.0}}, tmp_path))
    with pytest.raises(CydasError, match="not every seed has ended"):
        nats_searches.main(f"--cifar10 x --table y --runs {tmp_path} --methods best --seeds 1 2".split())


def test_minutes_are_those_of_the_log(tmp_path):
    (tmp_path / "search.log").write_text(LOG.format("900", "100"))
    assert minutes_of(tmp_path / "search.log") == 2.5


def test_a_part_of_the_recipe_is_taken_from_its_settings():
    flags = flags_in("CyDAS/settings/search_nats_best.yaml", "finalist")
    assert "--finalist_sweep" in flags.split() and "--finalist_runoff_epochs 0.75" in flags
    assert all(word.startswith("--finalist") for word in flags.split() if word.startswith("--"))
