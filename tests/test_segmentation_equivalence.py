"""Decoder, segmenter, loss and learning rates against every entry of the fixture file of a trusted implementation."""

import pytest
import torch
from conftest import reference_counts
from test_equivalence import CHAIN_ENTRIES, CHAIN_FIXTURES, assert_near, double, entries

from CyDAS.engine.optim import poly_lr
from CyDAS.models.chain.architecture import parse_architecture
from CyDAS.models.segmentation.decoder import Decoder
from CyDAS.models.segmentation.layers import resize
from CyDAS.models.segmentation.segmenter import SegmentationOutput, Segmenter
from CyDAS.spaces.backbones import make_backbone, open_backbone
from CyDAS.tasks.segmentation import VOID, Segmentation, ohem_cross_entropy
from CyDAS.utils.profile import count_macs, count_parameters


def of(*kinds):
    return entries(*kinds, of=CHAIN_ENTRIES, where=f"{CHAIN_FIXTURES} (set CYDAS_CHAIN_FIXTURES)")


def sampled(logits):
    return logits[..., ::5, ::7]


def with_own_void(targets, void):
    return targets.long().where(targets != void, VOID)


def make_task(config):
    return Segmentation(config["num_classes"], config["aux_weight"], config["ohem_thresh"])


def assert_training(entry, network, output):
    """The three losses and their sum, gradients, and the running statistics after one pass."""
    config, targets = entry["config"], with_own_void(entry["target"], entry["config"]["ignore"])
    task = make_task(config)
    assert entry["min_kept"] == targets.numel() // task.kept_share
    logits = (output.logits, *output.auxiliary)
    for part, expected, samples in zip(logits, entry["loss_parts"], entry["out_train_sampled"], strict=True):
        assert_near(sampled(part), samples, "resized logits")
        loss = ohem_cross_entropy(part, targets, entry["min_kept"], config["ohem_thresh"])
        assert_near(loss, expected, "loss of a head")
    loss = task.loss(output, targets)
    assert_near(loss, entry["loss"], "loss")
    loss.backward()
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    assert set(entry["grad_norm"]) <= set(parameters)
    for key, expected in entry["grad_norm"].items():
        assert_near(parameters[key].grad.norm(), expected, key, tolerance=1e-7)
    for key, expected in entry["grad"].items():
        assert_near(parameters[key].grad, expected, key, tolerance=1e-7)
    for key, expected in entry.get("bn_after", {}).items():
        assert_near(buffers[key], expected, key)


@of("decoder")
def test_decoder(name):
    entry = double(CHAIN_ENTRIES[name])
    config, features = entry["config"], [feature.requires_grad_() for feature in entry["features"]]
    size = tuple(config["image"])
    decoder = Decoder([feature.shape[1] for feature in features], config["num_classes"], config["Fch"]).double()
    for module in decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum, module.eps = config["bn_momentum"], config["bn_eps"]
    decoder.load_state_dict(entry["state_dict"])
    logits = decoder.eval().decode(features)
    assert_near(logits, entry["out_eval_stride4"], "stride 4")
    assert_near(sampled(resize(logits, size)), entry["out_eval_sampled"], "resized")
    assert torch.equal(resize(logits, size).argmax(dim=1).byte(), entry["out_eval_argmax"].byte())
    logits = [decoder.train().decode(features), *decoder.auxiliary(features)]
    for part, key in zip(logits, ("main_stride4", "aux16", "aux32"), strict=True):
        assert_near(part, entry[f"out_train_{key}"], key)
    main, *auxiliary = (resize(part, size) for part in logits)
    assert_training(entry, decoder, SegmentationOutput(main, tuple(auxiliary)))
    for feature, expected in zip(features, entry["grad_feature_norms"], strict=True):
        assert_near(feature.grad.norm(), expected, "gradient of a feature", tolerance=1e-7)


@of("segmenter")
def test_segmenter(name):
    entry = double(CHAIN_ENTRIES[name])
    config = entry["config"]
    backbone = make_backbone(
        "chain", parse_architecture(config.get("resolved", config["arch"])), c_last=config["c_last"]
    )
    segmenter = Segmenter(backbone, config["num_classes"], config["Fch"], config["bn_momentum"]).double()
    segmenter.load_state_dict(entry["state_dict"])
    logits = segmenter.eval()(entry["x"]).logits
    assert_near(sampled(logits), entry["out_eval_sampled"], "eval")
    assert torch.equal(logits.argmax(dim=1).byte(), entry["out_eval_argmax"].byte())
    assert_training(entry, segmenter, segmenter.train()(entry["x"]))


@of("ohem")
def test_hard_example_loss(name):
    entry = double(CHAIN_ENTRIES[name])
    logits, targets = entry["logits"].requires_grad_(), with_own_void(entry["target"], entry["ignore"])
    loss = ohem_cross_entropy(logits, targets, entry["min_kept"], entry["thresh"])
    loss.backward()
    assert_near(loss, entry["loss"], "loss")
    assert_near(logits.grad, entry["grad"], "gradient")
    assert int((logits.grad.abs().sum(dim=1) > 0).sum()) == entry["kept_pixels"]


@of("lr")
def test_learning_rates(name):
    entry = CHAIN_ENTRIES[name]
    if "warmup_start_lr" not in entry:
        pytest.skip("the entry is not of a segmenter's schedule")
    options = entry["max_iteration"], entry["warmup_iters"], entry["warmup_start_lr"], entry["power"]
    rates = [poly_lr(entry["base_lr"], step, *options) for step in entry["iteration"]]
    assert rates == pytest.approx(entry["lr"], rel=1e-12)


@pytest.fixture(scope="module")
def transfer_golden():
    return reference_counts("transfer_golden.json")["segmentation"]


@pytest.mark.parametrize(
    ("key", "backbone", "n_classes", "width", "size"),
    [
        ("cityscapes_F6_1024x2048, 21 blocks (published count)", "cdarts_b", 19, 6, (1024, 2048)),
        ("cityscapes_F6_1024x2048, 22 blocks (the file as it is)", "cdarts_b_22blocks", 19, 6, (1024, 2048)),
        ("ade20k_F16_640x640, 21 blocks (published count)", "cdarts_b", 150, 16, (640, 640)),
        ("ade20k_F16_640x640, 22 blocks (the file as it is)", "cdarts_b_22blocks", 150, 16, (640, 640)),
    ],
)
def test_published_counts(key, backbone, n_classes, width, size, transfer_golden):
    expected = transfer_golden[key]
    parts = expected["of_it"]
    segmenter = Segmenter(open_backbone(backbone, c_last=320)[0], n_classes, width)
    everything, at_work = segmenter.count_parameters()
    assert everything == expected["params_total_as_built"] - parts["unused_imagenet_head"]
    assert at_work == expected["params_inference"]
    assert count_parameters(segmenter.backbone) == parts["backbone_without_imagenet_head"]
    assert everything - at_work == parts["auxiliary_heads"]
    assert count_macs(segmenter, (3, *size)) == expected["macs"]
    assert count_macs(segmenter.backbone, (3, *size)) == expected["macs_backbone"]
