"""Parameters, multiply-accumulates and shapes of the published networks."""

from pathlib import Path

import pytest
import torch
from torch import nn

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.cells.layout import Layout, make_stem
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.cells.supernet import make_search_stages
from CyDAS.models.heads import auxiliary_pooling, distillation_pooling
from CyDAS.spaces import DartsSpace, load_architecture
from CyDAS.utils.profile import count_macs, count_parameters

CELLS = Path(__file__).resolve().parents[1] / "CyDAS/cells"
SEARCH = {
    "cifar_c16_s3": (Layout(), False),
    "cifar_c16_s3_repeat_cell": (Layout(), True),
    "imagenet_c16_s1": (Layout("imagenet", 16, 1, 3, 1000, image_size=224), False),
    "imagenet_c16_s1_res_stem": (Layout("imagenet", 16, 1, 4, 1000, image_size=224, res_stem=True), False),
}
RETRAIN = {
    "cifar": Layout("cifar", 36, 3),
    "imagenet": Layout("imagenet", 48, 1, n_classes=1000, image_size=224),
}


class SearchNetwork(nn.Module):
    """The search network with its heads, without the evaluation network."""

    def __init__(self, joint):
        super().__init__()
        self.joint = joint

    def forward(self, x):
        return self.joint(x, evaluation=False).search


@pytest.mark.parametrize("name", SEARCH)
def test_search_network_has_the_published_size(golden, name):
    layout, repeat_cell = SEARCH[name]
    expected = golden["search"][name]
    joint = DartsSpace(layout, repeat_cell=repeat_cell).build()
    for part in ("feature_extractor", "super_layers", "super_layers_arch", "fc_super", "fc_nas",
                 "distill_aux_head1", "distill_aux_head2"):  # fmt: skip
        if part in expected:
            assert count_parameters(getattr(joint, part)) == expected[part], part
    assert list(layout.search_cells) == expected["cells_per_stage_super"]
    assert list(layout.evaluation_cells) == expected["cells_per_stage_pool"]
    if "total" in expected:
        pool = expected["super_layers_pool"] + expected["super_layers_pool_arch"]
        assert count_parameters(joint) == expected["total"] - pool
        assert [count_parameters(stage) for stage in joint.super_layers] == expected["super_layers_per_stage"]


@pytest.mark.parametrize("name", ["cifar_c16_s3", "imagenet_c16_s1"])
def test_search_network_has_the_published_macs(golden, name):
    layout, _ = SEARCH[name]
    key = f"supernet_forward_macs_with_heads@{layout.image_size}"
    network = SearchNetwork(DartsSpace(layout).build())
    assert count_macs(network, (3, layout.image_size, layout.image_size)) == golden["search"][name][key]


@pytest.mark.parametrize("name", SEARCH)
def test_states_have_the_published_shapes(golden, name):
    layout, repeat_cell = SEARCH[name]
    joint = DartsSpace(layout, repeat_cell=repeat_cell).build().eval()
    with torch.no_grad():
        state = joint.feature_extractor(torch.zeros(1, 3, layout.image_size, layout.image_size))
        shapes = [[list(s.shape) for s in state]]
        for cells, mixture in zip(joint.super_layers, joint.super_layers_arch.mixtures(), strict=True):
            for cell in cells:
                state = cell(state, mixture)
            shapes.append([list(s.shape) for s in state])
    assert shapes == golden["search"][name]["s0_s1_after_stem_and_each_stage"]
    assert [tuple(s[1][1:3]) for s in shapes[1:]] == [layout.stage_output(i) for i in range(layout.layer_num)]


@pytest.mark.parametrize("name", ["cifar_c16_s3", "imagenet_c16_s1"])
def test_kd_input_has_the_published_shape(golden, name):
    layout, _ = SEARCH[name]
    joint = DartsSpace(layout).build().eval()
    with torch.no_grad():
        output = joint(torch.zeros(1, 3, layout.image_size, layout.image_size), evaluation=False).search
    expected = golden["search"][name]["output_shapes_batch1 (logits, em_output concat)"]
    assert [list(output.logits.shape), list(output.kd_input.shape)] == expected


@pytest.mark.parametrize("model_type", RETRAIN)
def test_retrain_networks_have_the_published_size(golden, model_type):
    layout = RETRAIN[model_type]
    for cell_file, expected in golden["retrain"][model_type].items():
        network = RetrainNetwork(layout, load_architecture(CELLS / cell_file, 3), auxiliary=True)
        assert count_parameters(network) == expected["params_with_aux"], cell_file
        assert count_parameters(network.aux_head) == expected["aux_head"], cell_file
        assert count_parameters(network) - count_parameters(network.aux_head) == expected["params_no_aux"], cell_file
        assert len(network.state_dict()) == expected["state_dict_keys"], cell_file
        assert count_macs(network, (3, layout.image_size, layout.image_size)) == expected["macs_conv_linear"], cell_file
        assert list(layout.evaluation_cells) == expected["cells"]


def test_counting_leaves_the_network_as_it_was():
    network = RetrainNetwork(Layout(init_channels=4), load_architecture(CELLS / "cifar_genotype.json", 3), True)
    keys = list(network.state_dict())
    count_macs(network, (3, 32, 32))
    assert list(network.state_dict()) == keys and network.training


def test_distillation_heads_pool_as_published_and_never_below_2x2():
    published = {16: 6, 8: 6, 14: 6, 7: 5, 28: 14}
    assert {size: distillation_pooling(size) for size in published} == {s: (k, 2) for s, k in published.items()}
    for size in range(2, 200):
        kernel, stride = distillation_pooling(size)
        assert 1 <= kernel <= size and (size - kernel) // stride + 1 >= 2


def test_auxiliary_head_pools_as_published_and_always_to_2x2():
    assert [auxiliary_pooling(8, 3), auxiliary_pooling(7, 2), auxiliary_pooling(14, 2)] == [(5, 3), (5, 2), (12, 2)]
    for size in range(2, 200):
        for published_stride in (2, 3):
            kernel, stride = auxiliary_pooling(size, published_stride)
            assert 1 <= kernel <= size and (size - kernel) // stride + 1 == 2


@pytest.mark.parametrize(
    "layout",
    [
        Layout(init_channels=4, image_size=16),
        Layout(init_channels=4, image_size=12),
        Layout(init_channels=4, image_size=64, layer_num=4),
        Layout("imagenet", 4, 1, image_size=64),
        Layout("imagenet", 4, 1, image_size=96),
        Layout("imagenet", 4, 1, layer_num=4, image_size=64, res_stem=True),
        Layout("imagenet", 4, 3, layer_num=3, image_size=32, res_stem=True),
        Layout("imagenet", 4, 1, layer_num=5, image_size=256, res_stem=True),
    ],
    ids=str,
)
def test_every_allowed_layout_gives_working_networks(layout):
    space = DartsSpace(layout)
    joint = space.build()
    architecture = [random_genotype(torch.Generator().manual_seed(s)) for s in range(layout.layer_num)]
    space.set_evaluation(joint, architecture)
    x = torch.randn(2, 3, layout.image_size, layout.image_size)
    for output in joint(x):
        assert output.logits.shape == (2, 10) and output.kd_input.shape == (6, 10)
    logits, auxiliary = RetrainNetwork(layout, architecture, auxiliary=True)(x)
    assert logits.shape == auxiliary.shape == (2, 10)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"image_size": 30}, "multiple of 4"),
        ({"image_size": 8}, "at least 12"),
        ({"model_type": "imagenet", "image_size": 100}, "multiple of 32"),
        ({"layer_num": 2}, "layer_num"),
        ({"init_channels": 5}, "even"),
        ({"res_stem": True}, "imagenet"),
        ({"model_type": "mnist"}, "mnist"),
    ],
)
def test_impossible_layouts_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        Layout(**options)


def test_the_pool_at_full_depth_has_the_published_size(golden):
    """The published pool is a supernet of the evaluation network's depth."""
    from CyDAS.models.cells.supernet import SearchCell

    layout = Layout()
    cells = [SearchCell(shape, affine=False) for stage in layout.shapes(layout.evaluation_cells) for shape in stage]
    assert sum(map(count_parameters, cells)) == golden["search"]["cifar_c16_s3"]["super_layers_pool"]


def test_stems_are_affine_and_search_cells_are_not():
    layout = Layout("imagenet", 4, 1, image_size=64)
    assert all(m.affine for m in make_stem(layout).modules() if isinstance(m, nn.BatchNorm2d))
    assert not any(m.affine for m in make_search_stages(layout, False).modules() if isinstance(m, nn.BatchNorm2d))
