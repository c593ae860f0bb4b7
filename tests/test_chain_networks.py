"""Networks of the chain space: published sizes, timm's names, checkpoints of others, backbones, pictures."""

import argparse
import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

import CyDAS
from CyDAS.models.cells.backbone import CellBackbone
from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.chain.architecture import (
    FORM,
    Architecture,
    as_published,
    block_strings,
    parse_architecture,
)
from CyDAS.models.chain.cost import count_published_flops
from CyDAS.models.chain.network import chain_network
from CyDAS.models.chain.published import PUBLISHED
from CyDAS.models.nats.architecture import parse_architecture as parse_nats
from CyDAS.spaces import identify_architecture, load_architecture
from CyDAS.spaces.backbones import load_pretrained, make_backbone
from CyDAS.spaces.chain import ChainSpace
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json
from CyDAS.utils.profile import count_macs, count_parameters

NETWORKS = (
    "cream_14", "cream_43", "cream_114", "cream_287", "cream_481", "cream_604", "cdarts_a_c960", "cdarts_a_c320",
    "cdarts_b_c960", "cdarts_b_c320", "cdarts_b_c960_22blocks", "cdarts_b_c320_22blocks", "cdarts_b_c960_figure_order",
)  # fmt: skip
SMALL = parse_architecture("[[0], [0], [1], [2], [3], [0], [0]]")


def run_python(code):
    """What a fresh interpreter prints."""
    root = Path(CyDAS.__file__).resolve().parents[1]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=300)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("variant", ["as_run", "as_listed"])
def test_every_network_has_the_reference_size(chain_golden, name, variant):
    """Parameters, multiply-accumulates and the published accounting, exactly."""
    entry = chain_golden["networks"][name]
    if variant not in entry:
        pytest.skip("the reference has this network in one variant only")
    expected, lists = entry[variant], entry["arch"]
    if name.endswith("22blocks"):  # its file says r2 for one block
        lists = [blocks + [2] if stage == 3 else blocks for stage, blocks in enumerate(lists)]
    architecture = parse_architecture(lists)
    architecture = as_published(architecture) if variant == "as_run" else architecture
    network = chain_network(architecture, c_last=expected["c_last"], num_classes=expected["classes"])
    assert count_parameters(network) == expected["params"]
    assert count_macs(network, (3, expected["resolution"], expected["resolution"])) == expected["macs"]
    flops = count_published_flops(network, (3, expected["resolution"], expected["resolution"]))
    assert flops == expected["published_style_flops"]
    assert architecture.blocks + 1 == expected["blocks_incl_stage_6"]
    if not name.endswith("22blocks"):
        assert block_strings(architecture, expected["c_last"]) == expected["block_strings"]


def test_the_networks_of_the_papers_have_their_printed_size(chain_golden):
    """By name: what timm creates is the network as it was built, not as it was listed."""
    for name in ("cdarts_a", "cdarts_b", "cream_14", "cream_43", "cream_114", "cream_287", "cream_481", "cream_604"):
        expected = chain_golden["networks"].get(name) or chain_golden["networks"][f"{name}_c960"]
        assert count_parameters(timm.create_model(name)) == expected["as_run"]["params"], name
        assert PUBLISHED[name].image_size == expected["as_run"]["resolution"]
    assert count_parameters(timm.create_model("cdarts_a")) == 6_987_728
    assert count_parameters(timm.create_model("cdarts_a_drawn")) == 6_993_560
    assert count_parameters(timm.create_model("cdarts_b_22blocks")) == 6_465_224
    assert count_parameters(timm.create_model("cdarts_b", c_last=320)) == 5_409_624


def test_state_dicts_have_the_published_keys_in_order(chain_golden):
    state = timm.create_model("cdarts_a").state_dict()
    shapes = {key: list(value.shape) for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert list(shapes.items()) == list(chain_golden["state_dict_cdarts_a"].items())


@pytest.mark.parametrize("size", ["224x224", "512x1024", "800x1280", "64x96"])
@pytest.mark.parametrize("name", ["cdarts_a", "cdarts_b"])
def test_features_have_the_reference_shapes(chain_golden, name, size):
    height, width = map(int, size.split("x"))
    network = timm.create_model(name, features_only=True).to("meta").eval()
    features = network.features(torch.zeros(1, 3, height, width, device="meta"))
    assert [list(feature.shape[1:]) for feature in features] == chain_golden["features"][f"{name}@{size}"]
    assert network.channels == (24, 40, 96, 960) and network.strides == (4, 8, 16, 32)


def test_drop_path_grows_over_all_blocks(chain_golden):
    """Rate * index / blocks, stage 6 counted; blocks without a residual have it and do not use it."""
    for name in ("cdarts_a", "cdarts_b"):
        rates = [
            getattr(block.drop_path, "drop_prob", 0.0)
            for stage in timm.create_model(name, drop_path_rate=0.2).blocks
            for block in stage
        ]
        assert rates == pytest.approx(chain_golden["networks"][f"{name}_c960"]["as_run"]["drop_path_at_0.2"], abs=1e-6)


# -- timm's names ------------------------------------------------------------------------------------------------------


def test_importing_cydas_imports_neither_torch_nor_timm():
    assert run_python("import CyDAS, sys; print('torch' in sys.modules, 'timm' in sys.modules)") == ["False", "False"]


@pytest.mark.parametrize(
    "imports",
    [
        "import CyDAS; import timm",
        "import timm; import CyDAS",
        "import CyDAS; from timm.models.layers import DropPath; import timm",
        "import CyDAS, importlib.util; importlib.util.find_spec('timm'); import timm",  # who asks whether it is there
        "import CyDAS.models.chain.network; import timm",
        "import CyDAS.models.chain.registry; import timm",
    ],
)
def test_timm_creates_the_networks_by_name_once_cydas_is_imported(imports):
    code = f"{imports}; print(timm.create_model('cream_14').num_classes)"
    assert run_python(code) == ["1000"]


def test_every_published_network_is_listed_with_its_image_size():
    assert set(PUBLISHED) <= set(timm.list_models())
    for name, published in PUBLISHED.items():
        settings = timm.get_pretrained_cfg(name)
        assert settings.input_size == (3, published.image_size, published.image_size)
        assert (settings.crop_pct, settings.interpolation) == (0.875, "bicubic")


def test_timms_options_reach_the_network():
    network = timm.create_model(
        "cdarts_chain", architecture=[[0], [1], [5, -1, 3], [2], [3], [4], [0]], c_last=320, num_classes=7, in_chans=1,
        drop_rate=0.4, drop_path_rate=0.1, bn_momentum=0.01,
    )  # fmt: skip
    assert network(torch.zeros(2, 1, 33, 47)).shape == (2, 7)
    assert (network.drop_rate, network.blocks[2][1].drop_path.drop_prob) == (0.4, pytest.approx(0.1 * 3 / 8))
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01} and {norm.eps for norm in norms} == {1e-5}
    features = timm.create_model("cdarts_a", features_only=True, out_indices=(0, 2), num_classes=7)
    assert (features.strides, features.channels) == ((2, 8), (16, 40))
    with pytest.raises(RuntimeError, match="No pretrained weights exist"):
        timm.create_model("cdarts_a", pretrained=True)


@pytest.mark.parametrize("features_only", [False, True])
@pytest.mark.parametrize(
    "export",
    [
        lambda network, x: torch.jit.script(network),
        lambda network, x: torch.jit.trace(network, x),
        lambda network, x: torch.export.export(network, (x,)).module(),
        lambda network, x: copy.deepcopy(network),
    ],
    ids=["script", "trace", "export", "copy"],
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch about its own TorchScript
def test_networks_can_be_exported(features_only, export):
    network, x = chain_network(SMALL, num_classes=3, features_only=features_only).eval(), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(export(network, x)(x), network(x))


def test_dropout_acts_in_training_alone():
    network = chain_network(SMALL, drop_rate=0.5, num_classes=3).eval()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(network(x), network(x))
    x = network.forward_features(x)
    network.train()
    assert not torch.equal(network.forward_head(x), network.forward_head(x))


# -- checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights():
    return {key: torch.randn_like(v).abs() if v.is_floating_point() else v
            for key, v in chain_network(SMALL, num_classes=5).state_dict().items()}  # fmt: skip


def wrapped(kind, weights):
    """A checkpoint as programs of this family write it."""
    other = {key: value + 1 for key, value in weights.items()}
    parallel = {f"module.{key}": value for key, value in weights.items()}
    return {
        "bare": weights,
        "state_dict": {"state_dict": weights, "epoch": 3},
        "module": {"state_dict": parallel},
        "ema": {"state_dict": other, "state_dict_ema": weights},
        "ema of module": {"state_dict": other, "state_dict_ema": parallel},
        "timm": {"state_dict": weights, "arch": "x", "args": argparse.Namespace(lr=0.064, model="x"), "metric": 70.0},
    }[kind]


KINDS = ["bare", "state_dict", "module", "ema", "ema of module", "timm"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features_only", [False, True])
def test_published_checkpoints_load_as_they_are(tmp_path, weights, kind, features_only):
    """By timm's ``checkpoint_path`` and by the project's reader, into classifiers and backbones."""
    path = tmp_path / "checkpoint.pth.tar"
    torch.save(wrapped(kind, weights), path)
    options = {"architecture": SMALL, "num_classes": 5, "features_only": features_only}
    by_timm = timm.create_model("cdarts_chain", checkpoint_path=str(path), **options)
    own = timm.create_model("cdarts_chain", **options)
    load_pretrained(own, path, "state_dict_ema" if "ema" in kind else None)
    for network in (by_timm, own):
        state = network.state_dict()
        assert all(torch.equal(value, weights[key]) for key, value in state.items())
        assert ("classifier.weight" in state) is not features_only


def test_a_checkpoint_of_another_architecture_is_refused_in_one_line(tmp_path, weights):
    path = tmp_path / "checkpoint.pth"
    torch.save(weights, path)
    for features_only in (False, True):
        network = chain_network(parse_architecture(FORM), num_classes=5, features_only=features_only)
        with pytest.raises(CydasError, match="is of another architecture or size: blocks.2") as caught:
            load_pretrained(network, path)
        assert "\n" not in str(caught.value)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("touched_by_a_checkpoint"),)


def test_nothing_in_a_checkpoint_is_run(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights, "args": Harmful()}, "checkpoint.pth")
    with pytest.raises(CydasError, match="more than tensors and plain values"):
        load_pretrained(chain_network(SMALL, num_classes=5), Path("checkpoint.pth"))
    with pytest.raises(RuntimeError, match="blocked"):
        timm.create_model("cdarts_chain", architecture=SMALL, num_classes=5, checkpoint_path="checkpoint.pth")
    assert not Path("touched_by_a_checkpoint").exists()


def test_a_backbone_inside_a_detector_leaves_out_the_head_too(weights):
    detector = torch.nn.ModuleDict(
        {"backbone": chain_network(SMALL, features_only=True), "neck": torch.nn.Linear(1, 1)}
    )
    state = {f"backbone.{key}": value for key, value in weights.items()} | {
        f"neck.{key}": value for key, value in detector["neck"].state_dict().items()
    }
    detector.load_state_dict(state)
    assert torch.equal(detector["backbone"].conv_stem.weight, weights["conv_stem.weight"])
    assert "backbone.classifier.weight" in state  # the caller's own dict is as it was


# -- architecture files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_architectures_are_written_and_read_alike(tmp_path, name):
    architecture = PUBLISHED[name].architecture
    write_json(tmp_path / "genotype.json", ChainSpace.to_strings(architecture))
    assert load_architecture(tmp_path / "genotype.json", 3, "chain") == architecture
    assert identify_architecture(tmp_path / "genotype.json") == ("chain", architecture)
    assert parse_architecture(str(architecture)) == architecture == parse_architecture(json.loads(str(architecture)))


def test_bare_lists_and_named_ones_are_read(tmp_path):
    lists = [[0], [3], [3, -1, 3], [3], [0, -1], [5], [0]]
    architecture = Architecture(((0,), (3,), (3, 3), (3,), (0,), (5,), (0,)))
    (tmp_path / "one.json").write_text(json.dumps(lists))
    (tmp_path / "text.txt").write_text(str(lists))
    (tmp_path / "named.json").write_text(json.dumps({"small": lists}))
    (tmp_path / "several.json").write_text(json.dumps({"small": lists, "large": json.loads(FORM)}))
    for file in ("one.json", "text.txt", "named.json", "several.json::small"):
        assert load_architecture(tmp_path / file, 3, "chain") == architecture
    assert str(load_architecture(tmp_path / "several.json::large", 3, "chain")) == FORM
    with pytest.raises(CydasError, match="there are small, large: choose one as FILE::NAME"):
        load_architecture(tmp_path / "several.json", 3, "chain")


@pytest.mark.parametrize(
    ("stage", "blocks", "word"),
    [
        (2, [3, 6], "stage 2, block 1: 6 is no operation"),
        (2, [3, -2], "stage 2, block 1: -2 is no operation"),
        (3, [True], "stage 3, block 0: True is no operation"),
        (3, [1.0], "stage 3, block 0: 1.0 is no operation"),
        (3, ["skip"], "stage 3, block 0: skip is no operation"),
        (1, [], "stage 1 is empty"),
        (5, [0] * 7, "stage 5 has 7 blocks; a stage has at most 6"),
        (4, [-1, 3], "stage 4, block 0: a stage's first block cannot be an identity"),
        (0, [1], r"stage 0 has no choice: it is \[0\]"),
        (6, [0, 0], "stage 6 has no choice"),
        (2, 3, "stage 2: a list of operations is expected"),
    ],
)
def test_a_wrong_stage_is_one_line_that_names_it(tmp_path, stage, blocks, word):
    lists = json.loads(FORM)
    lists[stage] = blocks
    (tmp_path / "wrong.json").write_text(json.dumps(lists))
    with pytest.raises(CydasError, match=word) as caught:
        load_architecture(tmp_path / "wrong.json", 3, "chain")
    assert "\n" not in str(caught.value) and "wrong.json" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        (json.loads(FORM)[:6], "7 stages are expected.*not 6"),
        (3, "a list of 7 stages"),
        (None, "a list of 7 stages"),
        ("[[0], [0", "is written like"),
        ("[" * 300, "is written like"),
        ("[" * 500, "too many"),
        ("__import__('os')", "is written like"),
    ],
)
def test_what_is_no_architecture_is_refused(value, word):
    with pytest.raises(CydasError, match=word):
        ChainSpace.parse(value, None, "file")


def test_a_cell_is_no_chain_and_the_error_says_whose_it_is(tmp_path):
    (tmp_path / "cell.json").write_text('{"0": "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"}')
    with pytest.raises(CydasError, match="is of --space nats, not of chain"):
        load_architecture(tmp_path / "cell.json", 3, "chain")


def test_the_operations_of_an_architecture_are_counted():
    counts = ChainSpace.describe(PUBLISHED["cdarts_a"].architecture)
    assert counts == {"k3_e4": 1, "k3_e6": 1, "k5_e4": 0, "k5_e6": 11, "k7_e4": 0, "k7_e6": 0}


def test_the_picture_has_every_block_in_order(tmp_path):
    (path,) = ChainSpace.draw(PUBLISHED["cdarts_b"].architecture, tmp_path, "b")
    source = (tmp_path / "b.gv").read_text()
    assert path.exists() and source.count("->") == 1 + 21  # into each block and the head
    assert [source.count(f'label="{k}x{k}') for k in (5, 7)] == [9, 6]
    wide = [line for line in source.splitlines() if "e6" in line]
    assert len(wide) == 6 and all("width=1.2" in line for line in wide)
    arrows = [line.strip() for line in source.splitlines() if "->" in line]
    assert arrows[:3] == ["stem -> 0.0", "0.0 -> 1.0", "1.0 -> 1.1"] and arrows[-2:] == ["5.2 -> 5.3", "5.3 -> head"]


# -- backbones of every space ------------------------------------------------------------------------------------------

GENOTYPES = [random_genotype(torch.Generator().manual_seed(seed)) for seed in range(4)]
BACKBONES = {
    "darts": lambda: make_backbone("darts", GENOTYPES[:3], init_channels=8),
    "darts with the stem of a ResNet": lambda: make_backbone("darts", GENOTYPES, init_channels=4, res_stem=True),
    "nats": lambda: make_backbone("nats", parse_nats([3, 0, 1, 3, 2, 4]), cells=2),
    "chain": lambda: make_backbone("chain", SMALL, c_last=320),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_every_network_gives_features_at_four_strides(name):
    backbone = BACKBONES[name]()
    features = backbone.features(torch.randn(2, 3, 64, 96))
    assert backbone.strides == (4, 8, 16, 32)
    assert [tuple(feature.shape) for feature in features] == [
        (2, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    sum(feature.square().mean() for feature in features).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters() if parameter.requires_grad)


def test_a_cell_backbone_computes_what_the_classifier_does(tmp_path):
    """It loads the retrained network's weights, and its last feature is what the classifier averages."""
    layout = Layout("imagenet", 8, 1, image_size=64)
    network = RetrainNetwork(layout, GENOTYPES[:3], auxiliary=True).eval()
    backbone = CellBackbone(layout, GENOTYPES[:3]).eval()
    torch.save({"model_main": network.state_dict(), "epoch": 1}, tmp_path / "last.pth.tar")
    load_pretrained(backbone, tmp_path / "last.pth.tar")
    x = torch.randn(2, 3, 64, 64)
    logits = network.fc(backbone.features(x)[-1].mean(dim=(2, 3)))
    torch.testing.assert_close(logits, network(x).logits)


def test_impossible_backbones_are_refused():
    with pytest.raises(ValueError, match="up to 32"):
        CellBackbone(Layout("cifar"), GENOTYPES[:3])
    with pytest.raises(ValueError, match="up to 32"):
        CellBackbone(Layout("imagenet", layer_num=4, image_size=256), GENOTYPES)
    for name in ("darts", "nats"):
        with pytest.raises(ValueError, match="multiples of 32"):
            BACKBONES[name]().features(torch.zeros(1, 3, 64, 80))
