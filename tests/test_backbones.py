"""What ``--backbone`` and ``--backbone_checkpoint`` can be, and what is said of the weights that were loaded."""

import json

import pytest
import timm
import torch

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.chain.network import ChainBackbone
from CyDAS.spaces import DartsSpace
from CyDAS.spaces.backbones import open_backbone
from CyDAS.utils.errors import CydasError

SMALL = [[0], [0], [1], [2], [3], [0], [0]]


def saved(path, weights, **more):
    torch.save({"model_main": weights, **more}, path)
    return path


@pytest.mark.parametrize("name", ["cream_14", "resnet18", "mobilenetv3_small_100"])
def test_any_name_gives_features_at_four_strides(name):
    backbone, lines = open_backbone(name)
    features = backbone(torch.zeros(1, 3, 64, 96))
    assert [tuple(f.shape) for f in features] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(backbone.channels, (4, 8, 16, 32), strict=True)
    ]
    assert lines == [f"backbone {name}: random weights"]


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto"])
def test_a_timm_backbone_takes_the_weights_of_the_classifier(name, tmp_path):
    """Also where timm has other names in a network that gives features."""
    classifier = timm.create_model(name, num_classes=7)
    backbone, lines = open_backbone(name, saved(tmp_path / "c.pth", classifier.state_dict()))
    own = len(backbone.state_dict())
    assert lines[0] == f"backbone {name}: {own} of {own} tensors from {tmp_path / 'c.pth'}"
    assert len(lines) == 2 and "without use" in lines[1]
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(backbone.eval()(x)[-1], classifier.eval().forward_intermediates(x)[1][-1])


def test_a_chain_is_as_wide_as_its_checkpoint_unless_told_otherwise(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(SMALL))
    wide = timm.create_model("cdarts_chain", architecture=SMALL, c_last=64, num_classes=3)
    path = saved(tmp_path / "c.pth", wide.state_dict())
    backbone, lines = open_backbone(str(tmp_path / "a.json"), path)
    assert isinstance(backbone, ChainBackbone) and backbone.channels[-1] == 64 and len(lines) == 1
    assert torch.equal(backbone.blocks[6][0].conv.weight, wide.blocks[6][0].conv.weight)
    other, lines = open_backbone(str(tmp_path / "a.json"), path, c_last=32)
    assert other.channels[-1] == 32
    assert lines[-1].split(": ", 1)[1].startswith("5 of another shape there: blocks.6.0.conv.weight")
    assert torch.equal(other.conv_stem.weight, wide.conv_stem.weight)


def test_a_retrained_network_of_cells_says_its_own_size(tmp_path):
    genotypes = [random_genotype(torch.Generator().manual_seed(seed)) for seed in range(3)]
    network = RetrainNetwork(Layout("imagenet", 8, 1, image_size=64), genotypes, auxiliary=False)
    config = {"init_channels": 8, "stem_multiplier": 1, "layer_num": 3, "res_stem": False}
    path = saved(
        tmp_path / "last.pth.tar", network.state_dict(), genotype=DartsSpace.to_strings(genotypes), config=config
    )
    backbone, lines = open_backbone(str(path), path)
    assert len(lines) == 1 and backbone.channels[-1] == 4 * 8 * 4
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(network.eval().fc(backbone.eval()(x)[-1].mean(dim=(2, 3))), network(x).logits)


def test_what_makes_no_backbone_is_refused_with_its_name(tmp_path):
    for name, says in (
        ("cdarts_bb", "cdarts_b"),
        ("vit_tiny_patch16_224", "no features at strides"),
        ("swin_tiny_patch4_window7_224", "channels last"),
        (str(tmp_path / "none.json"), "neither a model"),
    ):
        with pytest.raises(CydasError, match=f"--backbone {name}.*{says}"):
            open_backbone(name)
    weights = timm.create_model("resnet18").state_dict()
    with pytest.raises(CydasError, match="of another network: 1 of"):
        open_backbone("cream_14", saved(tmp_path / "r.pth", weights))
    weights["conv1.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(CydasError, match="not finite"):
        open_backbone("resnet18", saved(tmp_path / "n.pth", weights))
