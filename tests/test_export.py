"""Trained networks for other programs: the same answers in ONNX, torch.export, safetensors and timm, or nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from masked_images import SMALL
from test_chain_programs import CHAINS
from test_programs import run_retrain

from CyDAS.config import DetectConfig, SegmentConfig
from CyDAS.export import main as export
from CyDAS.exporting import formats
from CyDAS.exporting.formats import BATCHES, TOLERANCE, difference
from CyDAS.models.chain.architecture import parse_architecture
from CyDAS.models.chain.network import RetrainedChain, chain_network
from CyDAS.models.detection.postprocess import detections
from CyDAS.models.detection.retinanet import RetinaNet
from CyDAS.models.segmentation.segmenter import Segmenter
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import load_checkpoint, save_checkpoint
from CyDAS.spaces.backbones import backbone_recipe, build_backbone
from CyDAS.trained import open_trained
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import plain

ARCH = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|"
#: A cell of few operations, so that its network is soon traced.
SKIPS = [("skip_connect", 0), ("max_pool_3x3", 1)]
CELL = f"Genotype(normal={[SKIPS] * 4}, normal_concat=range(2, 6), reduce={[SKIPS] * 4}, reduce_concat=range(2, 6))"
ALL = "safetensors onnx torch hf".split()


def images(count, shape, seed=5):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def in_another_process(code, *arguments):
    """Run Python that knows nothing of this project."""
    code += "\nimport sys; assert not [name for name in sys.modules if name.startswith('CyDAS')]"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env={"OMP_NUM_THREADS": "1"}, timeout=300)
    assert done.returncode == 0, done.stderr


ASK_ONNX = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for count in sys.argv[3:]:
    answers = session.run(None, {"images": numpy.load(f"{sys.argv[2]}/{count}.npy")})
    numpy.savez(f"{sys.argv[2]}/{count}.npz", **{o.name: a for o, a in zip(session.get_outputs(), answers)})
"""
ASK_TORCH = """
import sys, numpy, torch
network = torch.export.load(sys.argv[1]).module()
for count in sys.argv[3:]:
    (logits,) = network(torch.from_numpy(numpy.load(f"{sys.argv[2]}/{count}.npy")))
    numpy.savez(f"{sys.argv[2]}/{count}.npz", logits=logits.detach())
"""


def asked(code, file, folder, shape, counts):
    """What an exported file answers, by the number of images; and the images."""
    given = {count: images(count, shape) for count in counts}
    for count, some in given.items():
        np.save(folder / f"{count}.npy", some.numpy())
    in_another_process(code, file, folder, *counts)
    return given, {count: np.load(folder / f"{count}.npz") for count in counts}


def assert_alike(network, given, answers):
    for count, some in given.items():
        with torch.no_grad():
            expected = network(some).logits
        if count > 1:
            assert expected.std(dim=0).max() > 1e-3  # ten times what is allowed below: it does look at the images
        torch.testing.assert_close(torch.from_numpy(answers[count]["logits"]), expected, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def nats(tmp_path_factory):
    """A training with averaged weights, and its export in every format; both folders and what was printed."""
    folder = tmp_path_factory.mktemp("nats")
    (folder / "nats.json").write_text(json.dumps(ARCH))
    flags = "--space nats --cells_per_stage 1 --init_channels 4 --aux_weight 0 --ema_decay 0.5 --epochs 2 --lr 0.1"
    flags += f" --batch_size 120 --cutout_length 0 --device cpu --threads 1 --cell_file {folder / 'nats.json'}"
    retrain([*flags.split(), "--output_dir", str(folder), "--name", "first"])
    export(["first", "--output_dir", str(folder), "--to", str(folder / "out"), "--format", *ALL])
    return folder


def network_of(folder, key=None):
    return open_trained(folder / "retrain/first/last.pth.tar", key)[0].network


# -- classifiers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "code"), [("model.onnx", ASK_ONNX), ("model.pt2", ASK_TORCH)])
def test_other_programs_get_the_same_logits_for_any_number_of_images(nats, tmp_path, file, code):
    given, answers = asked(code, nats / "out" / file, tmp_path, (3, 16, 16), (1, 2, 5))
    assert_alike(network_of(nats), given, answers)


def test_the_averaged_weights_are_exported_unless_others_are_named(nats, tmp_path, capsys):
    from safetensors import safe_open
    from safetensors.torch import load_file

    content = load_checkpoint(nats / "retrain/first/last.pth.tar")
    raw = [*("--output_dir", str(nats)), "--to", str(tmp_path / "raw"), "--weights_key", "model_main"]
    export(["retrain/first", *raw])
    out = capsys.readouterr().out
    assert "the weights under model_main" in out and "others (--weights_key): state_dict_ema" in out
    for folder, key in ((nats / "out", "state_dict_ema"), (tmp_path / "raw", "model_main")):
        weights = load_file(folder / "model.safetensors")
        assert weights.keys() == content[key].keys() and all(torch.equal(weights[k], content[key][k]) for k in weights)
        assert json.loads((folder / "export.json").read_text())["weights"] == key
    with safe_open(nats / "out/model.safetensors", "pt") as file:
        facts = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
    assert facts["architecture"] == {"0": ARCH} and facts["space"] == "nats" and facts["image"] == [3, 16, 16]
    assert facts["classes"] == list("0123456789") and facts["sizes"] == {"init_channels": 4, "cells_per_stage": 1}
    assert facts["mean"] == pytest.approx([0.3057] * 3, abs=1e-4) and facts["std"] == pytest.approx(
        [0.3759] * 3, abs=1e-4
    )


def test_timm_makes_the_network_from_the_folder_for_the_hub(nats):
    folder = nats / "out/hf"
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    some = images(3, (3, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(network(some), network_of(nats)(some).logits, atol=1e-5, rtol=0)
    config = json.loads((folder / "config.json").read_text())
    assert (config["architecture"], config["num_classes"]) == ("cydas_nats", 10)
    assert config["label_names"] == list("0123456789")
    assert config["pretrained_cfg"]["input_size"] == [3, 16, 16] and config["pretrained_cfg"]["mean"][0] < 0.31
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    files = [path for path in (nats / "out").rglob("*") if path.is_file()]
    assert len(files) == 7 and len({path.stat().st_mode for path in files}) == 1  # others may read all or none of them


def test_the_model_card_says_what_the_run_says(nats):
    card = (nats / "out/hf/README.md").read_text()
    result = json.loads((nats / "retrain/first/result.json").read_text())
    for row, name in (("last epoch", "last"), ("last epoch without averaging", "last_plain")):
        assert f"| {row} | {result[name]['top1']:.2f} % | {result[name]['top5']:.2f} % |" in card
    assert f"| best epoch (chosen on the test images, so it flatters) | {result['best']['top1']:.2f} %" in card
    assert (
        "On 359 test images, of a training of 2 epochs" in card and f"| parameters | {result['parameters']:,} |" in card
    )
    assert f"{result['macs'] / 1e6:.2f} M for one image" in card and "license: mit" in card and ARCH in card
    assert "--space=nats" in card and "--ema_decay=0.5" in card and "--lr=0.1" in card
    assert str(nats) not in card  # where things lie on this machine is nobody's business


def test_cells_are_exported_as_plain_operations_without_their_auxiliary_head(tmp_path, capsys):
    (tmp_path / "cell.json").write_text(json.dumps({"0": CELL}))
    run = run_retrain(tmp_path, "first", "--epochs", "1", "--cell_file", str(tmp_path / "cell.json"))
    assert any(name.startswith("aux_head.") for name in load_checkpoint(run / "last.pth.tar")["model_main"])
    export([str(run), "--to", str(tmp_path / "out"), "--format", "onnx", "hf"])
    assert "model.onnx, at most " in capsys.readouterr().out
    network = network_of(tmp_path)
    given, answers = asked(ASK_ONNX, tmp_path / "out/model.onnx", tmp_path, (3, 12, 12), (1, 3))
    assert_alike(network, given, answers)
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'out/hf'}", pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(by_timm(given[3]), network(given[3]).logits)
    assert json.loads((tmp_path / "out/hf/config.json").read_text())["model_args"]["genotype"] == CELL


def test_chains_are_exported(tmp_path):
    (tmp_path / "chain.json").write_text(SMALL)
    flags = [*CHAINS, *"--epochs 1 --batch_size 48 --lr 0.1 --cutout_length 0".split()]
    retrain([*flags, "--cell_file", str(tmp_path / "chain.json"), "--output_dir", str(tmp_path), "--name", "first"])
    export(["first", "--output_dir", str(tmp_path), "--to", str(tmp_path / "out"), "--format", "onnx", "hf"])
    network = network_of(tmp_path)
    given, answers = asked(ASK_ONNX, tmp_path / "out/model.onnx", tmp_path, (3, 32, 32), (1, 3))
    assert_alike(network, given, answers)
    by_timm = timm.create_model(f"local-dir:{tmp_path / 'out/hf'}", pretrained=True).eval()
    with torch.no_grad():
        torch.testing.assert_close(by_timm(given[3]), network(given[3]).logits)
    assert json.loads((tmp_path / "out/hf/config.json").read_text())["architecture"] == "cdarts_chain"


def test_checkpoints_of_other_programs_need_their_genotype(tmp_path, capsys):
    network = chain_network(parse_architecture(SMALL), kind=RetrainedChain, c_last=64, num_classes=3, in_chans=1)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "other.pth")
    (tmp_path / "chain.json").write_text(SMALL)
    with pytest.raises(CydasError, match="give its genotype with --cell_file"):
        export([str(tmp_path / "other.pth"), "--to", str(tmp_path / "out")])
    export([str(tmp_path / "other.pth"), "--to", str(tmp_path / "out"), "--cell_file", str(tmp_path / "chain.json")])
    record = json.loads((tmp_path / "out/export.json").read_text())
    assert record["image"] == [1, 224, 224] and record["n_classes"] == 3 and record["sizes"] == {"c_last": 64}


# -- detectors and segmenters ------------------------------------------------------------------------------------------


def of_small_backbone(folder, config, make, **more):
    """A checkpoint as ``detect.py`` or ``segment.py`` writes it, of a network with lively batch norms."""
    (folder / "small.json").write_text(SMALL)
    recipe = backbone_recipe(str(folder / "small.json"), None, 32)
    torch.manual_seed(0)
    network = make(build_backbone(recipe)).train()
    with torch.no_grad():
        network(images(2, (3, 64, 96)))
    content = {"model_main": network.state_dict(), "config": plain(config), "backbone": recipe, "epoch": 1}
    save_checkpoint(folder / "last.pth.tar", content | more)
    return network.eval()


def test_a_detectors_boxes_and_scores_are_those_before_suppression(tmp_path):
    config = DetectConfig(width=8, short_side=64, long_side=96, lr_epochs=[1])
    record = {"classes": ["red", "green"], "category_ids": [3, 7]}
    network = of_small_backbone(tmp_path, config, lambda backbone: RetinaNet(backbone, 2, 8), data=record)
    with torch.no_grad():
        network.head.classification_head.cls_logits.bias += 2
        network.head.classification_head.cls_logits.weight *= 10
    save_checkpoint(
        tmp_path / "last.pth.tar", load_checkpoint(tmp_path / "last.pth.tar") | {"model_main": network.state_dict()}
    )
    export([str(tmp_path), "--to", str(tmp_path / "out"), "--format", "onnx", "--image_size", "64", "96"])
    given, answers = asked(ASK_ONNX, tmp_path / "out/model.onnx", tmp_path, (3, 64, 96), (1, 3))
    for count, some in given.items():
        with torch.no_grad():
            output = network(some)
        boxes, scores = (torch.from_numpy(answers[count][name]) for name in ("boxes", "scores"))
        torch.testing.assert_close(scores, output.class_logits.sigmoid(), atol=1e-4, rtol=0)
        for index in range(count):
            found = detections(output, index, (64, 96), (64, 96))
            assert len(found.boxes) > 3
            for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
                near = (boxes[index] - box).abs().amax(dim=1) < 0.01
                assert ((scores[index, near, label] - score).abs() < 1e-4).any()
    with pytest.raises(CydasError, match="--image_size is a height and a width, multiples of 32"):
        export([str(tmp_path), "--to", str(tmp_path / "no"), "--image_size", "64", "97"])
    with pytest.raises(CydasError, match="--format hf is for classifiers"):
        export([str(tmp_path), "--to", str(tmp_path / "no"), "--format", "hf"])


def test_a_segmenter_answers_for_every_pixel(tmp_path):
    config = SegmentConfig(decoder_width=1.0, crop_size=[64, 96], c_last=32)
    record = {"classes": ["a", "b", "c"], "ids": [0, 1, 5]}
    network = of_small_backbone(tmp_path, config, lambda backbone: Segmenter(backbone, 3, 1), data=record)
    export([str(tmp_path / "last.pth.tar"), "--to", str(tmp_path / "out"), "--format", "onnx"])
    given, answers = asked(ASK_ONNX, tmp_path / "out/model.onnx", tmp_path, (3, 64, 96), (1, 3))
    assert answers[3]["logits"].shape == (3, 3, 64, 96)
    assert_alike(network, given, answers)
    assert json.loads((tmp_path / "out/export.json").read_text())["ids"] == [0, 1, 5]


# -- what must not be written ------------------------------------------------------------------------------------------


def test_answers_that_differ_are_noticed(nats):
    subject, _ = open_trained(nats / "retrain/first/last.pth.tar")
    own = subject.plain()
    assert difference(own, own, subject, "x") == 0 and BATCHES == (1, 3)
    small = difference(own, lambda some: (own(some)[0] + TOLERANCE / 2,), subject, "x")
    assert small == pytest.approx(TOLERANCE / 2, rel=0.1)
    for other, word in (
        (lambda some: (own(some)[0] + 2 * TOLERANCE,), "differ from PyTorch's by 0.0002"),
        (lambda some: (own(some)[0] * torch.nan,), "differ from PyTorch's by nan"),
        (lambda some: (own(some)[0][:1],), r"logits of 3 images are \(1, 10\), not \(3, 10\)"),
    ):
        with pytest.raises(CydasError, match=word):
            difference(own, other, subject, "x")


def test_a_file_that_answers_otherwise_is_not_written(nats, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "TOLERANCE", -1.0)
    with pytest.raises(CydasError, match="model.pt2: logits of random images differ"):
        export(["first", "--output_dir", str(nats), "--to", str(tmp_path / "out"), "--format", "safetensors", "torch"])
    assert not list(tmp_path.iterdir())


def test_only_an_earlier_export_is_replaced(nats, tmp_path):
    flags = ["first", "--output_dir", str(nats), "--to", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    export(flags)
    (tmp_path / "out/model.onnx").write_text("of an earlier network")
    with pytest.raises(CydasError, match="is not empty: --overwrite replaces an earlier export"):
        export(flags)
    export([*flags, "--overwrite"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["export.json", "model.safetensors"]
    (tmp_path / "out/thesis.txt").write_text("all there is")
    with pytest.raises(CydasError, match="holds thesis.txt, which no export has written"):
        export([*flags, "--overwrite"])
    assert (tmp_path / "out/thesis.txt").exists()


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package_is_one_line_that_says_which(nats, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CydasError, match=rf"--format onnx needs {package}, not installed here: pip install CyDAS\[exp"):
        export(["first", "--output_dir", str(nats), "--to", str(tmp_path / "out"), "--format", "onnx"])
    export(["first", "--output_dir", str(nats), "--to", str(tmp_path / "out"), "--format", "safetensors"])


def test_an_unknown_format_is_refused_with_those_there_are(capsys):
    with pytest.raises(SystemExit) as ended:
        export(["x", "--to", "y", "--format", "tflite"])
    assert ended.value.code == 2 and "tflite" in (error := capsys.readouterr().err) and "safetensors" in error


def test_what_is_no_trained_network_is_one_line(nats, tmp_path):
    (tmp_path / "text.pth").write_text("no checkpoint")
    torch.save({"a": 1}, tmp_path / "empty.pth")
    save_checkpoint(tmp_path / "search.pth", {"search": {"joint": {}}})
    (tmp_path / "detect/first").mkdir(parents=True)
    for name, word in (
        ("none", "neither a file nor a run with a last.pth.tar"),
        (str(tmp_path / "text.pth"), "damaged or"),
        (str(tmp_path / "empty.pth"), "holds no weights that are known here"),
        (str(tmp_path / "search.pth"), "is where a search goes on from"),
    ):
        with pytest.raises(CydasError, match=word) as caught:
            export([name, "--to", str(tmp_path / "out"), "--output_dir", str(tmp_path)])
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    flags = ["--to", str(tmp_path / "out"), "--output_dir", str(nats)]
    with pytest.raises(CydasError, match="no weights under --weights_key ema"):
        export(["first", *flags, "--weights_key", "ema"])
    with pytest.raises(CydasError, match="--image_size is for detectors and segmenters"):
        export(["first", *flags, "--image_size", "32", "32"])


def test_a_name_that_runs_of_two_programs_have_is_not_guessed(nats, tmp_path):
    for kind in ("retrain", "segment"):
        (tmp_path / kind / "both").mkdir(parents=True)
        (tmp_path / kind / "both/last.pth.tar").touch()
    with pytest.raises(CydasError, match="both may be any of .*retrain/both, .*segment/both: name its folder"):
        export(["both", "--to", str(tmp_path / "out"), "--output_dir", str(tmp_path)])


def test_it_is_a_program_with_an_extra_of_its_own():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'cydas-export = "CyDAS.export:run_main"' in text
    assert all(package in text.partition("\nexport = ")[2].splitlines()[0] for package in ("onnxruntime", "onnxscript"))
    assert "onnx" not in (ROOT / "requirements.txt").read_text()


# -- the table of all published networks -------------------------------------------------------------------------------


def test_the_committed_model_zoo_is_what_the_script_writes(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/model_zoo.py"), "--to", str(tmp_path / "zoo.md")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "zoo.md").read_text()
    assert text == (ROOT / "docs/model_zoo.md").read_text()
    assert "| `cdarts_a` | 6,987,728 | 283.1 M | 224 x 224 |" in text and text.count("timm.create_model(") == 7 + 10 + 3
