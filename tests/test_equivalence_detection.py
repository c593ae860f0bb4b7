"""Every entry of the detection fixture file of a trusted implementation, by its kind, in float64.

The file is named by the environment variable CYDAS_DETECTION_FIXTURES. Its boxes end at their last pixel, ours just
behind it: ``exclusive`` and ``inclusive`` go from one to the other, and nothing else differs. A kind of entry that no
test here knows is a failure.
"""

import pytest
import torch
from conftest import DETECTION_FIXTURES, reference_counts
from test_equivalence import assert_close, double, entries

from CyDAS.engine.schedules import step_decay
from CyDAS.models.backbone import Backbone
from CyDAS.models.detection.anchors import STRIDES, LevelAnchors
from CyDAS.models.detection.assignment import IGNORED, BestForEachBox, assign
from CyDAS.models.detection.boxes import BoxCoder, clip_boxes
from CyDAS.models.detection.loss import box_loss, focal_loss, loss_sums, one_hot
from CyDAS.models.detection.postprocess import Detections, candidates, suppress
from CyDAS.models.detection.published import renamed
from CyDAS.models.detection.pyramid import Pyramid
from CyDAS.models.detection.retinanet import DetectorOutput, RetinaNet
from CyDAS.spaces.backbones import open_backbone
from CyDAS.utils.profile import count_macs, count_parameters

ENTRIES = torch.load(DETECTION_FIXTURES, weights_only=True) if DETECTION_FIXTURES.exists() else {}
WHERE = f"{DETECTION_FIXTURES} (set CYDAS_DETECTION_FIXTURES)"


def of_kind(*kinds):
    return entries(*kinds, of=ENTRIES, where=WHERE)


def exclusive(boxes):
    return boxes + boxes.new_tensor([0, 0, 1, 1])


def inclusive(boxes):
    return boxes - boxes.new_tensor([0, 0, 1, 1])


def anchors_of(grids, strides=STRIDES):
    generator = LevelAnchors(strides)
    levels = generator([torch.zeros(1, 1, *grid, dtype=torch.float64) for grid in grids])
    return generator, levels


def test_every_kind_of_entry_is_known():
    known = {"anchors", "valid_flags", "assign", "targets", "coder", "focal", "smooth_l1", "fpn", "head", "post", "nms",
             "lr"}  # fmt: skip
    assert {name.split("/")[0] for name in ENTRIES} <= known


@of_kind("anchors")
def test_anchors(name):
    entry = double(ENTRIES[name])
    generator, levels = anchors_of(entry["feature_sizes"], entry["strides"])
    for level, anchors in enumerate(levels):
        base = generator.cell_anchors[level] + generator.strides[level] / 2
        assert_close(inclusive(base), entry["base_anchors"][level], "base")
        assert_close(inclusive(anchors), entry["anchors"][level], f"level {level}")


@of_kind("valid_flags")
def test_anchors_beyond_an_images_own_size(name):
    entry = ENTRIES[name]
    for padded, valid in zip(entry["pad_shapes"], entry["valid"], strict=True):
        inside = LevelAnchors().inside(entry["feature_sizes"], padded, torch.device("cpu"))
        assert all(torch.equal(own, reference) for own, reference in zip(inside, valid, strict=True))


@of_kind("assign")
def test_assignment(name):
    entry = ENTRIES[name]  # in float32, as the original: ties are of its rounding
    anchors, boxes = exclusive(entry["anchors"]), exclusive(entry["gt_boxes"])
    assert entry["min_pos_iou"] == 0
    matcher = BestForEachBox(entry["pos_iou"], entry["neg_iou"])
    matches = assign(matcher, anchors, torch.ones(len(anchors), dtype=torch.bool), boxes)
    assigned = torch.where(matches == IGNORED, -1, matches + 1)
    assert torch.equal(assigned, entry["assigned_gt"])
    labels = torch.where(matches >= 0, entry["gt_labels"][matches.clamp(min=0)], 0)
    assert torch.equal(labels, entry["assigned_labels"])


@of_kind("targets")
def test_targets(name):
    entry = ENTRIES[name]
    weights = [torch.cat(values, dim=1) for values in (entry["label_weights"], entry["box_weights"])]
    labels, wanted = torch.cat(entry["labels"], dim=1), torch.cat(entry["box_targets"], dim=1)
    grids = grids_of(entry["labels"], entry["batch"])
    generator, anchors = anchors_of(grids)
    anchors, total = torch.cat(anchors).float(), 0
    for index, padded in enumerate(entry["pad_shapes"]):
        boxes = exclusive(entry["gt_boxes"][index])
        inside = torch.cat(generator.inside(grids, padded, anchors.device))
        matches = assign(BestForEachBox(), anchors, inside, boxes)
        positive = matches >= 0
        own = torch.where(positive, entry["gt_labels"][index][matches.clamp(min=0)], 0)
        assert torch.equal(own, labels[index])
        assert torch.equal((matches != IGNORED).float(), weights[0][index])
        assert torch.equal(positive.float()[:, None].expand(-1, 4), weights[1][index])
        deltas = BoxCoder().encode_single(boxes[matches[positive]], anchors[positive])
        assert_close(deltas, wanted[index][positive], "box targets", 2e-6)
        total += max(1, int(positive.sum()))
    assert total == entry["num_total_positives"]


def grids_of(levels, batch):
    """Heights and widths of the levels of a batch of this size: each half the one before, rounded up."""
    grids = [(-(-batch[0] // stride), -(-batch[1] // stride)) for stride in LevelAnchors().strides]
    assert [9 * h * w for h, w in grids] == [level.shape[1] for level in levels]
    return grids


@of_kind("coder")
def test_coder(name):
    entry = double(ENTRIES[name])
    assert entry["means"] == [0.0] * 4 and entry["stds"] == [1.0] * 4
    anchors, boxes, coder = exclusive(entry["anchors"]), exclusive(entry["gt"]), BoxCoder()
    assert_close(coder.encode_single(boxes, anchors), entry["encoded"], "encoded", 2e-6)
    decoded = coder.decode_single(entry["deltas"], anchors)
    assert_close(inclusive(decoded), entry["decoded"], "decoded")
    clipped = inclusive(clip_boxes(decoded, entry["image_shape"]))
    assert_close(clipped, entry["decoded_clipped"], "clipped")


@of_kind("focal")
def test_focal_loss(name):
    entry = double(ENTRIES[name])
    constants = entry["gamma"], entry["alpha"]
    logits, counts = entry["logits"].requires_grad_(), entry["weights"] > 0
    labels = entry["labels"] - 1
    assert torch.equal(entry["weights"][counts], torch.ones(int(counts.sum()), dtype=torch.float64))
    loss = focal_loss(logits[counts], labels[counts], *constants) / entry["avg_factor"]
    assert_close(loss, entry["loss"], "loss")
    assert_close(torch.autograd.grad(loss, logits)[0], entry["grad"], "gradient")
    each = torch.stack(
        [focal_loss(row[None], label[None], *constants) for row, label in zip(logits, labels, strict=True)]
    )
    assert_close(each, entry["elementwise"].sum(dim=1), "of each anchor")
    assert one_hot(labels, logits).sum() == (labels >= 0).sum()


@of_kind("smooth_l1")
def test_box_loss(name):
    entry = double(ENTRIES[name])
    assert set(entry["weights"].flatten().tolist()) <= {0.0, 1.0}
    deltas = entry["pred"].requires_grad_()
    positive = entry["weights"].bool().all(dim=1)
    loss = box_loss(deltas[positive], entry["target"][positive], entry["beta"]) / entry["avg_factor"]
    assert_close(loss, entry["loss"], "loss")
    assert_close(torch.autograd.grad(loss, deltas)[0], entry["grad"], "gradient")


@of_kind("fpn")
def test_pyramid(name):
    entry = double(ENTRIES[name])
    config = entry["config"]
    pyramid = Pyramid(config["in_channels"][config["start_level"] :], config["out_channels"]).double()
    weights = renamed({f"neck.{key}": value for key, value in entry["state_dict"].items()})
    pyramid.load_state_dict({key.removeprefix("fpn."): value for key, value in weights.items()})
    levels = pyramid.levels(entry["features"][config["start_level"] :])
    for level, (own, reference) in enumerate(zip(levels, entry["out"], strict=True)):
        assert_close(own, reference, f"level {level}")


class Features(Backbone):
    """A backbone whose only business are its channels."""

    channels = (8, 8, 8, 8)


def make_head(entry):
    config = entry["config"]
    assert config["stacked_convs"] == 4
    network = RetinaNet(Features(), config["num_classes"], config["channels"]).double()
    weights = renamed({f"bbox_head.{key}": value for key, value in entry["state_dict"].items()})
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected and all(key.startswith("fpn.") for key in missing)
    return network


@of_kind("head")
def test_head_losses_and_gradients(name):
    entry = double(ENTRIES[name])
    network = make_head(entry)
    output = network.detect(entry["features"])
    for index, (classes, boxes) in enumerate(zip(entry["cls_out"], entry["box_out"], strict=True)):
        start, length = sum(map(len, output.anchors[:index])), len(output.anchors[index])
        for own, reference in ((output.class_logits, classes), (output.deltas, boxes)):
            in_rows = reference.permute(0, 2, 3, 1).reshape(own.shape[0], length, -1)
            assert_close(own[:, start : start + length], in_rows, f"level {index}")
    targets = [
        {"boxes": exclusive(boxes), "labels": labels - 1, "padded": padded}
        for boxes, labels, padded in zip(entry["gt_boxes"], entry["gt_labels"], entry["pad_shapes"], strict=True)
    ]
    sums = loss_sums(output, targets)
    assert_close(sums.classes / sums.positives, sum(entry["loss_cls"]), "of the classes", 1e-6)
    assert_close(sums.boxes / sums.positives, sum(entry["loss_box"]), "of the boxes", 1e-6)
    loss = (sums.classes + sums.boxes) / sums.positives
    assert_close(loss, entry["loss"], "loss", 1e-6)
    loss.backward()
    gradients = {key: p.grad for key, p in network.named_parameters()}
    for key, reference in entry["grad_norm"].items():
        own = gradients[next(iter(renamed({f"bbox_head.{key}": 0})))]
        assert_close(own.norm(), torch.tensor(reference), key, 1e-6)
        if key in entry["grad"]:
            assert_close(own, entry["grad"][key], key, 1e-6)


def rescaled(found, factor):
    """As the original goes back to the image before it was resized: by its inclusive coordinates."""
    return found._replace(boxes=exclusive(inclusive(found.boxes) / factor))


def assert_same_detections(found, boxes, labels):
    """The original sorts by class where there are fewer than 100."""
    assert len(found.labels) == len(labels)
    order = found.scores.argsort(descending=True, stable=True)
    theirs = boxes[:, 4].argsort(descending=True, stable=True)
    assert torch.equal(found.labels[order], labels[theirs])
    assert_close(found.scores[order], boxes[theirs, 4], "scores")
    assert_close(inclusive(found.boxes[order]), boxes[theirs, :4], "boxes")


@of_kind("head")
def test_head_detections(name):
    entry = double(ENTRIES[name])
    with torch.no_grad():
        output = make_head(entry).detect(entry["features"])
    for index, (size, factor) in enumerate(zip(entry["img_shapes"], entry["scale_factors"], strict=True)):
        found = suppress(rescaled(candidates(output, index, size), factor))
        assert_same_detections(found, entry["detections"][index], entry["labels"][index])


@of_kind("post")
def test_postprocessing(name):
    entry = double(ENTRIES[name])
    config = entry["config"]
    _, anchors = anchors_of(entry["feature_sizes"])

    def in_rows(levels, columns):
        return torch.cat([level.permute(0, 2, 3, 1).reshape(len(level), -1, columns) for level in levels], dim=1)

    classes, deltas = in_rows(entry["cls_logits"], entry["num_classes"]), in_rows(entry["box_deltas"], 4)
    output = DetectorOutput(classes, deltas, anchors, entry["feature_sizes"])
    found = candidates(output, 0, entry["image_shape"], config["score_thr"], config["nms_pre"])
    found = suppress(rescaled(found, entry["scale_factor"]), config["nms_iou"], config["max_per_image"])
    assert_same_detections(found, entry["detections"], entry["labels"])


@of_kind("nms")
def test_suppression(name):
    entry = double(ENTRIES[name])
    scores = entry["scores"]
    boxes = Detections(exclusive(entry["boxes"]), scores, torch.zeros(len(scores), dtype=torch.int64))
    kept = suppress(boxes, entry["iou"], len(scores)).scores
    assert torch.equal(kept.sort().values, scores[entry["kept"]].sort().values)


@of_kind("lr")
def test_learning_rates(name):
    entry = ENTRIES[name]
    schedule = step_decay(
        entry["base_lr"], entry["steps"], entry["warmup_iters"], entry["iterations_per_epoch"], entry["warmup_ratio"]
    )
    assert [schedule(step) for step in entry["iteration"]] == pytest.approx(entry["lr"], rel=1e-12)


# -- sizes -------------------------------------------------------------------------------------------------------------

SIZES = {
    "cdarts_a": "a_c960",
    "cdarts_a_drawn": "a_listed_c960",
    "cdarts_b": "b_c960",
    "cdarts_b_22blocks": "b22_c960(orig)",
}
#: Parameters of the head that the published file of 22 blocks builds and does not use: 960 to 1280, 1280 to 1000.
UNUSED = {"cdarts_b_22blocks": 960 * 1280 + 1280 + 1280 * 1000 + 1000}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_detectors(name):
    golden = reference_counts("transfer_golden.json")
    sizes, parts = golden["detection"], golden["detection_parts_800x1280"]
    network = RetinaNet(open_backbone(name)[0], 80)
    for height, width in ((800, 1280), (800, 1344)):
        reference = sizes[f"{SIZES[name]}@{height}x{width}"]
        unused = UNUSED.get(name, 0)
        assert count_parameters(network.backbone) == reference["backbone_params"] - unused
        assert count_parameters(network) == reference["detector_params"] - unused
        assert count_macs(network, (3, height, width)) == reference["detector_macs"]
        assert count_macs(network.backbone, (3, height, width)) == reference["backbone_macs"]
    assert count_parameters(network.fpn) == parts["neck"]["params"]
    assert count_parameters(network.head) == parts["head"]["params"]
