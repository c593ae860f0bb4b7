"""Architectures in the forms that people have them in: what is read, as what, and what is refused with which reason."""

import itertools
import json
import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from published_cells import FILES, FIVE_NODES, PAIRS, TRIPLES, call, source

from CyDAS.models.cells import supernet
from CyDAS.models.cells.genotype import GenotypeError, make_genotype, parse_genotype, random_genotype
from CyDAS.models.cells.genotype_forms import NNI_NAMES, find_genotypes, read_cell
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.operations import CHOOSABLE
from CyDAS.models.nats import networks as nats
from CyDAS.models.nats.architecture import EDGES, OPERATIONS, Architecture, parse_architecture, read_architecture
from CyDAS.nats_table import parse_asked
from CyDAS.runs.checkpoint import save_checkpoint
from CyDAS.spaces import DartsSpace, NatsSpace, identify_architecture, load_architecture
from CyDAS.spaces.nats_table import COLUMNS, NatsTable, write_table
from CyDAS.utils.errors import CydasError

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
GENOTYPE = random_genotype(torch.Generator().manual_seed(3))


def flat(cell):
    return [edge for node in cell for edge in node]


# -- cells of DARTS ----------------------------------------------------------------------------------------------------


def test_the_published_genotype_files_are_read_or_refused_with_the_reason(tmp_path):
    """36 genotypes in four files: 18 are cells of four nodes with two edges each."""
    read, refused = [], []
    for file, (names, _) in FILES.items():
        path = tmp_path / f"{file}.py"
        path.write_text(source(file))
        for name in names:
            try:
                architecture = load_architecture(tmp_path / f"{file}.py::{name}", 3)
            except CydasError as error:
                refused.append((name, str(error)))
            else:
                assert architecture == [parse_genotype(call(name))] * 3
                read.append(name)
    assert len(read) == 18 and set(read) == set(PAIRS) and len(refused) == 18
    for name, reason in refused:
        assert reason.count("\n") == 0
        assert ("this one five" if name in FIVE_NODES else "triples (operation, node, source)") in reason
    reasons = dict(refused)
    assert "sep_conv_7x7, conv_7x1_1x7" in reasons["AmoebaNet"] and "nor are there" not in reasons["ENASNet"]
    assert "2 into node 2, 0 into node 3, 1 into node 4, 1 into node 5" in reasons["FairDARTS_a"]
    assert set(reasons) == set(FIVE_NODES) | set(TRIPLES)


def test_published_files_agree_with_the_cells_that_come_with_cydas():
    from conftest import ROOT

    ours = {"dartsv1": "DARTS_V1", "dartsv2": "DARTS_V2", "pdarts": "PDARTS"}
    ours |= {"pcdarts_cifar": "PC_DARTS_cifar", "pcdarts_imagenet": "PC_DARTS_image"}
    for file, name in ours.items():
        assert load_architecture(ROOT / f"CyDAS/cells/{file}_genotype.json", 3)[0] == parse_genotype(call(name))


def nni_keys(genotype, value, switch):
    """NNI 1 and 2: an entry for each edge and one for each node's choice."""
    entries = {}
    for cell in ("normal", "reduce"):
        for node, edges in enumerate(getattr(genotype, cell), start=2):
            chosen = {source: operation for operation, source in edges}
            for source_ in range(node):
                entries[f"{cell}_n{node}_p{source_}"] = value(chosen[source_]) if source_ in chosen else []
            entries[f"{cell}_n{node}_switch"] = switch(f"{cell}_n{node}", [s for _, s in edges], node)
    return entries


def nni_pairs(genotype, wrap):
    """NNI 3: operation and input of each edge."""
    entries = {"width": 16, "depth": 8}
    for cell in ("normal", "reduce"):
        for node, edges in enumerate(getattr(genotype, cell), start=2):
            for number, (operation, source_) in enumerate(edges):
                entries[f"{cell}/op_{node}_{number}"] = operation
                entries[f"{cell}/input_{node}_{number}"] = wrap(source_)
    return entries


def in_order(genotype):
    return make_genotype(*([sorted(n, key=lambda e: e[1]) for n in c] for c in (genotype.normal, genotype.reduce)))


def name_of(operation):
    return dict(zip(CHOOSABLE, NNI_NAMES, strict=True))[operation]


def one_hot(operation):
    return [operation == other for other in CHOOSABLE]


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31))
def test_all_forms_of_a_cell_are_the_same_cell(seed):
    genotype = random_genotype(torch.Generator().manual_seed(seed))
    normal, reduce = flat(genotype.normal), flat(genotype.reduce)
    dumped = json.loads(json.dumps([normal, [2, 3, 4, 5], reduce, [2, 3, 4, 5]]))
    parts = dict(zip(("normal", "normal_concat", "reduce", "reduce_concat"), dumped, strict=True))
    forms = [
        repr(genotype),
        f"Genotype({normal}, range(2, 6), {reduce}, [2, 3, 4, 5])",
        f" Genotype(normal={tuple(normal)},  # comment\n normal_concat=list(range(2, 6)),\nreduce={reduce},"
        "reduce_concat=(2, 3, 4, 5),)\n",
        f"Genotype(reduce_concat=range(2, 6), reduce={genotype.reduce}, normal={normal}, normal_concat=range(2, 6))",
        dumped,
        parts,
        nni_pairs(genotype, lambda source: source),
        nni_pairs(genotype, lambda source: [source]),
        nni_keys(genotype, name_of, lambda key, sources, _: [f"{key}_p{s}" for s in sources]),
        nni_keys(genotype, CHOOSABLE.index, lambda _, sources, __: sources),
    ]
    for form in forms:
        assert read_cell(form) == genotype, form
        assert DartsSpace.parse(json.loads(json.dumps(form)), 3, "") == [genotype] * 3
    # A list of truth values has no order of its own: the edges come in that of their sources.
    hot = nni_keys(genotype, one_hot, lambda _, sources, states: [s in sources for s in range(states)])
    assert read_cell(hot) == in_order(genotype)


NNI = nni_keys(GENOTYPE, name_of, lambda key, sources, _: [f"{key}_p{s}" for s in sources])
NNI3 = nni_pairs(GENOTYPE, lambda source: source)


@pytest.mark.parametrize(
    ("form", "word"),
    [
        (NNI | {"normal_n2_p0": "none"}, "'none' is not one of"),
        (NNI | {"normal_n2_p0": []}, "normal, node 0, edge [01]: \\[\\] is not one of"),
        (NNI | {"normal_n2_p0": [True, True, *[False] * 5]}, "is not one of"),
        (NNI | {"normal_n2_p0": 7}, "7 is not one of"),
        (NNI | {"normal_n2_p0": True}, "True is not one of"),
        (NNI | {"normal_n2_switch": ["normal_n2_p0"]}, "normal_n2_switch: two different edges are expected"),
        (NNI | {"normal_n2_switch": [1, 1]}, "normal_n2_switch: two different edges"),
        (NNI | {"normal_n2_switch": [0, 2]}, "normal_n2_switch: '2' is no edge"),
        (NNI | {"normal_n3_switch": ["normal_n2_p0", "normal_n3_p1"]}, "normal_n3_switch: 'normal_n2_p0' is no edge"),
        (NNI | {"normal_n3_switch": [True, True, True]}, "two different edges are expected"),
        (NNI | {"normal_n2_switch": "01"}, "a list is expected"),
        (NNI | {"normal_n6_p0": "maxpool"}, "normal_n6_p0: CyDAS's cells have 4 nodes"),
        (NNI | {"stem": 3}, "stem has no place here"),
        ({key: v for key, v in NNI.items() if key != "reduce_n5_p4"}, "reduce_n5_p4 is missing"),
        (NNI3 | {"normal/op_2_0": "max_pool_7x7"}, "'max_pool_7x7' is not one of"),
        (NNI3 | {"normal/input_2_0": 2}, "state 2 does not exist"),
        (NNI3 | {"normal/input_2_0": [0, 1]}, "one input is expected, not 2"),
        (NNI3 | {"normal/input_2_0": "0"}, "a whole number"),
        (NNI3 | {"reduce/op_6_0": "sep_conv_3x3"}, "reduce/op_6_0: CyDAS's cells have 4 nodes"),
        ({key: v for key, v in NNI3.items() if key != "normal/op_5_1"}, "normal/op_5_1 is missing"),
        ("Genotype([], range(2, 6), [], range(2, 6))", "4 entries are expected, not 0"),
        (f"Genotype({flat(GENOTYPE.normal)[:7]}, range(2, 6), [], range(2, 6))", "normal: 8 pairs, two for each"),
        (f"Genotype({flat(GENOTYPE.normal)}, range(2, 6))", "a genotype has the parts"),
        (f"Genotype({flat(GENOTYPE.normal)}, range(2, 6), normal=[])", "by name"),
        (f"Genotype({[*flat(GENOTYPE.normal)[:7], ('none', 0)]}, range(2, 6), [], [])", "reduce: 4 entries"),
        (repr(GENOTYPE).replace("range(2, 6)", "range(10**12)", 1), "normal_concat"),
        (repr(GENOTYPE).replace("range(2, 6)", "[2, 3, 4, 5.0]", 1), "normal_concat"),
        (repr(GENOTYPE).replace("range(2, 6)", "[4, 5]", 1), "normal_concat: a cell concatenates its nodes 2 to 5"),
    ],
)
def test_what_is_no_such_cell_is_refused_by_its_place(form, word):
    with pytest.raises(GenotypeError, match=word):
        read_cell(form)
    with pytest.raises(CydasError, match="some file: .*" + word):
        DartsSpace.parse(form, 3, "some file")


# -- files -------------------------------------------------------------------------------------------------------------

A, B = repr(GENOTYPE), repr(random_genotype(torch.Generator().manual_seed(4)))
PYTHON = (
    "from collections import namedtuple\nimport os; os.abort()\n"
    f"A = {A}\nB: object = {B}\nA2 = ALIAS = A\nB = [1]\nC = D = {B}\nMORE = {{'E': {A}, 'x': 1}}\n"
    f"TEXT = {A!r}\ndef f():\n    HIDDEN = {A}\n"
)


def test_python_is_taken_apart_and_not_run():
    found = find_genotypes(PYTHON)
    assert set(found) == {"A", "A2", "ALIAS", "C", "D", "E", "TEXT"}
    assert {name for name, text in found.items() if parse_genotype(text) == GENOTYPE} == set(found) - {"C", "D"}
    assert find_genotypes("") == find_genotypes("A = 1\nB = A") == {}


@pytest.mark.parametrize(
    ("text", "choice", "word"),
    [
        (A, None, None),
        (f"\n  {A}  # found\n", None, None),
        (f"genotype = {A}", None, None),
        (f"A = {A}\nB = A", None, None),
        (f"A = {A}\nB = {B}", "A", None),
        (f"A = {A}\nB = {B}", None, "several genotypes: A, B: choose one as .*::NAME"),
        (f"A = {A}\nB = {B}", "C", "has no genotype 'C'; there are A, B"),
        (f"A = {A}\nB = {B}", "", "has no genotype ''; there are A, B"),
        (f"A = {A}\nB = Genotype(1)", "A", None),
        (f"{A}\n{B}", None, "several genotypes without names"),
        ("A = 1", None, "no NAME = Genotype"),
        ("epoch 3 of 50", None, "neither JSON nor Python"),
        ("A = " + "-" * 90_000 + "1", None, "neither JSON nor Python"),
        ("A = Genotype(normal=" + "1+" * 900 + "1)", None, "neither JSON nor Python|a genotype has the parts"),
        ("\0", None, "neither JSON nor Python"),
        ("", None, "neither JSON nor Python"),
        (json.dumps(A), None, None),
        (json.dumps(NNI3), None, None),
        (json.dumps({"genotype": A, "epoch": 3}), None, None),
        (json.dumps({"arch": NNI}), None, None),
        (json.dumps({"arch": NNI, "genotype": B}), None, "under genotype and arch: choose one as FILE::genotype"),
        (json.dumps({"arch": NNI, "genotype": B}), "arch", None),
        (json.dumps({"X": A, "Y": B}), "X", None),
        (json.dumps({"X": A, "Y": A}), None, None),
        (json.dumps({"X": A, "Y": B}), None, "several genotypes: X, Y"),
        (json.dumps({"X": A, "Y": B}), "Z", "has no genotype 'Z'; there are X, Y"),
        (json.dumps({"seeds": {"0": {"genotype": {"0": A}}, "1": {"genotype": {"0": B}}}}), "0", None),
        (json.dumps({"seeds": {"0": {"genotype": {"0": A}}, "1": {"genotype": {"0": B}}}}), None, "several .*: 0, 1"),
        (json.dumps(A), "A", "one architecture without a name: leave out ::A"),
        (f'{{"0": {json.dumps(A)}, "0": {json.dumps(B)}}}', None, "a key stands in it twice"),
        (json.dumps({"lr": 0.1}), None, "stages must be numbered from 0"),
        (json.dumps(BEST), None, "is of --space nats, not of darts"),
        (BEST, None, "is of --space nats, not of darts"),
    ],
)
def test_files_hold_genotypes_in_many_ways(tmp_path, text, choice, word):
    path = tmp_path / "file.txt"
    path.write_text(text)
    asked = path if choice is None else tmp_path / f"file.txt::{choice}"
    if word is None:
        assert load_architecture(asked, 3) == [GENOTYPE] * 3
        assert identify_architecture(asked)[0] == "darts"
    else:
        with pytest.raises(CydasError, match=word) as error:
            load_architecture(asked, 3)
        assert "file.txt" in str(error.value) and str(error.value).isprintable()


def test_a_file_whose_name_has_colons_comes_first(tmp_path):
    (tmp_path / "file.py").write_text(f"A = {B}")
    (tmp_path / "file.py::A").write_text(A)
    assert load_architecture(tmp_path / "file.py::A", 3) == [GENOTYPE] * 3
    for path in (tmp_path / "none.py::A", tmp_path / ("x" * 300 + "::A"), tmp_path, tmp_path / "\0"):
        with pytest.raises(CydasError, match="genotype file"):
            load_architecture(path, 3)


def test_files_without_an_end_and_of_bytes_are_refused(tmp_path):
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04 and no more")
    for path, word in (("/dev/zero", "too many"), ("bytes", "neither text nor"), ("zip", "checkpoint")):
        with pytest.raises(CydasError, match=word):
            load_architecture(tmp_path / path, 3)


def test_checkpoints_hold_their_architecture(tmp_path):
    path = tmp_path / "last.pth.tar"
    save_checkpoint(path, {"genotype": DartsSpace.to_strings([GENOTYPE] * 3), "model_main": {}})
    assert load_architecture(path, 4) == [GENOTYPE] * 4
    with pytest.raises(CydasError, match="leave out ::A"):
        load_architecture(tmp_path / "last.pth.tar::A", 3)
    torch.save({"stem.0.weight": torch.zeros(1)}, path)
    with pytest.raises(CydasError, match="does not say which architecture it is of .it has stem.0.weight"):
        load_architecture(path, 3)


@pytest.mark.parametrize("space", ["darts", "nats"])
def test_a_search_s_checkpoint_gives_what_its_alphas_prefer_now(tmp_path, space):
    """Not what its evaluation network was made of, which is the preference of an earlier moment."""
    if space == "darts":
        parameters = supernet.ArchitectureParameters(Layout(), repeat_cell=False, use_beta=True)
        preferred = DartsSpace(Layout()).discretise(SimpleNamespace(super_layers_arch=parameters))
    else:
        parameters = nats.ArchitectureParameters()
        preferred = NatsSpace(nats.NatsLayout()).discretise(SimpleNamespace(super_layers_arch=parameters))
    joint = {f"super_layers_arch.{key}": value for key, value in parameters.state_dict().items()}
    search = {"joint": joint | {"fc_nas.bias": torch.zeros(3)}, "architecture": {"0": A if space == "darts" else BEST}}
    content = {"search": search, "about": {"config": {"space": space}}}
    save_checkpoint(tmp_path / "s.pth.tar", content)
    assert load_architecture(tmp_path / "s.pth.tar", 3, space) == preferred
    assert identify_architecture(tmp_path / "s.pth.tar") == (space, preferred)
    next(iter(parameters.parameters())).data.fill_(float("nan"))
    save_checkpoint(tmp_path / "s.pth.tar", content)
    with pytest.raises(CydasError, match="not finite"):
        load_architecture(tmp_path / "s.pth.tar", 3, space)
    del search["joint"]
    save_checkpoint(tmp_path / "s.pth.tar", content)
    with pytest.raises(CydasError, match="holds no search"):
        load_architecture(tmp_path / "s.pth.tar", 3, space)


# -- NATS-Bench --------------------------------------------------------------------------------------------------------

#: NASLib's orders, as its conversions have them: edges (from, to) counted from 1.
NASLIB_OPERATIONS = ["skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3"]
NASLIB_EDGES = [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]


def test_all_forms_of_all_architectures_are_the_same():
    structure = pytest.importorskip("nats_bench.genotype_utils").topology_str2structure
    for number, operations in enumerate(itertools.product(OPERATIONS, repeat=6)):
        if number % 61:
            continue
        architecture = Architecture(operations)
        text, nodes = str(architecture), structure(str(architecture)).nodes
        indices = [OPERATIONS.index(name) for name in operations]
        by_edge = {(s + 1, t + 1): name for (t, s), name in zip(EDGES, operations, strict=True)}
        naslib = tuple(NASLIB_OPERATIONS.index(by_edge[edge]) for edge in NASLIB_EDGES)
        forms = [text, f" {text}\n", f"'{text}'", repr(structure(text)), f"Structure(4 nodes with {text})", nodes]
        forms += [repr(nodes), repr(tuple(nodes)), f"Structure({nodes})", [list(map(list, node)) for node in nodes]]
        forms += [indices, str(indices), str(indices).replace(" ", ""), f"nats:{tuple(indices)}", architecture]
        forms += [naslib, str(naslib), str(naslib).replace(" ", ""), f"naslib:{list(naslib)}"]
        assert {parse_architecture(form) for form in forms} == {architecture}


def test_how_it_was_read_is_said():
    assert read_architecture(LISTS.format(0)) == (Architecture(("none",) * 6), "the API's lists")
    assert read_architecture("[3, 3, 3, 1, 3, 2]") == (parse_architecture(BEST), "indices in the benchmark's order")
    assert read_architecture("(2, 2, 0, 2, 2, 3)") == (parse_architecture(BEST), "NASLib's indices, in its own orders")


LENIENT = [
    "[0_0,0,0,0,0,0]", "[+0,0,0,0,0,0]", "[0x0,0,0,0,0,0]", "[-0,0,0,0,0,0]", "[٣,0,0,0,0,0]", "[²,0,0,0,0,0]",
    "[01,0,0,0,0,0]", "[0.0,0,0,0,0,0]", "[True,0,0,0,0,0]", "[5,0,0,0,0,0]", "[0,0,0,0,0]", "[0,0,0,0,0,0,0]",
    "[0,0,0,0,0,0)", "0,0,0,0,0,0", "000000", "0 0 0 0 0 0", "[[('none',+0)],[('none',0)]*2,[]]", "{0}", "[", "'", "",
    "Structure([0,0,0,0,0,0])", "Structure(", f"Structure(5 nodes with {BEST})", f"naslib:{BEST}", f"'{BEST}\"",
    BEST.replace("~0", "~٠"), BEST.replace("~0", "~00"), BEST.replace("+", " + "), BEST.upper(), BEST + "+", BEST[1:],
]  # fmt: skip


LISTS = "[[('none',{})],[('none',0),('none',1)],[('none',0),('none',1),('none',2)]]"
LENIENT += [LISTS.format(number) for number in ("+0", "-0", "0x0", "0_0", "0.0", "'0'", "1", "False")]


@pytest.mark.parametrize("text", LENIENT)
def test_what_looks_like_an_architecture_is_none(text):
    with pytest.raises(GenotypeError):
        parse_architecture(text)
    with pytest.raises(CydasError, match="is no index .digits alone. and no architecture"):
        parse_asked(text)


@pytest.mark.parametrize("value", [None, 3, True, 1.5, b"x", {}, [0.0] * 6, [True] * 6, [[]] * 3, [["none"]] * 3, [1]])
def test_values_that_are_no_architectures(value):
    with pytest.raises(GenotypeError):
        parse_architecture(value)


@pytest.mark.parametrize(
    "text", ["٣", "1_000", "+5", " 5", "5 ", "5\n", "5.0", "007", "²", "-1", "1e3", "0x10", "9" * 5000]
)
def test_what_looks_like_a_number_is_no_index(text):
    with pytest.raises(CydasError, match="is no index"):
        parse_asked(text)


def test_indices_are_digits():
    assert [parse_asked(text)[0] for text in ("0", "7", "15624")] == [0, 7, 15624]


@pytest.mark.parametrize(
    "text", [BEST, json.dumps(BEST), "[3,3,3,1,3,2]", "(2,2,0,2,2,3)", json.dumps({"0": [3, 3, 3, 1, 3, 2]})]
    + [json.dumps({"genotype": {"0": BEST}}), json.dumps({"arch_str": BEST}), f"Structure(4 nodes with {BEST})\n"],
)  # fmt: skip
def test_files_hold_architectures_of_nats_bench(tmp_path, text):
    (tmp_path / "cell").write_text(text)
    assert str(load_architecture(tmp_path / "cell", 3, "nats")) == BEST
    assert identify_architecture(tmp_path / "cell") == ("nats", parse_architecture(BEST))
    with pytest.raises(CydasError, match="is of --space nats, not of darts"):
        load_architecture(tmp_path / "cell", 3)


def row(index, arch, **other):
    return dict.fromkeys(COLUMNS, 50.5) | {"index": index, "arch_str": str(arch)} | other


def test_a_table_is_asked_in_any_form(tmp_path):
    archs = [BEST, BEST.replace("skip_connect", "none")]
    write_table(tmp_path / "t.csv", [row(index, arch) for index, arch in enumerate(archs)])
    table = NatsTable.read(tmp_path / "t.csv")
    for form in (0, BEST + "\n", [3, 3, 3, 1, 3, 2], "(2,2,0,2,2,3)", parse_architecture(BEST)):
        assert table.find(form).index == 0
    for unknown in (True, 2, -1, 0.0, "0", None, "[0,0,0,0,0,0]"):
        with pytest.raises(CydasError, match="no architecture"):
            table.find(unknown)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"index": "٠"}, "row 0: .* index 0 are expected"),
        ({"index": " 0"}, "row 0: .* index 0"),
        ({"index": "00"}, "row 0: .* index 0"),
        ({"cifar10_val": "5_0"}, "row 0: cifar10_val is no number: '5_0'"),
        ({"cifar10_val": " 50"}, "cifar10_val is no number"),
        ({"cifar10_val": "٥٠"}, "cifar10_val is no number"),
        ({"cifar10_val": "inf"}, "cifar10_val is no number"),
        ({"cifar10_val": "5,0"}, "cifar10_val is no number"),
        ({"cifar10_val": ""}, "cifar10_val is no number"),
        ({"cifar10_val": "nan"}, "a figure is not finite .cifar10_val"),
        ({"cifar10_val": "100.01"}, "cifar10_val 100.01 to 100.01 cannot be"),
        ({"imagenet16_test": "-1"}, "imagenet16_test -1 to -1 cannot be"),
        ({"params_M_cifar10": "-0.1"}, "params_M_cifar10"),
        ({"arch_str": "|none~0|"}, "row 0: '.none~0.' is no architecture"),
        ({"arch_str": BEST + " "}, "is no architecture"),
    ],
)
def test_a_table_s_fields_are_what_they_say(tmp_path, change, word):
    write_table(tmp_path / "t.csv", [row(0, BEST) | change])
    with pytest.raises(CydasError, match=word):
        NatsTable.read(tmp_path / "t.csv")


def test_costs_may_be_unknown_and_columns_are_there_once(tmp_path):
    write_table(tmp_path / "t.csv", [row(0, BEST, train_time_s_200ep_cifar100="nan", params_M_cifar10="1.5e-05")])
    assert NatsTable.read(tmp_path / "t.csv").find(0).costs["params_M_cifar10"] == 1.5e-5
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "t.csv").write_text(re.sub("^index,", "index,index,", text))
    with pytest.raises(CydasError, match="the column index is there twice"):
        NatsTable.read(tmp_path / "t.csv")
