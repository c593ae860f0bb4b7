"""Segmenters: what is measured, windows, and the program from a training to predictions of a user's own files."""

import json
import math
import shlex

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from masked_images import NAMES, SMALL, draw, make_folder, save, small_flags
from PIL import Image
from test_reliability import same

import CyDAS.engine.training as loop
import CyDAS.segment
import CyDAS.segmenting
from CyDAS.config import SegmentConfig
from CyDAS.engine.optim import update
from CyDAS.engine.schedules import poly_schedule
from CyDAS.models.chain.architecture import parse_architecture
from CyDAS.models.segmentation.segmenter import SegmentationOutput, Segmenter
from CyDAS.models.segmentation.windows import slide
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.segment import main
from CyDAS.spaces.backbones import make_backbone
from CyDAS.tasks.segmentation import VOID, Segmentation, ohem_cross_entropy, table
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse
from tests.spies import CPU
from tests.two_ranks import run_ranks

# -- what is measured --------------------------------------------------------------------------------------------------


def answers(classes, count):
    """Logits whose class is known."""
    return SegmentationOutput(F.one_hot(classes, count).permute(0, 3, 1, 2).float())


def measured(pairs, count):
    metrics = Segmentation(count).metrics(CPU)
    for answer, target in pairs:
        metrics.add(answers(answer, count), target)
    return metrics.result()


def by_hand(answer, target, count):
    """Of sets of pixels, one class after the other."""
    ious = []
    for number in range(count):
        true = {i for i, t in enumerate(target.flatten().tolist()) if t == number}
        said = {
            i for i, (a, t) in enumerate(zip(answer.flatten().tolist(), target.flatten().tolist(), strict=True))
            if a == number and t != VOID
        }  # fmt: skip
        ious.append(100 * len(true & said) / len(true | said) if true | said else None)
    return ious


def test_iou_is_intersection_over_union_of_every_class_over_all_images():
    generator = torch.Generator().manual_seed(0)
    answer = torch.randint(0, 4, (6, 5, 7), generator=generator)
    target = torch.where(torch.rand(6, 5, 7, generator=generator) < 0.6, answer, 2)
    target[0, :3] = VOID
    expected = by_hand(answer, target, 5)  # the fifth class is nowhere
    for size in (1, 4, 6):
        result = measured(zip(answer.split(size), target.split(size), strict=True), 5)
        assert result.ious == pytest.approx(expected) and result.ious[4] is None and result.images == 6
        assert result.miou == pytest.approx(sum(expected[:4]) / 4)
        assert result.accuracy == pytest.approx(100 * float((answer == target)[target != VOID].double().mean()))
    lines = table([*"abcd", "longer"], result)
    assert lines[4] == "longer  does not occur" and lines[0].startswith("a       ") and lines[0].endswith(" %")
    assert len({len(line) for line in lines[:4]}) == 1
    plain = json.loads(json.dumps(result._asdict()))
    assert type(result)(*list(result)) == result and plain["ious"][4] is None


def test_masks_against_themselves_are_all_right():
    masks = torch.stack([torch.from_numpy(draw(seed)[1]).long() for seed in range(3)])
    void = masks.clone()
    void[:, :20] = VOID
    assert measured([(masks, masks)], 3).miou == measured([(masks, void)], 3).miou == 100


def test_void_pixels_count_nowhere():
    """Neither what is answered there, nor how the loss came about."""
    target = torch.from_numpy(draw(0)[1]).long()[None]
    target[:, ::2] = VOID
    answer = target.where(target != VOID, 1)
    assert measured([(answer, target)], 3) == measured([(answer.where(target != VOID, 2), target)], 3)
    logits = torch.randn(1, 3, 64, 80, requires_grad=True)
    for min_kept in (0, 100, 64 * 80):
        (gradient,) = torch.autograd.grad(ohem_cross_entropy(logits, target, min_kept), logits)
        assert (gradient[:, :, ::2] == 0).all() and (gradient[:, :, 1::2] != 0).any()


def test_a_batch_that_is_all_void_has_a_loss_of_zero_and_figures():
    target, task = torch.full((2, 64, 64), VOID), Segmentation(3)
    logits = [torch.randn(2, 3, 64, 64, requires_grad=True) for _ in range(3)]
    output = SegmentationOutput(logits[0], tuple(logits[1:]))
    loss = task.loss(output, target)
    gradients = torch.autograd.grad(loss, logits)
    assert loss == 0 and all((gradient == 0).all() for gradient in gradients)
    assert task.figures(output, target) == {"train/pixel_accuracy": 0}
    with pytest.raises(CydasError, match="all pixels of the 2 test images are void"):
        measured([(target.clamp(max=2), target)], 3)


def test_answers_that_are_not_finite_are_an_error():
    metrics = Segmentation(3).metrics(CPU)
    logits = torch.zeros(2, 3, 4, 4)
    logits[1, 2, 0, 0] = math.nan
    metrics.add(SegmentationOutput(logits), torch.zeros(2, 4, 4, dtype=torch.int64))
    with pytest.raises(CydasError, match="answers to 1 of 2 test images are not finite"):
        metrics.result()


def test_the_measure_is_of_all_processes():
    generator = torch.Generator().manual_seed(1)
    answer, target = (torch.randint(0, 3, (5, 4, 4), generator=generator) for _ in range(2))
    target[0] = VOID  # rank 0's first image

    def share(process):
        return measured([(answer[process.rank :: 2], target[process.rank :: 2])], 3)

    assert run_ranks(share) == [measured([(answer, target)], 3)] * 2


# -- network -----------------------------------------------------------------------------------------------------------


def make_segmenter(n_classes=3, **options):
    torch.manual_seed(0)
    return Segmenter(make_backbone("chain", parse_architecture(SMALL), c_last=32), n_classes, 1, **options)


def test_windows_see_every_pixel_and_agree_with_the_whole_where_they_are_it():
    network = make_segmenter().eval()
    x = torch.randn(1, 3, 96, 160)
    whole = network(x).logits
    network.window = (96, 160)
    torch.testing.assert_close(network(x).logits, whole.log_softmax(dim=1))
    network.window = (256, 256)
    torch.testing.assert_close(network(x).logits, whole.log_softmax(dim=1))
    seen = []

    def position(part):
        """Each pixel's class is which column it has in the image."""
        seen.append(tuple(part.shape[-2:]))
        return F.one_hot(part[:, 0].long(), 160).permute(0, 3, 1, 2) * 50.0

    columns = torch.arange(160.0).expand(1, 3, 96, 160)
    answered = slide(position, columns, (64, 64), 32)
    assert set(seen) == {(64, 64)} and len(seen) == 2 * 4
    assert torch.equal(answered.argmax(dim=1), columns[:, 0].long()) and answered.exp().sum(dim=1).allclose(
        torch.ones(1, 96, 160)
    )


def test_all_batch_norms_have_the_published_momentum_and_attention_starts_without_effect():
    network = make_segmenter()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.01} and {norm.eps for norm in norms} == {1e-5}
    gammas = [p for name, p in network.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == 3 and all((gamma == 0).all() for gamma in gammas)


def test_the_warm_up_is_shorter_than_the_training():
    assert poly_schedule(0.1, 10, 9, 1e-6)(9) == 0.1 and poly_schedule(0.1, 10, 0, 1e-6)(0) == 0.1
    with pytest.raises(CydasError, match="the whole training has 10 steps"):
        poly_schedule(0.1, 10, 10, 1e-6)


def gradient_step(rank, ranks, void=None):
    """One update by this process's share of four images, batch norms in eval mode, in float64; the parameters."""
    network = make_segmenter().double().train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, 64, 64, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (4, 64, 64), generator=generator)
    if void is not None:
        y[void::2] = VOID
    x, y = x[rank::ranks], y[rank::ranks]
    task = Segmentation(3, threshold=1.0)  # which pixels are hard is each process's own question
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    norm = update([task.loss(network(x), y)], [optimiser], math.inf, scaler, images=len(x))
    return torch.cat([p.detach().flatten() for p in network.parameters()]).numpy(), float(norm)


def test_two_processes_equal_one_with_twice_the_batch():
    (first, norm), (second, _) = run_ranks(lambda process: gradient_step(process.rank, 2))
    expected, expected_norm = gradient_step(0, 1)
    assert np.array_equal(first, second) and norm > 0
    np.testing.assert_allclose(first, expected, rtol=0, atol=1e-12)
    assert norm == pytest.approx(expected_norm, rel=1e-10)


def test_an_all_void_share_neither_hangs_nor_spoils_the_other():
    """It counts as images whose loss is 0: the other's gradient is halved, as the mean over all images says."""
    (first, norm), (second, _) = run_ranks(lambda process: gradient_step(process.rank, 2, void=1))
    assert np.array_equal(first, second) and np.isfinite(first).all()
    assert norm == pytest.approx(gradient_step(0, 2)[1] / 2, rel=1e-10)


# -- the program -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("segment")
    root = make_folder(tmp / "data")
    flags = small_flags(root, tmp, "--name", "whole")
    main(flags)
    return tmp, root, flags


def test_a_training_leaves_weights_figures_and_pictures(trained):
    run = trained[0] / "segment" / "whole"
    result = json.loads((run / "result.json").read_text())
    assert result["classes"] == list(NAMES) and len(result["last"]["ious"]) == 3 and result["last"]["images"] == 2
    content = load_checkpoint(run / "last.pth.tar")
    assert content["data"]["classes"] == list(NAMES) and content["backbone"]["options"] == {"c_last": 32}
    for number in (0, 1):
        with Image.open(run / "pictures" / f"validation_{number}.png") as picture:
            assert picture.size == (3 * 80, 64)
            left = np.array(picture)[:, :80]
        assert np.array_equal(left, draw(10 * number + 1)[0])
    assert (run / "pictures" / "legend.png").exists() and any((run / "tensorboard").iterdir())
    log = (run / "segment.log").read_text()
    assert "epoch 2/2: test mIoU" in log and "random weights" in log and "train pixels: red" in log


def test_every_flag_of_the_training_reaches_it(trained, tmp_path, monkeypatch):
    tmp, _, flags = trained
    seen = []
    monkeypatch.setattr(CyDAS.segment, "estimate_training", lambda *a: seen.append(a) or [])
    monkeypatch.setattr(CyDAS.segmenting, "count_macs", lambda *a: 0)
    more = (
        "--aux_weight 0.4 --ohem_threshold 0.6 --ohem_share 8 --momentum 0.8 --weight_decay 0.01 --epochs 3 "
        "--repeats 4 --warmup_steps 5 --warmup_lr 1e-4 --grad_clip 2 --accum_steps 2 --window 64 96 --on_nan skip "
        "--print_freq 7"
    )
    main([*flags, *more.split(), "--output_dir", str(tmp_path), "--dry_run"])
    ((training, train, _),) = seen
    task, (group,) = training.task, training.optimiser.param_groups
    assert (task.aux_weight, task.threshold, task.kept_share, task.n_classes) == (0.4, 0.6, 8, 3)
    assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.8, 0.01, False)
    assert len(group["params"]) == len(list(training.network.parameters()))
    assert len(train) == 6 * 4 / (2 * 2)  # images, repeats; batch size, accumulation
    assert training.schedule(0) == 1e-4 and training.schedule(5) == 0.02
    assert training.schedule(17) == pytest.approx(0.02 * (1 - 12 / 13) ** 0.9)
    assert training.extent[:4] == (3, 2, 2.0, 7) and training.guard.skips and training.network.window == (64, 96)
    assert {m.momentum for m in training.network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


@pytest.mark.parametrize("step", [1, 4])
def test_a_training_cut_off_anywhere_ends_as_if_it_had_not(trained, tmp_path, monkeypatch, step):
    tmp, _, flags = trained
    original, left = loop.learn, [step]

    def cut(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    own = [*flags, "--output_dir", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(loop, "learn", cut)
        with pytest.raises(KeyboardInterrupt):
            main([*own, "--checkpoint_minutes", "1e-9"])
    main([*own, "--resume"])
    for name in ("segment_resume.pth.tar", "last.pth.tar", "best.pth.tar"):
        mine, theirs = (load_checkpoint(folder / "segment" / "whole" / name) for folder in (tmp_path, tmp))
        assert same(mine, theirs), name


def test_a_resumed_training_wants_the_same_data_and_flags(trained, tmp_path):
    tmp, root, flags = trained
    with pytest.raises(CydasError, match="--aux_weight was 0.2, is 0.5"):
        main([*flags, "--resume", "--aux_weight", "0.5"])
    other = make_folder(tmp_path / "other", train=5)
    with pytest.raises(CydasError, match="train images were 6, are 5"):
        main([*flags, "--resume", "--data_dir", str(other)])


def test_a_test_says_what_the_training_said(trained, capsys):
    tmp, _, _ = trained
    last = json.loads((tmp / "segment/whole/result.json").read_text())["last"]
    main(["--eval_only", "--name", "whole", "--output_dir", str(tmp), "--device", "cpu", "--workers", "0"])
    output = capsys.readouterr().out
    assert f"mIoU {last['miou']:.2f} %  pixel accuracy {last['accuracy']:.2f} %  on 2 test images" in output
    assert "red " in output and "blue" in output
    main(["--eval_only", "--test_part", "train", "--name", "whole", "--output_dir", str(tmp), "--workers", "0"])
    assert "on 6 test images" in capsys.readouterr().out
    with pytest.raises(CydasError, match="--decoder_width is 1.0 there, 2.0 was given"):
        main(["--eval_only", "--name", "whole", "--output_dir", str(tmp), "--decoder_width", "2"])


def test_a_bare_state_dict_of_the_published_layout_is_tested_by_its_flags(trained, tmp_path, capsys):
    """With the ImageNet head that the published backbones carry along, and behind a wrapper's name."""
    tmp, root, _ = trained
    content = load_checkpoint(tmp / "segment/whole/last.pth.tar")
    last = json.loads((tmp / "segment/whole/result.json").read_text())["last"]
    head = {"backbone.conv_head.weight": torch.zeros(8, 32, 1, 1), "backbone.classifier.bias": torch.zeros(1000)}
    weights = {f"module.{name}": value for name, value in (content["model_main"] | head).items()}
    torch.save({"state_dict": weights}, tmp_path / "published.pth")
    flags = f"--backbone {tmp / 'small.json'} --c_last 32 --decoder_width 1 --data_dir {root} --workers 0 --eval_only"
    main([*flags.split(), "--resume_name", str(tmp_path / "published.pth")])
    assert f"mIoU {last['miou']:.2f} %" in capsys.readouterr().out
    with pytest.raises(CydasError, match="published.pth is of another architecture"):
        main([*flags.replace("width 1", "width 2").split(), "--resume_name", str(tmp_path / "published.pth")])


def test_predictions_of_own_files_are_masks_of_their_ids_and_pictures(trained, tmp_path, capsys):
    tmp, root, _ = trained
    save(tmp_path / "own" / "deep" / "a.jpg", draw(3, 33, 47)[0])
    save(tmp_path / "one.png", draw(3, 1, 1)[0])
    (tmp_path / "own" / "bad.png").write_bytes(b"no image")
    flags = ["--name", "whole", "--output_dir", str(tmp), "--device", "cpu", "--predict_dir", str(tmp_path / "out")]
    with pytest.raises(CydasError, match=r"1 file\(s\) have no prediction: cannot read the image \S*bad.png"):
        main([*flags, "--predict", str(tmp_path / "own"), str(tmp_path / "one.png")])
    written = {path.name for path in (tmp_path / "out").iterdir()}
    kinds = [f"{name}_{kind}.png" for name in ("deep__a", "one") for kind in ("mask", "overlay")]
    assert written == {*kinds, "legend.png"}
    mask = np.array(Image.open(tmp_path / "out" / "deep__a_mask.png"))
    assert mask.shape == (33, 47) and set(mask.flatten()) <= {0, 1, 2}
    assert "a.jpg: " in capsys.readouterr().out
    with pytest.raises(CydasError, match="would both be written as one"):
        save(tmp_path / "two" / "one.png", draw(3)[0])
        main([*flags, "--predict", str(tmp_path / "one.png"), str(tmp_path / "two" / "one.png")])


def test_a_dry_run_says_what_the_run_takes_and_leaves_nothing(trained, tmp_path, capsys):
    main([*trained[2], "--output_dir", str(tmp_path), "--dry_run"])
    output = capsys.readouterr().out
    assert "the whole run" in output and "training step" in output and not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["segment_cityscapes", "segment_ade20k", "test_segment"])
def test_the_scripts_have_the_published_settings(name):
    text = (ROOT / "scripts" / f"run_{name}.sh").read_text().replace("\\\n", " ")
    command = next(line for line in text.splitlines() if line.startswith("launch segment.py"))
    words = [word for word in shlex.split(command)[2:] if word not in ("$@",)]
    config, _ = parse(SegmentConfig, "", words)
    if name == "test_segment":
        assert config.eval_only
        return
    assert (config.lr, config.momentum, config.weight_decay, config.warmup_steps) == (0.05, 0.9, 1e-4, 1000)
    assert (config.batch_size, config.reference_batch, config.backbone, config.c_last) == (4, 32, "cdarts_b", 320)
    assert (config.epochs, config.crop_size, config.decoder_width) == {
        "segment_cityscapes": (4000, [512, 1024], 6), "segment_ade20k": (1000, [640, 640], 16)
    }[name]  # fmt: skip
