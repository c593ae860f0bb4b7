"""The NATS-Bench space: architectures, sizes, the accuracy table, and the programs on it."""

import bz2
import csv
import itertools
import json
import os
import pickle
import tracemalloc
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from CyDAS.models.cells.genotype import GenotypeError
from CyDAS.models.nats.architecture import OPERATIONS, Architecture, parse_architecture
from CyDAS.models.nats.networks import NatsLayout, NatsNetwork
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.search import main as search
from CyDAS.spaces import NatsSpace, load_architecture
from CyDAS.spaces.nats_export import export
from CyDAS.spaces.nats_table import COLUMNS, FIGURES, NatsTable, write_table
from CyDAS.test import main as evaluate
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_macs, count_parameters

TABLE = Path(os.environ.get("CYDAS_NATS_TABLE", ROOT.parent / "shared/data/nats_bench_201/nats_tss_200ep.csv.gz"))
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
TINY = "--space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --batch_size 16 --device cpu".split()
ROUNDS = "--sample_ratio 0.05 --pretrain_epochs 1 --search_iter 3 --search_iter_epochs 1 --nasnet_warmup 1".split()


def run_search(folder, name, *flags):
    search([*TINY, *ROUNDS, "--regular", "--ensemble_param", "--output_dir", str(folder), "--name", name, *flags])
    return folder / "search" / name


def made_up_row(index, arch):
    """A row whose figures say which architecture they are of."""
    return {name: 50 + index / 1000 for name in COLUMNS} | {"index": index, "arch_str": str(arch)}


@pytest.fixture(scope="module")
def made_up_table(tmp_path_factory):
    """All architectures with made-up figures."""
    path = tmp_path_factory.mktemp("table") / "table.csv.gz"
    architectures = map(Architecture, itertools.product(OPERATIONS, repeat=6))
    write_table(path, [made_up_row(index, arch) for index, arch in enumerate(architectures)])
    return path


@pytest.fixture(scope="module")
def real_table():
    if not TABLE.exists():
        pytest.skip(f"no table of NATS-Bench at {TABLE} (set CYDAS_NATS_TABLE)")
    return NatsTable.read(TABLE)


# -- architectures and networks --------------------------------------------------------------------------------------


def test_every_architecture_is_read_and_written_as_it_is():
    texts = [str(Architecture(operations)) for operations in itertools.product(OPERATIONS, repeat=6)]
    assert len(set(texts)) == 15625
    assert all(str(parse_architecture(text)) == text for text in texts)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (None, "a short string"),
        ("x" * 301, "a short string"),
        ("", "3 nodes"),
        (BEST.rsplit("+", 1)[0], "3 nodes"),
        (BEST + "+|none~0|", "3 nodes"),
        (BEST.replace("|+|", "+", 1), "node 1: |operation~source|"),
        (BEST.replace("|nor_conv_1x1~2|", "|"), "node 3: 3 edges"),
        (BEST.replace("skip_connect", "__import__('os')"), "node 3, edge 0: .* is not one of none, skip_connect"),
        (BEST.replace("skip_connect~0", "skip_connect~1"), "node 3, edge 0: its source is 0, not '1'"),
        (BEST.replace("skip_connect~0", "skip_connect"), "node 3, edge 0: its source is 0, not ''"),
    ],
)
def test_anything_else_is_refused_by_its_place(text, word):
    with pytest.raises(GenotypeError, match=word.replace("|", r"\|")):
        parse_architecture(text)


def test_genotype_files_hold_one_architecture(tmp_path):
    path = tmp_path / "genotype.json"
    for content in ({"0": BEST}, BEST):
        path.write_text(json.dumps(content))
        assert str(load_architecture(path, 3, "nats")) == BEST
    for content in ({}, {"0": BEST, "1": BEST}, [BEST], {"0": 3}):
        path.write_text(json.dumps(content))
        with pytest.raises(CydasError, match="genotype file .*genotype.json"):
            load_architecture(path, 3, "nats")
    path.write_text(json.dumps(BEST))
    with pytest.raises(CydasError, match="is of --space nats, not of darts"):
        load_architecture(path, 3)
    with pytest.raises(CydasError, match="is of --space darts, not of nats"):
        load_architecture(ROOT / "CyDAS/cells/cifar_genotype.json", 3, "nats")


def test_search_network_has_the_published_size(golden):
    expected = golden["nats"]["search_c16"]
    joint = NatsSpace(NatsLayout()).build().eval()
    parts = ("feature_extractor", "super_layers", "fc_super", "fc_nas", "distill_aux_head1", "distill_aux_head2")
    for part in parts:
        assert count_parameters(getattr(joint, part)) == expected[part], part
    assert [len(stage) for stage in joint.super_layers] == [len(stage) for stage in expected["cells"]]
    output = joint(torch.randn(1, 3, 32, 32), evaluation=False)
    assert [list(output.search.logits.shape), list(output.search.kd_input.shape)] == expected["output_shapes"]


def test_retrained_networks_have_the_benchmarks_size(golden):
    for text, expected in golden["nats"]["archs_c16_10cls"].items():
        network = NatsNetwork(NatsLayout(), parse_architecture(text))
        assert network.count_parameters() == expected["params_plus_official_lastact_bn"]
        assert count_macs(network, (3, 32, 32)) == expected["macs_conv_linear@32"]
        assert list(network.eval()(torch.randn(1, 3, 32, 32)).logits.shape) == expected["out"]


def test_sizes_agree_with_the_table(real_table):
    """The benchmark counts the batch norm before the pooling, too; 150 architectures are recorded as smaller."""
    for index in (0, 1, 5000, 6111, 9930):
        entry = real_table.find(index)
        network = NatsNetwork(NatsLayout(), parse_architecture(entry.arch))
        assert network.count_parameters() / 1e6 == pytest.approx(entry.costs["params_M_cifar10"], abs=2e-6)
        assert count_macs(network, (3, 32, 32)) / 1e6 == pytest.approx(entry.costs["flops_M_cifar10"], abs=1e-4)


def test_only_none_is_penalised_and_may_be_chosen():
    space = NatsSpace(NatsLayout(4, 1, image_size=8))
    joint = space.build()
    alpha = joint.super_layers_arch.alpha
    with torch.no_grad():
        alpha.copy_(torch.arange(30.0).view(6, 5).flip(1))
    assert set(space.discretise(joint).operations) == {"none"}
    (gradient,) = torch.autograd.grad(space.regulariser(joint), alpha)
    assert torch.equal(gradient[:, 0], torch.full((6,), 1 / 6)) and not gradient[:, 1:].any()


# -- the table -------------------------------------------------------------------------------------------------------


def test_reading_the_table_takes_little_memory(real_table):
    tracemalloc.start()
    NatsTable.read(TABLE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(real_table) == 15625 and peak < 100e6


def test_the_table_knows_the_best_and_the_worst(real_table):
    best = real_table.find(BEST)
    assert best.index == 6111 and best.ranks["cifar10_test"] == best.ranks["cifar10_val"] == 1
    assert best.accuracies["cifar10_test"] == pytest.approx(94.3733, abs=1e-4)
    assert real_table.find(1835).accuracies == pytest.approx(
        dict(zip(FIGURES, (39.77, 54.30, 15.03, 15.61, 16.43, 16.32), strict=True)), abs=6e-3
    )
    assert real_table.find(9930).ranks["cifar100_test"] == real_table.find(857).ranks["imagenet16_test"] == 1


def test_unknown_entries_are_refused(made_up_table):
    table = NatsTable.read(made_up_table)
    for unknown in ("|none~0|", -1, 15625):
        with pytest.raises(CydasError, match="no architecture"):
            table.find(unknown)
    with pytest.raises(CydasError, match="no figure 'mnist_test' in the table; there are cifar10_val"):
        table.column("mnist_test")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "the column index is missing"),
        (b"index,arch_str\n", "the column cifar10_val is missing"),
        (b"\x1f\x8bnot gzip", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        ((",".join(COLUMNS) + "\n").encode(), "it is empty"),
        ((",".join(COLUMNS) + "\n0,|none~0|\n").encode(), "row 0"),
        ((",".join(COLUMNS) + "\n0,a" + ",nan" * (len(COLUMNS) - 2)).encode(), "not finite"),
        ((",".join(COLUMNS) + "\n1,a" + ",1" * (len(COLUMNS) - 2)).encode(), "row 0"),
        (b"x" * 50_000_001, "more than 50 MB"),
    ],
)
def test_other_files_are_no_tables(tmp_path, content, word):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(CydasError, match=f"table .*table.csv.*{word}"):
        NatsTable.read(tmp_path / "table.csv")


def test_random_search_takes_the_best_validation_accuracy(made_up_table):
    table = NatsTable.read(made_up_table)
    found = [table.random_search(10, seed) for seed in range(3)]
    assert len({entry.index for entry in found}) == 3 and found[0] == table.random_search(10, 0)
    assert table.random_search(15625, 0).index == 15624
    for architectures, seed in ((0, 0), (-3, 0), (1, -1)):
        with pytest.raises(CydasError, match="at least 1 architecture and seed 0"):
            table.random_search(architectures, seed)


def official_content(archs):
    """What the official files hold, by the package's own classes, with figures that say what they are."""
    from nats_bench.api_utils import ArchResults, ResultsCount

    def result(dataset, seed, sets, epochs, index):
        names = {i: 60.0 + index for i in range(epochs)}
        count = ResultsCount(dataset, None, names, names, 1.5 + index, 200.0 + index, {}, seed, epochs, None)
        count.update_train_info(names, None, names, {i: 2.0 for i in range(epochs)})
        for place, name in enumerate(sets):
            figures = {f"{name}@{i}": 10.0 * place + index + seed / 1000 + i / 1e6 for i in range(epochs)}
            count.update_eval(figures, figures, figures)
        return count

    sets = {
        "cifar10-valid": ("ori-test", "x-valid"),
        "cifar10": ("ori-test",),
        "cifar100": ("ori-test", "x-valid", "x-test"),
        "ImageNet16-120": ("ori-test", "x-valid", "x-test"),
    }
    infos = {}
    for index, arch in enumerate(archs):
        infos[index] = {}
        for hp, epochs in (("12", 12), ("200", 200)):
            results = ArchResults(index, arch)
            for dataset, names in sets.items():
                for seed in (777, 888):
                    results.update(dataset, seed, result(dataset, seed, names, epochs, index))
            infos[index][hp] = results.state_dict()
    return {"meta_archs": list(archs), "arch2infos": infos, "evaluated_indexes": list(range(len(archs)))}


def dump(path, content):
    with bz2.BZ2File(path, "w") as file:
        pickle.dump(content, file)


@pytest.fixture
def official(tmp_path):
    """The benchmark's three layouts: folder, file, NAS-Bench-201's file."""
    pytest.importorskip("nats_bench", reason="the package nats_bench is not installed")
    content = official_content([BEST, BEST.replace("skip_connect", "none")])
    folder = tmp_path / "NATS-tss-v1_0-3ffb9-simple"
    folder.mkdir()
    dump(folder / "meta.pickle.pbz2", {"meta_archs": content["meta_archs"], "evaluated_indexes": {0, 1}})
    for index, infos in content["arch2infos"].items():
        dump(folder / f"{index:06d}.pickle.pbz2", infos)
    dump(tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2", content)
    names = {"12": "less", "200": "full"}
    older = {i: {names[hp]: value for hp, value in infos.items()} for i, infos in content["arch2infos"].items()}
    torch.save(content | {"arch2infos": older}, tmp_path / "NAS-Bench-201-v1_1.pth")
    return folder, tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2", tmp_path / "NAS-Bench-201-v1_1.pth"


def test_tables_are_made_from_the_official_files(official, tmp_path):
    for place, path in enumerate(official):
        target = tmp_path / f"table{place}.csv.gz"
        assert export(path, target) == 2
        entry = NatsTable.read(target).find(BEST)
        last, mean = 199 / 1e6, (0.777 + 0.888) / 2
        # the sets' numbers in official_content: ori-test 0, x-valid 10, x-test 20
        expected = dict(zip(FIGURES, (10, 0, 10, 20, 10, 20), strict=True))
        assert entry.accuracies == pytest.approx({key: value + last + mean for key, value in expected.items()})
        assert entry.costs["params_M_cifar100"] == 1.5 and entry.costs["flops_M_imagenet16"] == 200
        assert entry.costs["train_time_s_200ep_cifar10valid"] == 400


def test_export_says_what_is_missing(tmp_path):
    pytest.importorskip("nats_bench", reason="the package nats_bench is not installed")
    with pytest.raises(CydasError, match="there is no .*nothing"):
        export(tmp_path / "nothing", tmp_path / "table.csv")
    (tmp_path / "folder").mkdir()
    (tmp_path / "text").write_text("no benchmark")
    torch.save({"meta_archs": []}, tmp_path / "other.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    for name in ("folder", "text", "other.pth", "junk.pth"):
        with pytest.raises(CydasError, match=f"{name}(: it is| is no file of NATS-Bench)"):
            export(tmp_path / name, tmp_path / "table.csv")
    assert not (tmp_path / "table.csv").exists()


# -- the programs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory, made_up_table):
    folder = tmp_path_factory.mktemp("nats")
    run_search(folder, "first", "--nats_table", str(made_up_table))
    return folder


def test_a_search_logs_what_the_table_says_of_every_round(finished, made_up_table):
    run, table = finished / "search/first", NatsTable.read(made_up_table)
    result = json.loads((run / "result.json").read_text())
    found = table.find(json.loads((run / "genotype.json").read_text())["0"])
    assert result["benchmark"] == found.as_dict()
    assert [entry["round"] for entry in result["trajectory"]] == [1, 2, 3]
    for entry in result["trajectory"]:
        assert entry["benchmark"] == table.find(entry["genotype"]["0"]).as_dict()
    assert "in the benchmark: #" in (run / "search.log").read_text()
    assert (run / "cells/round_003.gv").exists()


def test_the_table_decides_nothing(finished, tmp_path):
    run = run_search(tmp_path, "without")
    mine, theirs = (load_checkpoint(r / "search_resume.pth.tar")["search"] for r in (run, finished / "search/first"))
    assert all(torch.equal(mine["joint"][key], theirs["joint"][key]) for key in theirs["joint"])
    assert mine["pool"].keys() == theirs["pool"].keys()


def test_a_search_that_was_cut_off_ends_as_if_it_had_not(finished, tmp_path, monkeypatch):
    from CyDAS.engine.cycle import CyclicSearch

    whole = CyclicSearch._round

    def cut(self, *arguments):
        if self.round == 2:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(CyclicSearch, "_round", cut)
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path, "cut")
    monkeypatch.undo()
    run = run_search(tmp_path, "cut", "--resume")
    mine, theirs = (load_checkpoint(r / "search_resume.pth.tar")["search"] for r in (run, finished / "search/first"))
    assert all(torch.equal(mine["joint"][key], theirs["joint"][key]) for key in theirs["joint"])
    pools = mine["pool"], theirs["pool"]
    assert all(torch.equal(pools[0][k][n], pools[1][k][n]) for k, state in pools[1].items() for n in state)


def test_the_pool_keeps_operations_and_residual_blocks(finished):
    pool = load_checkpoint(finished / "search/first/search_resume.pth.tar")["search"]["pool"]
    assert {"0.1.conv_a", "0.1.conv_b", "0.1.downsample", "1.1.conv_a"} <= set(pool)
    others = [key for key in pool if ".1." not in key]
    assert others and all(key.split(".")[-1].startswith("nor_conv") for key in others)


def test_plain_darts_moves_alphas_without_an_evaluation_network(tmp_path):
    run = run_search(tmp_path, "darts", "--method", "darts")
    state = load_checkpoint(run / "search_resume.pth.tar")["search"]
    assert state["architecture"] is None and not state["pool"]
    assert not any(key.startswith("nas_layers") for key in state["joint"])
    rounds = [json.loads((run / f"alphas/round_00{i}.json").read_text())["alphas"] for i in (1, 2, 3)]
    assert rounds[0] != rounds[1] != rounds[2]


def test_several_seeds_are_searched_and_summed_up(tmp_path, made_up_table, capfd):
    flags = ["--seeds", "3", "5", "--jobs", "2", "--nats_table", str(made_up_table), "--threads", "1"]
    flags += ["--no-report"]
    search([*TINY, *ROUNDS, "--output_dir", str(tmp_path), "--name", "many", *flags])
    summary = json.loads((tmp_path / "search/many-seeds.json").read_text())
    found = [json.loads((tmp_path / f"search/many-seed{seed}/result.json").read_text()) for seed in (3, 5)]
    assert [summary["seeds"]["3"], summary["seeds"]["5"]] == found
    a, b = (result["benchmark"]["accuracies"]["cifar10_test"] for result in found)
    assert summary["benchmark"]["cifar10_test"] == pytest.approx([(a + b) / 2, abs(a - b) / 2**0.5])
    assert f"cifar10_test         many     2     {(a + b) / 2:.4g} ± " in capfd.readouterr().out
    with pytest.raises(CydasError, match="many-seed3 holds an earlier run: --resume goes on with all"):
        search([*TINY, *ROUNDS, "--output_dir", str(tmp_path), "--name", "many", *flags])
    # one that was cut off before its first checkpoint starts anew, a finished one is left as it is
    (tmp_path / "search/many-seed3/search_resume.pth.tar").unlink()
    (tmp_path / "search/many-seeds.json").unlink()
    search([*TINY, *ROUNDS, "--output_dir", str(tmp_path), "--name", "many", *flags, "--resume"])
    again = json.loads((tmp_path / "search/many-seeds.json").read_text())
    for result in (*again["seeds"].values(), *summary["seeds"].values()):
        del result["about"]
    assert again == summary


def test_seeds_are_not_searched_by_every_process(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(CydasError, match="leave out torchrun"):
        search([*TINY, *ROUNDS, "--output_dir", str(tmp_path), "--seeds", "1"])


def test_a_table_may_come_with_the_continuation(finished, tmp_path, made_up_table):
    run = run_search(tmp_path, "late")
    run_search(tmp_path, "late", "--resume", "--nats_table", str(made_up_table))
    mine, theirs = (json.loads((r / "result.json").read_text()) for r in (run, finished / "search/first"))
    assert mine | {"about": None} == theirs | {"about": None}


def test_a_table_that_does_not_know_all_is_refused_at_the_start(tmp_path):
    write_table(tmp_path / "small.csv", [made_up_row(0, BEST)])
    with pytest.raises(CydasError, match="has 1 of the 15625 architectures"):
        run_search(tmp_path, "small", "--nats_table", str(tmp_path / "small.csv"))
    assert not (tmp_path / "search").exists()


def test_what_was_found_is_retrained_and_tested(finished, capsys):
    flags = "--batch_size 240 --epochs 1 --aux_weight 0 --nesterov --grad_clip 0".split()
    retrain([*TINY, *flags, "--output_dir", str(finished), "--name", "first"])
    result = json.loads((finished / "retrain/first/result.json").read_text())
    evaluate(["--output_dir", str(finished), "--name", "first"])
    assert f"top-1 {result['last']['top1']:.2f} %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--repeat_cell"], "--repeat_cell belongs to the DARTS cells"),
        (["--use_beta"], "--use_beta belongs to the DARTS cells"),
        (["--layer_num", "4"], "--space nats has 3 stages"),
        (["--image_size", "10"], "image_size must be a multiple of 4"),
        (["--seeds", "1", "1"], "--seeds must be different"),
        (["--space", "darts", "--nats_table", "x"], "--nats_table has no effect with --space darts: the table knows"),
        (["--nats_table", "nothing.csv"], "table nothing.csv: there is no such file"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path, flags, word):
    with pytest.raises(CydasError, match=word):
        run_search(tmp_path, "wrong", *flags)


def test_an_auxiliary_head_is_refused(finished):
    with pytest.raises(CydasError, match="have no auxiliary head"):
        retrain([*TINY, "--output_dir", str(finished), "--name", "first", "--overwrite", "--aux_weight", "0.4"])


def test_the_csv_is_plain(made_up_table, tmp_path):
    """Other programs can read a table, and one that they wrote unpacked can be read."""
    import gzip

    rows = list(csv.DictReader(gzip.open(made_up_table, "rt")))
    assert list(rows[0]) == list(COLUMNS)
    write_table(tmp_path / "plain.csv", rows)
    assert NatsTable.read(tmp_path / "plain.csv").find(7) == NatsTable.read(made_up_table).find(7)
