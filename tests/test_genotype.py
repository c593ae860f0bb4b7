"""Genotypes: what is read, what is refused and with which word, and that nothing in them is ever run."""

import json
from pathlib import Path

import pytest
import torch

from CyDAS.models.cells.genotype import (
    GenotypeError,
    count_operations,
    make_genotype,
    parse_genotype,
    random_genotype,
)
from CyDAS.models.cells.operations import CHOOSABLE
from CyDAS.spaces import DartsSpace, load_architecture
from CyDAS.spaces.darts import parse_architecture
from CyDAS.utils.errors import CydasError

CELLS = Path(__file__).resolve().parents[1] / "CyDAS/cells"
NODE = [("sep_conv_3x3", 0), ("skip_connect", 1)]
GENOTYPE = make_genotype([NODE] * 4, [NODE] * 4)
TEXT = repr(GENOTYPE)


def test_the_published_form_is_read_and_written():
    assert TEXT.startswith("Genotype(normal=[[('sep_conv_3x3', 0), ('skip_connect', 1)], ")
    assert TEXT.endswith("reduce_concat=range(2, 6))")
    assert parse_genotype(TEXT) == GENOTYPE
    assert parse_genotype(TEXT.replace("range(2, 6)", "[2, 3, 4, 5]")) == GENOTYPE


def test_random_genotypes_round_trip():
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        genotype = random_genotype(generator)
        assert parse_genotype(repr(genotype)) == genotype
        assert all(a[1] != b[1] for cell in (genotype.normal, genotype.reduce) for a, b in cell)


def test_the_seven_published_files_are_read():
    files = sorted(CELLS.glob("*_genotype.json"))
    assert len(files) == 7
    for path in files:
        architecture = load_architecture(path, 3)
        assert json.loads(path.read_text()) == DartsSpace.to_strings(architecture)
    cifar = load_architecture(CELLS / "cifar_genotype.json", 3)[0]
    assert cifar.normal[3] == [("skip_connect", 0), ("skip_connect", 2)]
    assert cifar.reduce[0] == [("sep_conv_5x5", 1), ("max_pool_3x3", 0)]


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("('sep_conv_3x3', 0)", "('none', 0)", "normal, node 0, edge 0: 'none' is not one of"),
        ("('sep_conv_3x3', 0)", "('sep_conv_9x9', 0)", "normal, node 0, edge 0: 'sep_conv_9x9'"),
        ("('skip_connect', 1)", "('skip_connect', 2)", "normal, node 0, edge 1: state 2"),
        ("('skip_connect', 1)", "('skip_connect', -1)", "normal, node 0, edge 1: a whole number"),
        ("('skip_connect', 1)", "('skip_connect', True)", "normal, node 0, edge 1: a whole number"),
        ("('skip_connect', 1)", "('skip_connect', 1.0)", "normal, node 0, edge 1: a whole number"),
        ("('skip_connect', 1)", "('skip_connect', 1, 2)", "normal, node 0, edge 1: 2 entries"),
        ("('skip_connect', 1)", "(print('x'), 1)", "normal, node 0, edge 1: an expression"),
        ("[('sep_conv_3x3', 0), ('skip_connect', 1)], ", "", "normal: 4 entries are expected, not 3"),
        ("range(2, 6)", "range(2, 5)", "normal_concat: a cell concatenates its nodes 2 to 5"),
        ("range(2, 6)", "[3, 2, 4, 5]", "normal_concat"),
        ("range(2, 6)", "range(2, 6, 1)", "normal_concat"),
        ("Genotype(", "Network(", "not of the form"),
        ("normal=", "usual=", "a genotype has the parts"),
        ("Genotype(", "Genotype(1, ", "by name"),
        ("normal=", "**", "a genotype"),
    ],
)
def test_a_wrong_place_is_named(old, new, word):
    with pytest.raises(GenotypeError, match=word.replace("(", r"\(").replace(")", r"\)")):
        parse_genotype(TEXT.replace(old, new, 1))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Genotype",
        "1",
        "(" * 5000,
        "-" * 9000 + "1",
        "[" * 50 + "]" * 50,
        "x" * 100_000,
        "Genotype(\0)",
        "__import__('os').abort()",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(GenotypeError):
        parse_genotype(text)


def test_nothing_in_a_genotype_is_run(tmp_path):
    marker = tmp_path / "ran"
    attack = f"open({str(marker)!r}, 'w')"
    for text in (attack, TEXT.replace("'sep_conv_3x3'", attack, 1), TEXT.replace("range(2, 6)", attack, 1)):
        with pytest.raises(GenotypeError):
            parse_genotype(text)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("{", "not JSON"),
        ("[]", "one genotype per stage"),
        ("{}", "one genotype per stage"),
        (json.dumps({"0": TEXT, "2": TEXT}), "numbered from 0"),
        (json.dumps({"0": TEXT, "1": TEXT.replace("sep_conv_3x3", "conv", 1), "2": TEXT}), "stage 1: normal, node 0"),
        (json.dumps({"0": 5}), "a genotype is a string"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, content, word):
    path = tmp_path / "genotype.json"
    path.write_text(content)
    with pytest.raises(CydasError, match=word) as error:
        load_architecture(path, 3)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CydasError, match="no such file"):
        load_architecture(tmp_path / "nothing.json", 3)


def test_stages_must_fit_unless_all_are_alike():
    other = make_genotype([[("max_pool_3x3", 0), NODE[1]]] * 4, [NODE] * 4)
    alike = DartsSpace.to_strings([GENOTYPE] * 3)
    assert parse_architecture(alike, 4, "file") == [GENOTYPE] * 4
    with pytest.raises(CydasError, match="3 different stages, the network has 4"):
        parse_architecture(DartsSpace.to_strings([GENOTYPE, other, GENOTYPE]), 4, "file")


def test_operations_are_counted():
    counts = count_operations([GENOTYPE])
    assert counts == {op: 8 if op in ("sep_conv_3x3", "skip_connect") else 0 for op in CHOOSABLE}


def test_pictures_and_their_sources_are_written(tmp_path):
    from CyDAS.models.cells.layout import Layout

    space = DartsSpace(Layout())
    space.draw([GENOTYPE] * 3, tmp_path, "round_001")
    expected = [f"round_001_{cell}.{end}" for cell in ("normal", "reduce") for end in ("gv", "png")]
    assert sorted(p.name for p in tmp_path.iterdir()) == expected
    other = make_genotype([[("max_pool_3x3", 0), NODE[1]]] * 4, [NODE] * 4)
    space.draw([GENOTYPE, other, GENOTYPE], tmp_path, "r")
    assert (tmp_path / "r_stage1_normal.gv").read_text().count("max_pool_3x3") == 4
