"""Networks of cells by timm's names: those of a retraining, with timm's arguments, methods and loaders."""

import json
import subprocess
import sys

import pytest
import timm
import torch
from conftest import ROOT
from test_programs import CELL, run_retrain
from timm.models import load_checkpoint

from CyDAS.models.cells.backbone import CellBackbone
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.models.nats.networks import NatsLayout, NatsNetwork
from CyDAS.runs.checkpoint import load_checkpoint as read
from CyDAS.spaces import load_architecture
from CyDAS.spaces.backbones import open_backbone
from CyDAS.spaces.registry import CELLS
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_parameters

ARCH = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|none~1|nor_conv_3x3~2|"
TINY = {"init_channels": 2, "stem_multiplier": 1}


def images(count=3, channels=3, size=16, seed=1):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def lively(network, channels=3, size=16):
    """In eval mode, with numbers that do not fade: batch norms have the statistics of some images."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches: here, of one
    with torch.no_grad():
        network.train()(images(8, channels, size, seed=2))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.1
    return network.eval()


def test_every_published_genotype_has_a_name_after_its_file():
    files = sorted(path.name for path in (ROOT / "CyDAS/cells").glob("*_genotype.json"))
    assert files == [f"{name.removeprefix('cydas_')}_genotype.json" for name in sorted(CELLS)] and len(files) == 7
    assert {*CELLS, "cydas_cell", "cydas_nats"} == set(timm.list_models("cydas_*"))


def test_published_names_have_the_published_sizes(golden):
    known = 0
    for name, file in CELLS.items():
        model_type = "imagenet" if name.endswith("imagenet") else "cifar"
        network = timm.create_model(name)
        classes, size = (1000, 224) if model_type == "imagenet" else (10, 32)
        if file.name in golden["retrain"][model_type]:
            known += 1
            assert count_parameters(network) == golden["retrain"][model_type][file.name]["params_no_aux"], name
        assert network.num_classes == classes and network.pretrained_cfg["input_size"] == (3, size, size)
    assert known >= 4


def test_another_structure_comes_with_its_sizes_and_its_settings():
    network = timm.create_model("cydas_dartsv1", model_type="imagenet")
    assert network.num_classes == 1000 and network.pretrained_cfg["input_size"] == (3, 224, 224)
    assert network.feature_extractor[0][3].out_channels == 48
    assert timm.create_model("cydas_dartsv1", model_type="imagenet", num_classes=7, **TINY).num_classes == 7


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        ({}, 16),
        ({"layer_num": 4}, 32),
        ({"model_type": "imagenet"}, 64),
        ({"model_type": "imagenet", "res_stem": True, "layer_num": 4}, 64),
    ],
)
def test_a_cell_network_is_the_retrained_one_with_plain_logits(layout, size):
    network = lively(
        timm.create_model("cydas_cell", cell_file=CELL, num_classes=7, in_chans=1, **TINY, **layout), 1, size
    )
    shape = Layout(**TINY, **layout, n_classes=7, input_channels=1, image_size=96)
    ours = RetrainNetwork(shape, load_architecture(CELL, shape.layer_num), False).eval()
    ours.load_state_dict(network.state_dict())
    x = images(channels=1, size=size)
    with torch.no_grad():
        logits = network(x)
        assert torch.equal(logits, ours(x).logits) and logits.shape == (3, 7) and logits.std(dim=0).min() > 0
        assert torch.equal(network.forward_head(network.forward_features(x)), logits)


def test_a_genotype_may_be_given_instead_of_a_file():
    text = json.loads(CELL.read_text())
    for genotype in (text, text["0"]):
        network = timm.create_model("cydas_cell", genotype=genotype, **TINY)
        assert [cell.genotype for cell in network.nas_layers[0]][0] == load_architecture(CELL, 3)[0].normal


def test_a_nats_network_is_the_benchmarks():
    sizes = {"init_channels": 4, "cells_per_stage": 1}
    network = lively(timm.create_model("cydas_nats", arch=ARCH, num_classes=7, **sizes))
    ours = NatsNetwork(NatsLayout(**sizes, n_classes=7), parse_architecture(ARCH)).eval()
    ours.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(network(images()), ours(images()).logits)
        assert network.forward_head(network.forward_features(images()), pre_logits=True).shape == (3, 16)
    assert timm.create_model("cydas_nats", arch=ARCH).nas_layers[0][4].architecture == parse_architecture(ARCH)


@pytest.mark.parametrize(
    ("name", "options"), [("cydas_cell", {"cell_file": CELL, **TINY}), ("cydas_nats", {"arch": ARCH})]
)
def test_the_last_layer_is_replaced_as_timm_does(name, options):
    network = lively(timm.create_model(name, drop_rate=0.5, drop_path_rate=0.2, **options))
    assert network.get_classifier() is network.fc and network.fc.out_features == network.num_classes == 10
    network.reset_classifier(3)
    assert network(images()).shape == (3, 3) and network.num_classes == 3
    network.reset_classifier(0)
    features = network(images())
    assert features.shape == (3, network.num_features) and network.num_classes == 0
    network.train()
    assert not torch.equal(network(images()), network(images()))  # dropout
    network.set_grad_checkpointing()
    network(images()).sum().backward()
    assert timm.create_model(name, num_classes=0, **options).eval()(images()).shape == (3, network.num_features)
    with pytest.raises(ValueError, match="global_pool avg, not 'max'"):
        network.reset_classifier(3, "max")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What a retraining with an auxiliary head and averaged weights saves."""
    folder = tmp_path_factory.mktemp("cells")
    return run_retrain(folder, "averaged", "--epochs", "1", "--cell_file", str(CELL), "--ema_decay", "0.5")


def test_what_retrain_saves_opens_in_timm(trained):
    """The averaged weights, as timm has it; the plain ones where it is asked for them."""
    path, options = trained / "last.pth.tar", {"cell_file": CELL, **TINY}
    content = read(path)
    network = timm.create_model("cydas_cell", checkpoint_path=str(path), **options)
    assert any(name.startswith("aux_head.") for name in content["model_main"])
    for key in ("state_dict_ema", "model_main"):
        state = network.state_dict()
        assert all(torch.equal(state[name], content[key][name]) for name in state) and len(state) > 100
        load_checkpoint(network, str(path), use_ema=False)
    with pytest.raises(RuntimeError, match="size mismatch for fc.bias|Missing key"):
        timm.create_model("cydas_cell", checkpoint_path=str(path), num_classes=9, **options)


def test_features_are_those_of_the_projects_backbones(tmp_path):
    classifier = timm.create_model("cydas_imagenet", num_classes=5, init_channels=4)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    backbone = timm.create_model(
        "cydas_imagenet", features_only=True, init_channels=4, checkpoint_path=str(tmp_path / "weights.pth")
    )
    assert isinstance(backbone, CellBackbone) and torch.equal(backbone.feature_extractor[0][0].weight,
                                                              classifier.feature_extractor[0][0].weight)  # fmt: skip
    assert backbone.feature_info.channels() == list(backbone.channels)
    assert backbone.feature_info.reduction() == [4, 8, 16, 32]
    nats = timm.create_model("cydas_nats", arch=ARCH, features_only=True, cells_per_stage=1)
    assert [tuple(f.shape[-2:]) for f in nats.eval()(images(1, size=64))] == [(16, 16), (8, 8), (4, 4), (2, 2)]


def test_detectors_and_segmenters_take_the_names_as_backbones():
    backbone, _ = open_backbone("cydas_imagenet", None, 320)  # what a segmenter asks chains for means nothing here
    assert isinstance(backbone, CellBackbone) and backbone.recipe["options"] == {}
    with pytest.raises(CydasError, match="--backbone cydas_cifar: features .* are those of model_type='imagenet'"):
        open_backbone("cydas_cifar")


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("cydas_cell", {}, "needs one of cell_file='FILE' and genotype="),
        ("cydas_cell", {"cell_file": CELL, "genotype": "x"}, "needs one of cell_file="),
        ("cydas_cell", {"cell_file": "none.json"}, "there is no such file"),
        ("cydas_cell", {"genotype": "Genotype()"}, "genotype"),
        ("cydas_cell", {"cell_file": CELL, "model_type": "other"}, "model_type is cifar or imagenet, not 'other'"),
        ("cydas_cell", {"cell_file": CELL, "layer_num": 2}, "layer_num must be at least 3"),
        ("cydas_nats", {}, "needs arch="),
        ("cydas_nats", {"arch": "|x~0|"}, "3 nodes"),
        ("cydas_nats", {"arch": ARCH, "init_channels": 0}, "init_channels must be at least 1"),
    ],
)
def test_what_makes_no_network_is_named(name, options, word):
    with pytest.raises((CydasError, ValueError), match=word):
        timm.create_model(name, **options)


@pytest.mark.parametrize("imports", ["import CyDAS; import timm", "import timm; import CyDAS"])
def test_names_are_there_once_both_are_imported_and_networks_are_not(imports):
    code = f"{imports}; import sys; print('cydas_pdarts' in timm.list_models(), 'cdarts_a' in timm.list_models(), "
    code += "[m for m in ('CyDAS.spaces.choice', 'CyDAS.data', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.stdout.split() == ["True", "True", "[]"], done.stderr
