"""timm's recipe of training, flag by flag: optimiser, learning rates, running mean of the weights."""

import json
import re
from contextlib import contextmanager

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from timm.optim.rmsprop_tf import RMSpropTF
from timm.scheduler import create_scheduler_v2
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import CyDAS.engine.training as loop
from CyDAS.config import RetrainConfig
from CyDAS.engine.averaging import Weights
from CyDAS.engine.optim import optimiser_of
from CyDAS.engine.schedules import retrain_schedule
from CyDAS.models.heads import RetrainOutput
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.weights import find_weights
from CyDAS.test import main as evaluate
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse
from tests.spies import Lines, SpyBatches, make_training, run_retrain
from tests.test_reliability import same
from tests.two_ranks import run_ranks

# -- learning rates ----------------------------------------------------------------------------------------------------


def timms(config, name):
    """timm's learning rates of all epochs, and how many there are."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=config.lr)
    scheduler, epochs = create_scheduler_v2(
        optimiser, name, num_epochs=config.epochs, decay_epochs=config.decay_epochs, decay_rate=config.decay_rate,
        cooldown_epochs=config.cooldown_epochs, min_lr=config.min_lr, warmup_lr=config.warmup_lr,
        warmup_epochs=config.warmup_epochs,
    )  # fmt: skip
    rates = []
    for epoch in range(epochs):
        scheduler.step(epoch)
        rates.append(optimiser.param_groups[0]["lr"])
    return rates, epochs


@pytest.mark.parametrize("schedule", ["cosine", "step"])
@pytest.mark.parametrize(
    "flags",
    [
        {"epochs": 500, "warmup_epochs": 3},
        {"epochs": 7, "warmup_epochs": 0, "cooldown_epochs": 0, "min_lr": 0.0},
        {"epochs": 30, "warmup_epochs": 5, "warmup_lr": 0.01, "min_lr": 1e-3, "decay_epochs": 3.0, "decay_rate": 0.5},
        {"epochs": 2, "warmup_epochs": 5, "cooldown_epochs": 9},
    ],
    ids=str,
)
def test_the_rate_of_every_epoch_is_timms(schedule, flags):
    config = RetrainConfig(lr=0.064, lr_schedule=f"timm_{schedule}", **flags)
    rates, epochs = timms(config, schedule)
    assert config.total_epochs == epochs
    schedule = retrain_schedule(config, 4, processes=1)
    assert [schedule(4 * epoch) for epoch in range(epochs)] == pytest.approx(rates, rel=1e-12)
    assert all(schedule(step) == schedule(step // 4 * 4) for step in range(4 * epochs))


def test_the_recipe_lasts_510_epochs_and_starts_with_the_rates_that_are_known_of_it():
    config = RetrainConfig(lr=0.064, lr_schedule="timm_cosine", epochs=500, warmup_epochs=3)
    schedule = retrain_schedule(config, 1, processes=8)
    assert config.total_epochs == 510
    assert [schedule(epoch) for epoch in (0, 1, 2)] == pytest.approx([1e-6, 0.021334, 0.042667], abs=1e-6)
    assert {schedule(epoch) for epoch in range(500, 510)} == {1e-5}


@pytest.mark.parametrize(("schedule", "epochs"), [("cosine", 2), ("timm_step", 2), ("timm_cosine", 3)])
def test_cool_down_epochs_are_trained_where_the_schedule_has_them(tmp_path, schedule, epochs):
    flags = "--epochs 2 --cooldown_epochs 1 --warmup_epochs 1 --lr 0.1 --lr_schedule".split()
    run = run_retrain(tmp_path, *flags, schedule)
    assert json.loads((run / "result.json").read_text())["epochs"] == epochs
    lines = re.findall(r"epoch (\d)/(\d): test .* lr (\S+)", (run / "retrain.log").read_text())
    assert [(int(n), int(of)) for n, of, _ in lines] == [(epoch + 1, epochs) for epoch in range(epochs)]
    first, last = float(lines[0][2]), float(lines[-1][2])
    assert first == (0.1 if schedule == "cosine" else 1e-6)
    assert schedule != "timm_cosine" or last == 1e-5


# -- optimiser ---------------------------------------------------------------------------------------------------------


def test_weights_decay_and_biases_and_norms_do_not_as_timm_groups_them():
    network = timm.create_model("cdarts_a")
    config = RetrainConfig(optimizer="rmsproptf", no_decay_1d=True, weight_decay=1e-5, lr=0.064)
    mine = optimiser_of(network, config)
    its = create_optimizer_v2(
        network, "rmsproptf", lr=0.064, weight_decay=1e-5, momentum=0.9, alpha=0.9, eps=1e-3, filter_bias_and_bn=True
    )
    assert type(mine) is type(its) is RMSpropTF and len(mine.param_groups) == len(its.param_groups) == 2
    for group, expected in zip(mine.param_groups, its.param_groups, strict=True):
        assert list(map(id, group.pop("params"))) == list(map(id, expected.pop("params")))
        assert group == expected
    plain, *more = optimiser_of(network, config_with(config, no_decay_1d=False)).param_groups
    assert not more and len(plain["params"]) == 189 and plain["weight_decay"] == 1e-5


def config_with(config, **changes):
    return RetrainConfig(**{**vars(config), **changes})


@pytest.mark.parametrize("optimizer", ["sgd", "rmsproptf", "adamw"])
def test_the_optimiser_takes_its_options_from_the_flags(tmp_path, optimizer):
    flags = "--epochs 1 --warmup_epochs 0 --lr 0.3 --momentum 0.7 --weight_decay 0.05 --no_decay_1d".split()
    with groups_of_first_step() as groups:
        run_retrain(tmp_path, *flags, "--opt_alpha", "0.8", "--opt_eps", "0.02", "--optimizer", optimizer)
    flat, others = groups
    assert {p.ndim for p in flat["params"]} == {1} and 1 not in {p.ndim for p in others["params"]}
    assert (flat["weight_decay"], others["weight_decay"]) == (0, 0.05)
    for group in groups:
        assert (group["lr"], group.get("momentum") or group["betas"][0]) == (0.3, 0.7)
        assert optimizer != "rmsproptf" or (group["alpha"], group["eps"]) == (0.8, 0.02)


@contextmanager
def groups_of_first_step():
    """The parameter groups that an optimiser has when it takes its first step."""
    groups = []

    def note(optimiser, *_):
        if not groups:
            groups.extend(dict(group) for group in optimiser.param_groups)

    handle = register_optimizer_step_pre_hook(note)
    try:
        yield groups
    finally:
        handle.remove()


# -- the mean of the weights -------------------------------------------------------------------------------------------


class Normed(nn.Module):
    """Logits that go through a batch norm; no double precision, as in a training."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.linear, self.norm = nn.Linear(192, 10), nn.BatchNorm1d(10)

    def forward(self, x):
        return RetrainOutput(self.norm(self.linear(x.flatten(1))), None)


def train_epoch(training, batches):
    training.train_epoch(batches, Lines(), lambda: None)


def test_parameters_and_statistics_are_averaged_after_every_update():
    training = make_training(Normed(), ema_decay=0.75)
    network, states = training.network, []
    before = {name: value.clone() for name, value in network.state_dict().items()}
    update = training.weights.update
    training.weights.update = lambda: (update(), states.append({k: v.clone() for k, v in network.state_dict().items()}))
    train_epoch(training, SpyBatches(1.0, 5))
    assert len(states) == 5
    average = training.weights.average.module.state_dict()
    for name, mean in before.items():
        for state in states:
            mean = 0.75 * mean + 0.25 * state[name] if mean.is_floating_point() else state[name]
        torch.testing.assert_close(average[name], mean)
    assert int(average["norm.num_batches_tracked"]) == 5
    assert not torch.equal(average["norm.running_mean"], network.norm.running_mean)


def test_an_update_that_is_left_out_does_not_move_the_mean():
    class Broken(SpyBatches):
        def epoch(self, epoch=0, steps=None, start=0):
            for step, (x, y) in enumerate(super().epoch(epoch, steps, start)):
                yield (x * float("nan") if step == 1 else x), y

    training = make_training(Normed(), ema_decay=0.5, on_nan="skip")
    seen = []
    update = training.weights.update
    training.weights.update = lambda: seen.append(update())
    train_epoch(training, Broken(1.0, 3))
    assert len(seen) == 2 and all(v.isfinite().all() for v in training.weights.average.module.state_dict().values())


def test_a_mean_stays_float32_in_mixed_precision():
    training = make_training(Normed(), ema_decay=0.9, use_amp=True)
    train_epoch(training, SpyBatches(1.0, 2))
    assert {v.dtype for v in training.weights.average.module.parameters()} == {torch.float32}
    assert not torch.equal(training.weights.average.module.linear.weight, training.network.linear.weight)


def test_without_a_decay_there_is_no_mean_and_nothing_of_it():
    weights = Weights(Normed())
    assert (
        weights.average is None
        and list(weights.state_dicts()) == ["model_main"]
        and list(weights.buffers()) == ["buffers"]
    )
    with_mean = Weights(Normed(), 0.9)
    assert list(with_mean.state_dicts()) == ["model_main", "state_dict_ema"]


def test_each_process_goes_on_with_its_own_statistics_of_both():
    """A checkpoint's weights are the main process's; batch norm statistics differ within an epoch."""
    weights = Weights(Normed(), 0.9)
    means = [network.norm.running_mean for network in weights.networks().values()]
    for value, mean in enumerate(means, start=1):
        mean.fill_(value)
    own = weights.buffers()
    for mean in means:
        mean.zero_()
    weights.set_buffers(own)
    assert [mean.tolist() for mean in means] == [[1.0] * 10, [2.0] * 10]


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A short training whose mean is far behind its weights."""
    folder = tmp_path_factory.mktemp("averaged")
    return run_retrain(folder, *"--epochs 3 --ema_decay 0.8 --lr 0.1".split())


def test_the_mean_is_what_a_training_reports_and_the_plain_weights_are_said_beside_it(averaged):
    result, log = json.loads((averaged / "result.json").read_text()), (averaged / "retrain.log").read_text()
    assert result["last"] != result["last_plain"]
    assert f"epoch 3/3: test top-1 {result['last']['top1']:.2f}" in log
    assert f"epoch 3/3: without averaging top-1 {result['last_plain']['top1']:.2f}" in log
    assert f"last epoch without averaging: top-1 {result['last_plain']['top1']:.2f} %" in log


@pytest.mark.parametrize(("flags", "name", "others"), [
    ([], "last", "state_dict_ema; others (--weights_key): model_main"),
    (["--weights_key", "model_main"], "last_plain", "model_main; others (--weights_key): state_dict_ema"),
])  # fmt: skip
@pytest.mark.parametrize("file", ["last.pth.tar", "retrain_resume.pth.tar"])
def test_a_test_takes_the_mean_unless_it_is_told_otherwise_and_says_so(averaged, capsys, flags, name, others, file):
    folder = averaged.parents[1]
    evaluate(["--output_dir", str(folder), "--name", "run", "--resume_name", file, "--no-fuse", *flags])
    said, expected = capsys.readouterr().out, json.loads((averaged / "result.json").read_text())[name]
    assert f"top-1 {expected['top1']:.2f} %  top-5 {expected['top5']:.2f} %" in said
    assert f"the weights are those under {others}" in said


def test_weights_of_other_programs_are_the_plain_ones_as_before(averaged):
    content = load_checkpoint(averaged / "last.pth.tar")
    assert find_weights(content, averaged).where == "model_main"


# -- the whole recipe --------------------------------------------------------------------------------------------------

WHOLE = (
    "--epochs 2 --cooldown_epochs 1 --warmup_epochs 1 --lr 0.01 --lr_schedule timm_cosine --optimizer rmsproptf "
    "--weight_decay 1e-5 --no_decay_1d --grad_clip 0 --ema_decay 0.9 --rand_augment rand-m9-mstd0.5 --random_erase 0.2"
).split()


@pytest.mark.parametrize("step", [1, 4, 7])
def test_the_whole_recipe_ends_as_if_it_had_not_been_cut_off(averaged_whole, tmp_path, monkeypatch, step):
    learn, left = loop.learn, [step]

    def cut(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return learn(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "learn", cut)
        with pytest.raises(KeyboardInterrupt):
            run_retrain(tmp_path, *WHOLE, "--checkpoint_minutes", "1e-9")
    run = run_retrain(tmp_path, *WHOLE, "--resume")
    for name in ("retrain_resume.pth.tar", "last.pth.tar", "best.pth.tar"):
        ours, theirs = (load_checkpoint(folder / name) for folder in (run, averaged_whole))
        assert same(ours, theirs), name
        assert {"model_main", "state_dict_ema"} <= set(ours)
    assert (run / "result.json").read_text().split('"about"')[0] == (
        (averaged_whole / "result.json").read_text().split('"about"')[0]
    )


@pytest.fixture(scope="module")
def averaged_whole(tmp_path_factory):
    return run_retrain(tmp_path_factory.mktemp("whole"), *WHOLE)


@pytest.mark.parametrize("flags", [
    ["--ema_decay", "0.8"], ["--optimizer", "sgd"], ["--no-no_decay_1d"], ["--lr_schedule", "timm_step"],
    ["--rand_augment", "rand-m8-mstd0.5"], ["--random_erase", "0.1"], ["--cooldown_epochs", "2"], ["--opt_eps", "1e-2"],
])  # fmt: skip
def test_a_training_goes_on_with_the_same_recipe_only(averaged_whole, flags):
    with pytest.raises(
        CydasError, match=f"was made with other flags: --{flags[0].removeprefix('--').removeprefix('no-')} "
    ):
        run_retrain(averaged_whole.parents[1], *WHOLE, *flags, "--resume")


def test_a_dry_run_counts_the_mean(tmp_path, capsys):
    times = []
    for flags in ([], ["--ema_decay", "0.9"]):
        run_retrain(tmp_path, "--epochs", "5", *flags, "--dry_run")
        times.append(int(re.search(r"test step: .* s, (\d+) times", capsys.readouterr().out)[1]))
    assert times[1] == 2 * times[0] and not (tmp_path / "retrain").exists()


def averaged_by_two(process):
    """A mean's parameters and statistics in this process: within the epoch, and after its test."""
    training = make_training(Normed(), ema_decay=0.5)
    train_epoch(training, SpyBatches(1.0 + process.rank, 3))
    states = [{name: value.tolist() for name, value in training.weights.average.module.state_dict().items()}]
    training.test(SpyBatches(1.0, 1))
    return states + [{name: value.tolist() for name, value in training.weights.average.module.state_dict().items()}]


def test_the_mean_is_the_same_in_two_processes():
    (one, one_after), (two, two_after) = run_ranks(averaged_by_two)
    assert one_after == two_after and one_after == one  # the main process's
    differing = {name for name in one if one[name] != two[name]}
    # both see the same variance beside another mean: whether its last digit differs is up to the machine
    assert {"norm.running_mean"} <= differing <= {"norm.running_mean", "norm.running_var"}


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flags", "word"), [
    ("--ema_decay 1", "--ema_decay must be below 1"), ("--ema_decay -0.1", "--ema_decay must be at least 0"),
    ("--opt_eps 0", "--opt_eps must be above 0"), ("--opt_alpha 1", "--opt_alpha must be below 1"),
    ("--decay_rate 1.1", "--decay_rate must be at most 1"), ("--decay_epochs 0", "--decay_epochs must be above 0"),
    ("--random_erase 1.1", "--random_erase must be at most 1"), ("--crop_pct 1.1", "--crop_pct must be at most 1"),
    ("--min_lr nan", "--min_lr must be a finite number"), ("--cooldown_epochs -1", "--cooldown_epochs must be "),
    ("--use_aa --rand_augment rand-m9", "--use_aa --rand_augment: either takes the place of the other"),
    ("--nesterov --momentum 0", "--nesterov is a kind of momentum"),
])  # fmt: skip
def test_values_that_make_no_recipe_are_refused(flags, word):
    with pytest.raises(CydasError, match=word):
        parse(RetrainConfig, "", [part.replace(" ", "=") for part in re.split(r" (?=--)", flags)])


def test_by_default_the_recipe_is_todays():
    config, _ = parse(RetrainConfig, "", [])
    expected = {
        "optimizer": "sgd", "no_decay_1d": False, "lr_schedule": "cosine", "ema_decay": 0, "rand_augment": None,
        "random_erase": 0, "interpolation": "bilinear", "crop_pct": 0.875, "test_interpolation": "bilinear",
        "opt_alpha": 0.9, "opt_eps": 1e-3, "warmup_lr": 1e-6, "min_lr": 1e-5, "cooldown_epochs": 10,
        "decay_epochs": 2.4, "decay_rate": 0.973,
    }  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected and config.total_epochs == 600
