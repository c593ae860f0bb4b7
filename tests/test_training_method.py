"""The retraining: what reaches the loss, the data and the optimiser in which epoch, and what is kept of the result."""

import json
import math
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import CyDAS.engine.training as loop
import CyDAS.retrain
from CyDAS.config import EvaluationConfig
from CyDAS.engine.evaluation import evaluate, make_fast
from CyDAS.engine.optim import Precision
from CyDAS.engine.results import SearchProgress
from CyDAS.engine.schedules import retrain_lr
from CyDAS.engine.training import EpochState, Training
from CyDAS.models.cells.genotype import make_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import DropPath, RetrainNetwork
from CyDAS.models.heads import RetrainOutput
from CyDAS.models.native import tensors
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.keeper import SIGNALS, Keeper
from CyDAS.runs.opening import Run
from CyDAS.tasks.classification import Accuracy, Classification, classification_loss, mixup
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.lost import LostProcess
from tests.spies import (
    CPU,
    ONE,
    FakeCifar,
    FakeCifar100,
    Lines,
    SpyBatches,
    first_step,
    make_search,
    make_training,
    run_retrain,
    steps_of_optimisers,
)
from tests.test_data_method import make_images

GENOTYPE = make_genotype(*[[[("skip_connect", 0), ("max_pool_3x3", 1)]] * 4] * 2)


class Linear(nn.Module):
    """Logits, and those of an auxiliary head while training, that are linear in the pixels."""

    def __init__(self, auxiliary=False):
        super().__init__()
        torch.manual_seed(1)
        self.main, self.side = nn.Linear(192, 10, dtype=torch.float64), nn.Linear(192, 10, dtype=torch.float64)
        self.auxiliary, self.seen = auxiliary, []

    def forward(self, x):
        self.seen.append(x)
        x = x.flatten(1).double()
        return RetrainOutput(self.main(x), self.side(x) if self.auxiliary and self.training else None)


def one_epoch(network, batches, log=None, state=None, end_step=lambda: None, epoch=0, **flags):
    training = make_training(network, **{"label_smooth": 0.0, "grad_clip": 0.0, "aux_weight": 0.0, **flags})
    training.epoch, training.state = epoch, state or training.state
    return training.train_epoch(batches, log or Lines(), end_step)


def smooth_loss(logits, targets, smooth):
    targets = targets if targets.ndim == 2 else nn.functional.one_hot(targets, 10).double()
    targets = (1 - smooth) * targets + smooth / 10
    return -(targets * logits.log_softmax(1)).sum(1).mean()


@pytest.mark.parametrize(
    "flags",
    [{}, {"label_smooth": 0.3}, {"aux_weight": 0.7, "label_smooth": 0.1}, {"mixup_alpha": 0.8, "label_smooth": 0.2}],
    ids=str,
)
def test_the_gradient_is_that_of_the_published_loss(flags):
    batches = SpyBatches(1.0, 1, batch_size=6)
    x, y = next(batches.epoch(0))
    network, same = Linear(bool(flags.get("aux_weight"))), Linear()
    torch.manual_seed(7)
    with steps_of_optimisers() as steps:
        means = one_epoch(network, batches, **flags)
    targets = y
    if "mixup_alpha" in flags:
        torch.manual_seed(7)
        x, targets = mixup(x, y, 10, flags["mixup_alpha"])
        assert 0 < float(targets.max(1).values.min()) < 1  # something was mixed
    torch.testing.assert_close(network.seen[0], x)
    smooth, pixels = flags.get("label_smooth", 0.0), x.flatten(1).double()
    loss = smooth_loss(same.main(pixels), targets.double() if targets.ndim == 2 else targets, smooth)
    if "aux_weight" in flags:
        loss = loss + flags["aux_weight"] * smooth_loss(same.side(pixels), targets, smooth)
    gradients = torch.autograd.grad(loss, list(same.parameters()), allow_unused=True)
    for mine, expected in zip(steps[0].gradients, gradients, strict=True):
        if expected is None:
            assert mine is None
        else:
            torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-7)
    assert means["train/loss"] == pytest.approx(loss.item(), rel=1e-5)
    correct = (same.main(pixels).argmax(1) == y).double().mean() * 100
    assert means["train/top1"] == pytest.approx(correct.item())


@pytest.mark.parametrize("clip", [0.0, 0.02])
def test_gradients_are_clipped_to_the_flag_and_0_is_no_limit(clip):
    with steps_of_optimisers() as steps:
        means = one_epoch(Linear(), SpyBatches(1.0, 1), grad_clip=clip)
    norm = torch.stack([g.norm() for g in steps[0].gradients if g is not None]).norm()
    assert means["train/gradient_norm"] > 0.5
    assert float(norm) == pytest.approx(clip or means["train/gradient_norm"], rel=1e-3)


def test_an_update_goes_through_the_network_in_parts():
    network = Linear()
    with steps_of_optimisers() as steps:
        one_epoch(network, SpyBatches(1.0, 2, batch_size=6), accum_steps=3)
    assert [len(x) for x in network.seen] == [2] * 6 and len(steps) == 2


def test_an_epoch_takes_its_own_batches_from_where_it_stands():
    batches, state, told = SpyBatches(1.0, 5), EpochState(CPU), []
    state.index = 2
    network = Linear().eval()
    log = Lines()
    one_epoch(network, batches, log, state, epoch=3, end_step=lambda: told.append(state.index))
    assert log.advanced == 3
    assert [(asked.epoch, asked.start) for asked in batches.asked] == [(3, 2)]
    assert state.index == 5 and told == [3, 4]  # but for the last
    assert network.training


@pytest.mark.parametrize(("every", "lines"), [(2, [2, 4, 5]), (5, [5]), (50, [5])])
def test_the_log_has_a_line_every_so_many_steps_and_one_at_the_end(every, lines):
    log = Lines()
    one_epoch(Linear(), SpyBatches(1.0, 5), log, print_freq=every, epochs=7, epoch=1)
    assert [line.split("  ")[0] for line in log.lines] == [f"epoch 2/7 [{index}/5]" for index in lines]


def test_an_epochs_figures_are_means_over_its_images():
    class Uneven(SpyBatches):
        def epoch(self, epoch=0, steps=None, start=0):
            (x, y), (x2, y2) = super().epoch(epoch)
            yield x, y
            yield x2[:2], y2[:2]

    class Answers(Linear):
        def forward(self, x):
            logits = super().forward(x).logits * 0
            right = len(x) == 2
            return RetrainOutput(logits + torch.eye(10, dtype=torch.float64)[[0, 1] if right else [9] * 4] * 5, None)

    assert one_epoch(Answers(), Uneven(1.0, 2))["train/top1"] == pytest.approx(100 * 2 / 6)


def test_a_bad_step_is_left_out_where_the_flag_says_so():
    class Broken(SpyBatches):
        def epoch(self, epoch=0, steps=None, start=0):
            for step, (x, y) in enumerate(super().epoch(epoch, steps, start)):
                yield (x * math.nan if step == 1 else x), y

    network = Linear()
    means = one_epoch(network, Broken(1.0, 3), on_nan="skip")
    assert math.isfinite(means["train/loss"]) and all(p.isfinite().all() for p in network.parameters())


def test_top_1_top_5_and_loss_of_a_test():
    class Ranked(nn.Module):
        """Puts the label at the place that the image says."""

        def forward(self, x):
            assert not torch.is_grad_enabled() and not self.training
            return RetrainOutput(x, None)

    logits = torch.arange(8.0, 0.0, -1).repeat(8, 1)  # class 0 before class 1 and so on
    batches = SimpleNamespace(epoch=lambda: iter([(logits[:5], torch.arange(5)), (logits[5:], torch.arange(5, 8))]))
    accuracy = evaluate(Ranked().train(), Classification(10), batches, Precision(CPU, False, "bf16"))
    assert (accuracy.top1, accuracy.top5, accuracy.images) == pytest.approx((12.5, 62.5, 8))
    assert accuracy.loss == pytest.approx(classification_loss(logits, torch.arange(8)).item())
    few = SimpleNamespace(epoch=lambda: iter([(logits[:3, :3], torch.arange(3))]))
    assert evaluate(Ranked(), Classification(3), few, Precision(CPU, False, "bf16")).top5 == 100


def test_label_smoothing_and_mixed_targets_by_their_formula():
    logits = torch.randn(6, 10, dtype=torch.float64)
    mixed = torch.rand(6, 10, dtype=torch.float64).softmax(1)
    for smooth in (0.0, 0.1, 0.5):
        for targets in (torch.arange(6), mixed):
            loss = classification_loss(logits, targets, smooth).item()
            assert loss == pytest.approx(smooth_loss(logits, targets, smooth).item())


@pytest.mark.parametrize("batch", [256, 257])
def test_the_learning_rate_starts_slowly_for_large_batches_and_falls_to_0(batch):
    for epoch in range(8):
        expected = 0.4 * (1 + math.cos(math.pi * epoch / 8)) / 2
        expected *= (epoch + 1) / 3 if batch > 256 and epoch < 3 else 1
        assert retrain_lr(0.4, epoch, 8, 3, batch) == pytest.approx(expected)
    assert retrain_lr(0.4, 8, 8, 3, batch) == pytest.approx(0)


def test_the_step_that_was_not_finite_is_counted_from_the_start_of_the_training():
    class Broken(SpyBatches):
        def epoch(self, epoch=0, steps=None, start=0):
            for step, (x, y) in enumerate(super().epoch(epoch, steps, start)):
                yield (x * math.nan if step == 1 else x), y

    with pytest.raises(CydasError, match="not finite at step 8, epoch 3/600 "):
        one_epoch(Linear(), Broken(1.0, 3), epoch=2)


# -- the program -----------------------------------------------------------------------------------------------------


@pytest.fixture
def program(monkeypatch):
    """``retrain.py`` with epochs and tests that do nothing but note what they were given; accuracies as one likes."""
    noted = SimpleNamespace(epochs=[], accuracies=[], events=[], seed=None)

    def epoch(training, batches, *rest):
        network, optimiser, epoch = training.network, training.optimiser, training.epoch
        training._set_rate(training.schedule(epoch * len(batches)))
        (group,) = optimiser.param_groups
        drops = {float(m.p) for m in network.modules() if isinstance(m, DropPath)}
        noted.events.append("train")
        noted.seed = torch.initial_seed()
        noted.epochs.append(
            SimpleNamespace(
                epoch=epoch, lr=group["lr"], group=group, optimiser=optimiser, drops=drops, training=training,
                network=network, batches=batches, n_classes=training.task.n_classes, guard=training.guard,
            )
        )  # fmt: skip
        return {}

    def test(network, task, batches, precision):
        noted.events.append("test")
        noted.tested = batches
        top1, top5 = noted.accuracies.pop(0) if noted.accuracies else (50.0, 90.0)
        return Accuracy(top1, top5, 1.0, 359)

    copy_from_main = loop.copy_from_main

    def copied(network):
        noted.events.append("copy")
        copy_from_main(network)

    monkeypatch.setattr(Training, "train_epoch", epoch)
    monkeypatch.setattr(loop, "evaluate", test)
    for module in (CyDAS.retrain, loop):
        monkeypatch.setattr(module, "copy_from_main", copied)
    return noted


def darts(folder, *flags):
    folder.mkdir(exist_ok=True)
    (folder / "darts.json").write_text(json.dumps({"0": repr(GENOTYPE)}))
    small = ["--space", "darts", "--stem_multiplier", "1", "--cell_file", str(folder / "darts.json")]
    return run_retrain(folder, *small, "--image_size", "12", *flags)


def test_drop_path_grows_linearly_in_every_operation(program, tmp_path):
    darts(tmp_path, "--epochs", "4", "--drop_path_prob", "0.4")
    assert [epoch.epoch for epoch in program.epochs] == [0, 1, 2, 3]
    assert all(len(epoch.drops) == 1 for epoch in program.epochs)
    assert [min(epoch.drops) for epoch in program.epochs] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_drop_path_reaches_what_the_network_computes():
    torch.manual_seed(0)
    network = RetrainNetwork(Layout(init_channels=2, stem_multiplier=1, image_size=12), [GENOTYPE] * 3, False)
    cell = network.nas_layers[0][0]
    state = (torch.rand(64, 2, 12, 12), torch.rand(64, 2, 12, 12))
    outcomes = {}
    for probability in (0.0, 0.4):
        network.set_drop_path(probability)
        for mode in (True, False):
            torch.manual_seed(1)
            outcomes[probability, mode] = cell.train(mode)(state)[1]
    assert not torch.equal(outcomes[0.0, True], outcomes[0.4, True])
    changed = (outcomes[0.0, True] != outcomes[0.4, True]).flatten(1).any(1)
    assert changed.all()  # a sample is either dropped or scaled
    torch.testing.assert_close(outcomes[0.4, False], outcomes[0.0, False], rtol=0.1, atol=0.5)  # statistics moved once


def test_the_auxiliary_head_speaks_in_training_only():
    network = RetrainNetwork(Layout(init_channels=2, stem_multiplier=1, image_size=12), [GENOTYPE] * 3, True)
    x = torch.randn(2, 3, 12, 12)
    assert network.train()(x).auxiliary.shape == (2, 10) and network.eval()(x).auxiliary is None
    seen = []
    network.aux_head.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    network.train()(x)
    assert seen == [(2, 4 * 8, 3, 3)]  # what stage 2 of 3 gives out


@pytest.mark.parametrize(
    ("flags", "rates"),
    [
        (["--batch_size", "256"], [0.8, 0.6, 0.2]),
        (["--batch_size", "257"], [0.4, 0.6, 0.2]),
        (["--batch_size", "129", "--accum_steps", "2"], [0.4, 0.6, 0.2]),
        (["--batch_size", "64", "--scale_lr", "--reference_batch", "128"], [0.4, 0.3, 0.1]),
    ],
    ids=str,
)
def test_learning_rates_of_the_epochs(program, tmp_path, flags, rates):
    run_retrain(tmp_path, "--epochs", "3", "--lr", "0.8", "--warmup_epochs", "2", *flags)
    assert [epoch.lr for epoch in program.epochs] == pytest.approx(rates)
    assert len({id(epoch.optimiser) for epoch in program.epochs}) == 1


@pytest.mark.parametrize("nesterov", [False, True])
def test_the_optimiser_has_the_flags_options(program, tmp_path, nesterov):
    flags = ["--momentum", "0.6", "--weight_decay", "0.03"] + ["--nesterov"] * nesterov
    run_retrain(tmp_path, "--epochs", "1", *flags)
    (epoch,) = program.epochs
    assert type(epoch.optimiser) is torch.optim.SGD
    assert (epoch.group["momentum"], epoch.group["weight_decay"]) == (0.6, 0.03)
    assert (epoch.group["nesterov"], epoch.group["dampening"]) == (nesterov, 0)
    assert {id(p) for p in epoch.group["params"]} == {id(p) for p in epoch.network.parameters()}


def test_an_epoch_ends_with_a_test_of_all_images_by_weights_that_all_processes_share(program, tmp_path):
    run = run_retrain(tmp_path, "--epochs", "2")
    assert program.events == ["copy", *["train", "copy", "test"] * 2]
    assert not program.tested.train and sum(len(y) for _, y in program.tested.epoch()) == 359
    (epoch, _) = program.epochs
    assert epoch.n_classes == 10 and epoch.batches.train
    assert sum(len(y) for _, y in epoch.batches.epoch(0)) == 1438
    assert "epoch 2/2: test top-1 50.00, top-5 90.00 (best top-1 50.00)" in (run / "retrain.log").read_text()


def test_last_and_best_are_told_apart_by_top_1(program, tmp_path):
    program.accuracies = [(50.0, 90.0), (70.0, 80.0), (70.0, 85.0), (60.0, 95.0)]
    run = run_retrain(tmp_path, "--epochs", "4")
    text = (run / "result.json").read_text()
    result = json.loads(text)
    assert list(result)[:2] == ["last", "best"] and result["epochs"] == 4
    assert (result["last"]["top1"], result["last"]["top5"]) == (60.0, 95.0)
    assert (result["best"]["top1"], result["best"]["top5"]) == (70.0, 80.0)
    assert load_checkpoint(run / "last.pth.tar")["epoch"] == 4
    assert load_checkpoint(run / "best.pth.tar")["epoch"] == 2
    resume = load_checkpoint(run / "retrain_resume.pth.tar")
    assert (resume["best_top1"], resume["best_top5"], resume["sta_epoch"]) == (70.0, 80.0, 4)
    assert resume["lr_scheduler"] == {"last_epoch": 4}
    log = (run / "retrain.log").read_text()
    assert log.index("last epoch: top-1 60.00 %") < log.index("best epoch: top-1 70.00 % (chosen on the test set)")


def test_a_first_epoch_without_any_success_is_the_best_so_far(program, tmp_path):
    program.accuracies = [(0.0, 0.0)]
    assert load_checkpoint(run_retrain(tmp_path, "--epochs", "1") / "best.pth.tar")["epoch"] == 1


def test_more_epochs_go_on_from_the_last_and_remember_the_best(program, tmp_path):
    program.accuracies = [(70.0, 90.0), (60.0, 90.0), (65.0, 90.0)]
    run_retrain(tmp_path, "--epochs", "2")
    with pytest.raises(CydasError, match="--epochs may only grow"):
        run_retrain(tmp_path, "--epochs", "1", "--resume")
    run = run_retrain(tmp_path, "--epochs", "3", "--resume")
    assert [epoch.epoch for epoch in program.epochs] == [0, 1, 2]
    assert json.loads((run / "result.json").read_text())["best"]["top1"] == 70.0
    assert load_checkpoint(run / "best.pth.tar")["epoch"] == 1


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_without_its_weight_there_is_no_auxiliary_head(program, tmp_path, weight):
    darts(tmp_path, "--epochs", "1", "--aux_weight", str(weight))
    assert (program.epochs[0].network.aux_head is not None) == (weight > 0)
    assert program.epochs[0].training.task.aux_weight == weight


@pytest.mark.parametrize("length", [0, 10, None])
def test_cutout_blanks_squares_of_the_flags_side(program, tmp_path, length, monkeypatch):
    from torchvision import datasets

    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    flags = "--epochs 1 --dataset cifar10 --image_size 32".split()
    run_retrain(tmp_path, *flags, cutout_length=length)
    images = torch.cat([x for e in range(8) for x, _ in program.epochs[0].batches.epoch(e)])
    blank = (images == 0).all(1).flatten(1).sum(1)
    side = 16 if length is None else length
    assert int(blank.max()) == side**2 and (side == 0 or int(blank.min()) >= (side // 2) ** 2)


def test_folders_are_trained_on_without_cutout_unless_it_is_given(program, tmp_path):
    make_images(tmp_path / "images")
    flags = ["--epochs", "1", "--dataset", "folder", "--data_dir", str(tmp_path / "images"), "--workers", "0"]
    run = run_retrain(tmp_path, *flags, cutout_length=None)
    config = load_checkpoint(run / "last.pth.tar")["config"]
    assert config["cutout_length"] == 0 and program.epochs[0].n_classes == 2
    with pytest.raises(CydasError, match="--cutout_length 0"):
        run_retrain(tmp_path, *flags, "--overwrite", cutout_length=16)


@pytest.mark.parametrize(
    ("dataset", "space", "given", "expected"),
    [
        ("cifar10", "darts", [], (3e-4, 0.2)),
        ("cifar100", "darts", [], (3e-4, 0.2)),
        ("cifar10", "darts", ["--weight_decay", "0.01"], (0.01, 0.2)),
        ("cifar10", "darts", ["--drop_path_prob", "0.1"], (3e-4, 0.1)),
        ("cifar10", "nats", [], (5e-4, 0.3)),
        ("digits", "darts", [], (5e-4, 0.3)),
    ],
)
def test_the_rule_for_small_networks_is_cifars(program, tmp_path, monkeypatch, dataset, space, given, expected):
    from torchvision import datasets

    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    monkeypatch.setattr(datasets, "CIFAR100", FakeCifar100)
    start = darts if space == "darts" else run_retrain
    run = start(tmp_path, "--epochs", "1", "--dataset", dataset, *given)
    config = load_checkpoint(run / "last.pth.tar")["config"]
    assert (config["weight_decay"], config["drop_path_prob"]) == expected
    assert program.epochs[0].group["weight_decay"] == expected[0]
    ruled = (run / "retrain.log").read_text().count("by the network's size")
    assert ruled == (2 if space == "darts" and dataset != "digits" else 0)


def test_each_processs_random_choices_are_its_own(program, tmp_path, monkeypatch):
    """Drop path and mixup draw from the global generator."""
    run_retrain(tmp_path / "0", "--epochs", "1", "--seed", "5")
    seeds = [program.seed]
    monkeypatch.setattr("CyDAS.runs.start.start_process", lambda *_: Process(3, 4, CPU))
    run_retrain(tmp_path / "3", "--epochs", "1", "--seed", "5")
    assert [*seeds, program.seed] == [5, 8]


# -- what is faster must stay what it is -----------------------------------------------------------------------------


@pytest.mark.parametrize("fuse", [False, True])
def test_batch_norms_are_folded_where_the_flag_says_so(monkeypatch, fuse):
    monkeypatch.setattr(tensors, "library", lambda: None)
    network = RetrainNetwork(Layout(init_channels=2, stem_multiplier=1, image_size=12), [GENOTYPE] * 3, False).eval()
    make_fast(network, EvaluationConfig(fuse=fuse), torch.zeros(1, 3, 12, 12))
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules()) != fuse


def test_a_first_step_is_that_of_the_whole_program(tmp_path):
    """Nothing replaced: the gradient of the loss that the flags say, at the learning rate that they say."""
    flags = "--epochs 2 --lr 0.3 --label_smooth 0.2 --grad_clip 0.05 --nesterov --warmup_epochs 0".split()
    with first_step() as step:
        run_retrain(tmp_path, *flags)
    assert (step.options["lr"], step.options["nesterov"]) == (0.3, True)
    norm = torch.stack([g.norm() for g in step.gradients if g is not None]).norm()
    assert float(norm) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize(("launcher", "error", "ignored"), [
    (True, LostProcess("gone"), True), (True, CydasError("other"), False), (False, LostProcess("gone"), False),
])  # fmt: skip
def test_who_has_lost_another_process_is_not_stopped_before_it_has_said_so(
    tmp_path, monkeypatch, launcher, error, ignored
):
    """torchrun tells all to end as soon as one has."""
    monkeypatch.setattr(os, "environ", {"TORCHELASTIC_RUN_ID": "x"} if launcher else {})
    before = {number: signal.getsignal(number) for number in SIGNALS}
    keeper = Keeper(tmp_path / "checkpoint", 1.0, ONE, Lines(), keep=False, again=[])
    try:
        with pytest.raises(CydasError), keeper:
            raise error
        assert (signal.getsignal(signal.SIGTERM) is signal.SIG_IGN) == ignored
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_what_is_not_finite_is_not_saved(tmp_path):
    """The report of the figures so far ends the run, which then goes on from the checkpoint before."""
    network = Linear()
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    training = make_training(network, optimiser)
    keeper = Keeper(tmp_path / "checkpoint", 1.0, ONE, Lines(), keep=False, again=[])
    training.save(keeper, {})
    before = (tmp_path / "checkpoint").read_bytes()
    training.state.printed.add({"loss": torch.tensor(math.nan)})
    with pytest.raises(CydasError, match="not finite"):
        training.save(keeper, {})
    assert (tmp_path / "checkpoint").read_bytes() == before
    search = make_search()
    search.averages.add({"loss": torch.tensor(math.inf)})
    keeper = Keeper(tmp_path / "search", 1.0, ONE, Lines(), keep=False, again=[])
    progress = SearchProgress(Run(tmp_path, ONE, Lines(), keeper, {}, None, tmp_path / "search"))
    with pytest.raises(CydasError, match="not finite"):
        progress.end_phase(search)
    assert not (tmp_path / "search").exists()


@pytest.mark.parametrize("skip", [False, True])
def test_what_is_not_finite_is_left_out_where_the_flag_says_so(program, tmp_path, skip):
    run_retrain(tmp_path, "--epochs", "1", *["--on_nan", "skip"] * skip)
    assert program.epochs[0].guard.skips == skip
