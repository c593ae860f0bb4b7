"""Detection: what is measured, what is learned from, and the program from a user's files to pictures."""

import json
import os
import re
import signal

import numpy as np
import pytest
import torch
from coco_files import COLOURS, SCENES, flags_of, write_part
from conftest import ROOT
from PIL import Image
from spies import CPU, ONE
from test_reliability import same
from torch import nn
from two_ranks import CONTEXT, run_ranks

from CyDAS.config import DetectConfig
from CyDAS.data.scenes import load_scenes
from CyDAS.detect import main as detect
from CyDAS.engine.optim import Precision, learn
from CyDAS.models.backbone import Backbone
from CyDAS.models.detection.postprocess import Detections
from CyDAS.models.detection.retinanet import DetectorOutput, RetinaNet
from CyDAS.runs.checkpoint import load_checkpoint, save_checkpoint
from CyDAS.tasks.average_precision import average_precision
from CyDAS.tasks.detection import Detection, Precisions, as_entries
from CyDAS.utils.distributed import is_same_everywhere
from CyDAS.utils.errors import CydasError, Stopped

COCO_MINI = ROOT.parent / "shared/data/coco_mini"


# -- average precision -------------------------------------------------------------------------------------------------


def random_truth(generator, images=12, classes=5):
    """Boxes of all sizes, some crowds, some beyond the image, and an image without any."""
    truth = []
    for number in range(1, images + 1):
        objects = []
        for _ in range(0 if number == 4 else 6):
            x, y, w, h = (torch.rand(4, generator=generator) * torch.tensor([300, 200, 250, 150]) + 1).tolist()
            label = int(torch.randint(classes, (), generator=generator))
            crowd = float(torch.rand((), generator=generator)) < 0.1
            objects.append(((x - 20, y, x - 20 + w, y + h), label, w * h, crowd))
        truth.append({"id": number, "objects": objects})
    return truth


def written_as_found(truth, score=1.0):
    return [
        {"image_id": image["id"], "category_id": label, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for image in truth
        for (x1, y1, x2, y2), label, _, crowd in image["objects"]
        if not crowd
    ]


def test_the_truth_written_as_found_is_perfect():
    truth = random_truth(torch.Generator().manual_seed(0))
    everything, of_classes = average_precision(truth, written_as_found(truth), 6)
    assert everything == [pytest.approx(100.0)] * 6
    assert of_classes == [pytest.approx(100.0)] * 5 + [-1.0]  # of the last class there is nothing


def test_nothing_found_and_nothing_there():
    truth = random_truth(torch.Generator().manual_seed(0))
    everything, of_classes = average_precision(truth, [], 5)
    assert everything == [0.0] * 6 and of_classes == [0.0] * 5
    assert average_precision([{"id": 1, "objects": []}], [], 2) == ([-1.0] * 6, [-1.0] * 2)
    assert average_precision([{"id": 1, "objects": []}], written_as_found(truth[:1]), 5)[0] == [-1.0] * 6


@pytest.mark.parametrize("seed", [1, 2])
def test_average_precision_is_that_of_pycocotools(seed, capfd):
    reference = pytest.importorskip("pycocotools.cocoeval")
    coco = pytest.importorskip("pycocotools.coco")
    generator = torch.Generator().manual_seed(seed)
    truth = random_truth(generator)
    found = []
    for entry in written_as_found(truth) * 3:  # moved, mislabelled, missed
        if torch.rand((), generator=generator) < 0.8:
            shift = torch.randn(4, generator=generator) * torch.tensor(entry["bbox"]).clamp(min=1) * 0.1
            box = (torch.tensor(entry["bbox"]) + shift).clamp(min=0.5).tolist()
            label = entry["category_id"] if torch.rand((), generator=generator) < 0.9 else 0
            score = float(torch.rand((), generator=generator))
            found.append(entry | {"bbox": box, "category_id": label, "score": score})
    there = coco.COCO()
    there.dataset = {
        "images": [{"id": image["id"]} for image in truth], "categories": [{"id": label} for label in range(5)],
        "annotations": [],
    }  # fmt: skip
    for image in truth:
        for (x1, y1, x2, y2), label, area, crowd in image["objects"]:
            there.dataset["annotations"].append({
                "id": len(there.dataset["annotations"]) + 1, "image_id": image["id"], "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": int(crowd),
            })  # fmt: skip
    there.createIndex()
    evaluation = reference.COCOeval(there, there.loadRes([dict(entry) for entry in found]), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    everything, _ = average_precision(truth, found, 5)
    assert everything == pytest.approx((100 * evaluation.stats[:6]).tolist(), abs=1e-9)
    assert 5 < everything[0] < 95


def test_results_in_words():
    result = Precisions(35.2, 55.5, 37.5, -1.0, 38.7, 47.5, 48, {"cat": 10.0, "elephant": 71.25, "dog": -1.0})
    assert result.words() == "AP 35.20, AP50 55.50, AP75 37.50, APs -1.00, APm 38.70, APl 47.50"
    assert result.table() == ["elephant  AP  71.25", "cat       AP  10.00", "dog       AP      -"]
    assert result.is_better_than(Precisions(35.1)) and Precisions(*list(result)) == result


# -- the task ----------------------------------------------------------------------------------------------------------


def output_of(boxes, label, size=64, classes=3, score=4.0):
    """What a network says that finds ``boxes``, one at an anchor each, and nothing else."""
    n = len(boxes)
    logits = torch.full((1, n, classes), -9.0)
    logits[0, :, label] = score
    return DetectorOutput(logits, torch.zeros(1, n, 4), [torch.tensor(boxes).reshape(-1, 4)], [(1, 1)])


def target(boxes, label=1, number=1, size=(64, 64), original=(64, 64)):
    objects = [(tuple(box), label, (box[2] - box[0]) * (box[3] - box[1]), False) for box in boxes]
    return {"id": number, "objects": objects, "size": size, "original": original}


def test_what_is_found_is_measured_in_the_pixels_of_the_stored_image():
    metrics = Detection(["a", "b", "c"]).metrics(CPU)
    stored = [[20.0, 20.0, 60.0, 100.0]]
    metrics.add(output_of([[10.0, 10.0, 30.0, 50.0]], 1), [target(stored, size=(64, 64), original=(128, 128))])
    result = metrics.result()
    assert result.ap == pytest.approx(100) and result.images == 1
    assert result.of_classes == {"a": -1.0, "b": pytest.approx(100.0), "c": -1.0}
    # no curve is drawn of sizes of which there is nothing
    assert [*result.scalars()] == ["test/ap", "test/ap50", "test/ap75", "test/ap_medium"]


def test_answers_that_are_not_finite_and_tests_without_images_are_errors():
    metrics = Detection(["a", "b", "c"]).metrics(CPU)
    with pytest.raises(CydasError, match="there is no test image that can be read"):
        metrics.result()
    metrics.add(output_of([[1.0, 1.0, 9.0, 9.0]], 1, score=float("nan")), [target([[1.0, 1.0, 9.0, 9.0]])])
    with pytest.raises(CydasError, match="answers to 1 of 1 test images are not finite"):
        metrics.result()


def test_coco_boxes_have_width_and_height():
    found = Detections(torch.tensor([[1.0, 2.0, 4.0, 8.0]]), torch.tensor([0.5]), torch.tensor([2]))
    assert as_entries(found, 7) == [{"image_id": 7, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]


def half_of_a_test(process):
    metrics = Detection(["a", "b", "c"]).metrics(CPU)
    boxes = [[10.0, 10.0, 30.0, 50.0]]
    if process.rank:  # finds its object; the other one looks elsewhere
        metrics.add(output_of(boxes, 1), [target(boxes, number=2)])
    else:
        metrics.add(output_of([[40.0, 40.0, 60.0, 60.0]], 1), [target(boxes, number=1)])
    return metrics.result()


def test_the_measure_is_of_all_processes():
    results = run_ranks(half_of_a_test)
    assert results[0] == results[1] and results[0].images == 2 and 25 < results[0].ap < 75


class Small(Backbone):
    """A backbone with batch norms."""

    channels = (4, 4, 4, 4)

    def __init__(self):
        super().__init__()
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3 if not i else 4, 4, 3, 4 if not i else 2, 1), nn.BatchNorm2d(4), nn.ReLU())
            for i in range(4)
        )

    def features(self, x):
        features = []
        for step in self.steps:
            x = step(x)
            features.append(x)
        return features


def make_detector():
    """In float64, its batch norms with running statistics that no batch moves."""
    torch.manual_seed(0)
    network = RetinaNet(Small(), 3, width=8).double().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def make_batch(count=4):
    """Images with 0 to 3 boxes: image 2 has none."""
    generator = torch.Generator().manual_seed(1)
    images, targets = torch.randn(count, 3, 64, 64, generator=generator, dtype=torch.float64), []
    for boxes in (3, 1, 0, 2)[:count]:
        corner = torch.rand(boxes, 2, generator=generator) * 30
        boxes = torch.cat([corner, corner + 8 + torch.rand(boxes, 2, generator=generator) * 20], dim=1)
        targets.append({"boxes": boxes, "labels": torch.arange(len(boxes)), "padded": (64, 64)})
    return images, targets


def take_step(network, batch, accum_steps=1):
    task, optimiser = Detection("abc"), torch.optim.SGD(network.parameters(), lr=0.1)

    def loss_of(part):
        output = network(part[0])
        return task.loss(output, part[1]), task.figures(output, part[1])

    return learn(loss_of, batch, accum_steps, [optimiser], 35.0, Precision(CPU, False, "bf16").scaler)


def half_of_a_step(process, indices):
    network, (images, targets) = make_detector(), make_batch()
    own = indices[process.rank]
    _, norm = take_step(network, (images[own], [targets[index] for index in own]))
    parameters = torch.cat([p.detach().flatten() for p in network.parameters()])
    return is_same_everywhere(parameters), norm.item(), parameters.tolist()


@pytest.mark.parametrize("indices", [([0, 1], [2, 3]), ([0, 2], [1, 3]), ([2], [0, 1, 3])])
def test_two_processes_make_the_update_of_one(indices):
    """Also where one of them has no box at all, or fewer images: positives are counted over all processes."""
    answers = run_ranks(half_of_a_step, indices)
    network = make_detector()
    before = torch.cat([p.detach().flatten() for p in network.parameters()])
    _, norm = take_step(network, make_batch())
    parameters = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert (parameters - before).abs().max() > 1e-4
    for alike, own_norm, own in answers:
        assert alike and own_norm == pytest.approx(norm.item(), rel=1e-9)
        torch.testing.assert_close(torch.tensor(own, dtype=torch.float64), parameters, rtol=1e-9, atol=1e-12)


def test_a_batch_of_dicts_goes_through_in_parts():
    figures, _ = take_step(make_detector(), make_batch(), accum_steps=2)
    images, targets = make_batch()
    parts = [take_step(make_detector(), (images[own], targets[own]))[0] for own in (slice(0, 2), slice(2, 4))]
    for name in ("train/class_loss", "train/box_loss"):
        assert figures[name].item() == pytest.approx(sum(part[name].item() for part in parts) / 2)


def test_images_without_boxes_alone_teach_that_there_is_nothing():
    network, (images, targets) = make_detector(), make_batch()
    figures, norm = take_step(network, (images[2:3].repeat(2, 1, 1, 1), [targets[2]] * 2))
    assert figures["train/box_loss"] == 0 and figures["train/class_loss"] > 0 and norm.isfinite() and norm > 0


def test_losses_are_worked_out_in_full_precision():
    network = make_detector().float()
    images, targets = make_batch()
    output = network(images.float())
    half = output._replace(class_logits=output.class_logits.bfloat16(), deltas=output.deltas.bfloat16())
    exact, rough = (Detection("abc").loss(answer, targets) for answer in (output, half))
    assert rough.dtype == torch.float32 and rough.item() == pytest.approx(exact.item(), rel=0.02)


def test_images_with_channels_last_have_the_same_answers():
    network, (images, _) = make_detector(), make_batch()
    plain = network(images)
    other = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(other.class_logits, plain.class_logits)
    torch.testing.assert_close(other.deltas, plain.deltas)


def test_narrow_heads_begin_with_signals_as_strong_as_published_ones():
    torch.manual_seed(0)
    wide, narrow = (RetinaNet(Small(), 3, width=width).head.classification_head for width in (256, 16))
    assert wide.conv[0][0].weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert narrow.conv[0][0].weight.std().item() == pytest.approx(0.04, rel=0.1)
    assert torch.equal(narrow.cls_logits.bias, wide.cls_logits.bias)
    after = [head.conv(torch.rand(1, width, 16, 16)).std() for head, width in ((wide, 256), (narrow, 16))]
    assert 0.25 < (after[1] / after[0]).item() < 4


# -- the program -------------------------------------------------------------------------------------------------------

TINY = (
    "--device cpu --threads 1 --workers 0 --backbone cream_14 --width 8 --short_side 64 --long_side 96 "
    "--epochs 2 --warmup_steps 2 --lr 0.01 --print_freq 1 --name run --pictures 1 --show_score 0"
).split()


def run(folder, *flags):
    detect([*TINY, "--output_dir", str(folder / "runs"), *flags_of(folder), *flags])
    return folder / "runs/detect/run"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data set whose test part has fewer images, and a run on it that nobody has disturbed."""
    folder = tmp_path_factory.mktemp("detection")
    write_part(folder, "train")
    write_part(folder, "test", SCENES[:2])
    run(folder)
    return folder


def copy_of(data, folder):
    for name in ("train", "test", "train.json", "test.json"):
        (folder / name).symlink_to(data / name)
    return folder


def test_a_run_leaves_what_people_look_at(data):
    folder = data / "runs/detect/run"
    log = (folder / "detect.log").read_text()
    result = json.loads((folder / "result.json").read_text())
    assert "6 train images with 7 boxes of 2 of 2 classes" in log and "backbone cream_14: random weights" in log
    assert "epoch 2/2: test AP" in log and "train loss" in log and "last epoch: red" in log
    assert set(result["last"]["of_classes"]) == {"red", "green"} and result["parameters"] > 900_000
    for epoch in (1, 2):
        picture = Image.open(folder / f"pictures/1_epoch_{epoch:03d}.png")
        assert picture.size == (128, 48)  # truth and detections side by side
    left = np.asarray(picture)[:, :64]
    assert (np.abs(left[20, 8].astype(int) - COLOURS[3]).sum()) > 60  # the box's border, not the red rectangle
    assert list((folder / "tensorboard").iterdir())
    saved = load_checkpoint(folder / "last.pth.tar")
    assert saved["data"]["category_ids"] == [3, 7] and saved["backbone"]["model"] == "cream_14"


def test_a_test_needs_the_checkpoint_alone(data, capsys):
    detect(["--output_dir", str(data / "runs"), "--name", "run", "--eval_only", "--device", "cpu"])
    out = capsys.readouterr().out
    result = json.loads((data / "runs/detect/run/result.json").read_text())
    assert f"{Precisions(*result['last'].values()).words('  ')}  on 2 test images" in out
    assert "2 test images with 3 boxes of 2 of 2 classes" in out and "red" in out
    with pytest.raises(CydasError, match="--width is 8 there, 16 was given"):
        detect(["--output_dir", str(data / "runs"), "--name", "run", "--eval_only", "--width", "16"])


def test_objects_are_found_in_a_users_own_images(data, tmp_path, capsys):
    own = tmp_path / "mine"
    own.mkdir()
    Image.new("L", (300, 20), 90).save(own / "a.png")
    Image.new("RGB", (1, 1)).save(own / "b.jpg")
    flags = [
        *("--output_dir", str(data / "runs"), "--name", "run", "--device", "cpu"),
        "--predict_dir",
        str(tmp_path / "out"),
    ]
    detect([*flags, "--show_score", "0.001", "--predict", str(own), str(data / "test/1.png")])
    entries = json.loads((tmp_path / "out/detections.json").read_text())
    assert [(entry["width"], entry["height"]) for entry in entries] == [(300, 20), (1, 1), (64, 48)]
    assert capsys.readouterr().out.endswith(f"written: {tmp_path / 'out'}\n")
    for entry in entries:
        for box in entry["detections"]:
            x, y, width, height = box["bbox"]
            assert 0 <= x and x + width <= entry["width"] + 1e-4 and 0 <= y and y + height <= entry["height"] + 1e-4
            assert {3: "red", 7: "green"}[box["category_id"]] == box["category"] and 0 <= box["score"] <= 1
    assert Image.open(tmp_path / "out/a_boxes.png").size == (300, 20)
    (own / "c.png").write_bytes(b"no image")
    with pytest.raises(CydasError, match=r"1 file\(s\) cannot be read: cannot read the image .*c.png"):
        detect([*flags, "--predict", str(own)])
    assert len(json.loads((tmp_path / "out/detections.json").read_text())) == 2
    with pytest.raises(CydasError, match="there is no .*gone"):
        detect([*flags, "--predict", str(tmp_path / "gone")])


def _predict(rank, flags):
    detect(flags)


def test_two_processes_predict_what_one_does(data, tmp_path):
    about = ["--output_dir", str(data / "runs"), "--name", "run", "--device", "cpu", "--threads", "1"]
    flags = [*about, "--show_score", "0", "--predict", str(data / "test")]
    detect([*flags, "--predict_dir", str(tmp_path / "one")])
    results = run_ranks(_predict, [*flags, "--predict_dir", str(tmp_path / "two")], join=False)
    assert [error for error, _ in results] == [None, None]
    one, two = (sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("one", "two"))
    assert one == two and len(one) == 3
    assert (tmp_path / "one/detections.json").read_text() == (tmp_path / "two/detections.json").read_text()


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_that_is_stopped_goes_on_to_the_last_bit(data, tmp_path, monkeypatch, step):
    own_loss, calls = Detection.loss, []

    def loss(self, output, targets):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return own_loss(self, output, targets)

    copy_of(data, tmp_path)
    monkeypatch.setattr(Detection, "loss", loss)
    with pytest.raises(Stopped, match="saved in"):
        run(tmp_path)
    monkeypatch.setattr(Detection, "loss", own_loss)
    ends_as_undisturbed(run(tmp_path, "--resume"), data)


@pytest.mark.parametrize("step", [2, 3])
def test_a_run_that_is_killed_goes_on_to_the_last_bit(data, tmp_path, monkeypatch, step):
    """By SIGKILL, within an epoch and in the first step of the next one; there is a checkpoint of every step."""
    own_loss, calls = Detection.loss, []

    def loss(self, output, targets):
        calls.append(1)
        if len(calls) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return own_loss(self, output, targets)

    copy_of(data, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Detection, "loss", loss)
        child = CONTEXT.Process(target=run, args=(tmp_path, "--checkpoint_minutes", "0.000001"))
        child.start()
        child.join(120)
    assert child.exitcode == -signal.SIGKILL
    ends_as_undisturbed(run(tmp_path, "--resume"), data)


def ends_as_undisturbed(folder, data):
    for name in ("last.pth.tar", "best.pth.tar", "detect_resume.pth.tar"):
        whole, continued = load_checkpoint(data / "runs/detect/run" / name), load_checkpoint(folder / name)
        for key in ("model_main", "optimizer", "processes", "last", "best"):
            assert same(whole.get(key), continued.get(key)), (name, key)


def test_a_training_goes_on_for_more_epochs_with_later_falls_of_its_rate(data, tmp_path):
    copy_of(data, tmp_path)
    run(tmp_path, "--epochs", "1", "--lr_epochs", "5")
    folder = run(tmp_path, "--epochs", "2", "--lr_epochs", "1", "--resume")
    log = (folder / "detect.log").read_text()
    rates = [float(rate) for rate in re.findall(r", lr ([\d.e-]+)$", log, re.MULTILINE)]
    assert len(rates) == 2 and rates[1] == pytest.approx(rates[0] / 10)


def test_a_run_does_not_go_on_with_other_boxes(data, tmp_path):
    copy_of(data, tmp_path)
    run(tmp_path, "--epochs", "1", "--lr_epochs", "1")
    (tmp_path / "train.json").unlink()
    write_part(tmp_path / "other", "train", change=lambda content: content["annotations"][0].update(bbox=[1, 1, 9, 9]))
    (tmp_path / "other/train.json").rename(tmp_path / "train.json")
    with pytest.raises(CydasError, match="as many train images, but others"):
        run(tmp_path, "--epochs", "1", "--lr_epochs", "1", "--resume")


def test_a_published_state_dict_is_tested_as_it_is(data, tmp_path, capsys):
    """Under the published names, with the classifier's unused weights; its classes are those of the test file."""
    weights = {}
    for name, value in load_checkpoint(data / "runs/detect/run/last.pth.tar")["model_main"].items():
        for ours, published in (
            ("fpn.inner_blocks.", "neck.lateral_convs."), ("fpn.layer_blocks.", "neck.fpn_convs."),
            ("fpn.extra_blocks.p6", "neck.fpn_convs.3.conv"), ("fpn.extra_blocks.p7", "neck.fpn_convs.4.conv"),
            ("head.classification_head.conv.", "bbox_head.cls_convs."),
            ("head.regression_head.conv.", "bbox_head.reg_convs."),
            ("head.classification_head.cls_logits", "bbox_head.retina_cls"),
            ("head.regression_head.bbox_reg", "bbox_head.retina_reg"),
        ):  # fmt: skip
            name = name.replace(ours, published)
        if name.startswith(("neck", "bbox_head")):
            name = name.replace(".0.weight", ".conv.weight").replace(".0.bias", ".conv.bias")
        weights[name] = value
    weights |= {"backbone.conv_head.weight": torch.zeros(8, 320, 1, 1), "backbone.classifier.bias": torch.zeros(1000)}
    assert {name.split(".")[0] for name in weights} == {"backbone", "neck", "bbox_head"}
    save_checkpoint(tmp_path / "published.pth.tar", {"state_dict": weights})
    flags = [*TINY[:12], "--resume_name", str(tmp_path / "published.pth.tar"), "--eval_only", *flags_of(data)[4:]]
    detect(flags)
    result = json.loads((data / "runs/detect/run/result.json").read_text())
    assert Precisions(*result["last"].values()).words("  ") in capsys.readouterr().out


def test_a_checkpoint_of_something_else_is_no_detector(tmp_path):
    save_checkpoint(tmp_path / "x.pth.tar", {"state_dict": {"a.b": torch.zeros(1)}})
    with pytest.raises(CydasError, match="x.pth.tar holds no detector"):
        detect(["--resume_name", str(tmp_path / "x.pth.tar"), "--eval_only", "--device", "cpu"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--eval_only --predict x", "leave out one of the two"),
        ("--short_side 900 --long_side 800", "--short_side 900 must be at most --long_side 800"),
        ("--batch_size 1", "batch norm needs two images"),
        ("--lr_epochs -1", "--lr_epochs must be at least 0"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(flags, message):
    with pytest.raises(CydasError, match=message):
        detect(flags.split())


def test_a_dry_run_in_the_published_way_says_what_it_needs(data, capsys):
    run(data, "--dry_run", "--name", "dry", "--use_amp", "--accum_steps", "2")
    out = capsys.readouterr().out
    assert "training step" in out and "the whole run" in out and not (data / "runs/detect/dry").exists()


@pytest.mark.skipif(not COCO_MINI.exists(), reason=f"there are no images at {COCO_MINI}")
def test_real_images_are_read():
    data = load_scenes(DetectConfig(data_dir=COCO_MINI, workers=0, short_side=64, long_side=96, lr_epochs=[]), ONE)
    assert (data.train_size, len(data.test_scenes), len(data.classes)) == (96, 48, 80)
    truth = [{"id": scene.id, "objects": scene.objects} for scene in data.test_scenes]
    assert average_precision(truth, written_as_found(truth), 80)[0] == [pytest.approx(100.0)] * 6
