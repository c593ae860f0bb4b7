"""float16: an overflow is left out, a gradient that is really not finite stops the run, on a CPU as on a GPU."""

import copy
import logging

import pytest
import torch

from CyDAS.engine.guard import LIMIT, StepGuard
from CyDAS.engine.optim import Precision, update
from CyDAS.models.heads import RetrainOutput
from CyDAS.runs.logs import RunLog
from CyDAS.utils.errors import CydasError
from tests.spies import make_training
from tests.test_engine import batch, make_search

CPU = torch.device("cpu")


class Treacherous(torch.nn.Module):
    """Its output is finite; its gradient times ``factor(step)`` is what comes back: NaN, or more than float16 holds."""

    def __init__(self, factor):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(10))
        self.register_buffer("seen", torch.zeros(()))
        self.factor = factor
        self.steps = 0

    def forward(self, x):
        self.steps += 1
        self.seen += 1
        logits = x + self.weight
        factor = self.factor(self.steps)
        logits.register_hook(lambda gradient: gradient * factor)
        return RetrainOutput(logits, None)


class Steps:
    """So many batches of two images."""

    def __init__(self, steps):
        self.steps = steps

    def __len__(self):
        return self.steps

    def epoch(self, epoch=0, steps=None, start=0):
        for _ in range(start, self.steps):
            yield torch.randn(2, 10), torch.tensor([1, 2])


def train(network, steps, guard, precision=None, print_freq=1000):
    log = RunLog(None)
    log.last_checkpoint = "runs/last.pth.tar"
    optimiser = torch.optim.SGD([network.weight], lr=0.1)
    precision = precision or Precision(CPU, True, "fp16")
    training = make_training(network, optimiser, precision, guard, rate=0.1, print_freq=print_freq)
    return training.train_epoch(Steps(steps), log, lambda: None)


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_gradient_that_is_never_finite_stops_the_run_as_elsewhere(on_nan, factor):
    network, guard = Treacherous(lambda step: factor), StepGuard(on_nan)
    words = f"more than {LIMIT} steps in a row were not finite .train/loss .*Last good checkpoint: runs/last.pth.tar"
    with pytest.raises(CydasError, match=words) as error:
        train(network, 40, guard)
    assert network.steps == guard.skipped == LIMIT + 1
    assert "gradient_norm 0" not in str(error.value) and "float16's loss scale is now 32" in str(error.value)
    assert torch.equal(network.weight, torch.ones(10))
    assert float(network.seen) == (0 if on_nan == "skip" else LIMIT + 1)  # what the network has seen, with it


def test_a_few_overflows_at_the_start_find_the_scale_and_are_told(caplog, monkeypatch):
    network, guard, precision = Treacherous(lambda step: 1e16), StepGuard("stop"), Precision(CPU, True, "fp16")
    monkeypatch.setattr(logging.getLogger("CyDAS.engine.guard"), "parent", logging.getLogger())  # a run's is its own
    with caplog.at_level("WARNING"):
        means = train(network, 20, guard, precision)
    assert 3 < guard.skipped < LIMIT and not torch.equal(network.weight, torch.ones(10))
    assert means["train/loss"] == means["train/loss"]
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == guard.skipped and "number 2 of this run: train/loss" in told[1]
    assert "float16's loss scale is now 32768" in told[0]


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_good_updates_in_between_do_not_hide_a_gradient_that_is_not_finite(on_nan):
    """As where val's gradient is never finite, and train's always: the scale sinks until nothing would move."""
    network, guard = Treacherous(lambda step: float("nan") if step % 2 else 1.0), StepGuard(on_nan)
    with pytest.raises(CydasError, match="the gradient is not finite, whatever the loss scale .*is now 0.5"):
        train(network, 60, guard)
    assert guard.skipped == 17 and network.steps == 33


def test_the_count_goes_on_with_the_run():
    guard = StepGuard("stop")
    precision = Precision(CPU, True, "fp16")
    train(Treacherous(lambda step: float("nan")), 6, guard, precision)
    again, later = StepGuard("stop"), Precision(CPU, True, "fp16")
    again.load_state_dict(copy.deepcopy(guard.state_dict()))
    later.scaler.load_state_dict(precision.scaler.state_dict())
    network = Treacherous(lambda step: float("nan"))
    with pytest.raises(CydasError, match="in a row"):
        train(network, 40, again, later)
    assert network.steps == LIMIT + 1 - 6


def test_a_search_in_float16_stops_too():
    search = make_search(use_amp=True, amp_dtype="fp16")
    search.precision.enabled = False  # convolutions in float16 take CPUs half a minute; the scaler is what is tested
    for parameter in search.joint.super_layers.parameters():
        parameter.register_hook(lambda gradient: gradient * float("nan"))
    before = {name: p.detach().clone() for name, p in search.joint.named_parameters()}
    x, y = batch()
    search.guard.load_state_dict({"skipped": LIMIT, "in_a_row": LIMIT - 1})
    assert search._guarded("train", search.train_update, (x, y)) and search.guard.skipped == LIMIT + 1
    with pytest.raises(CydasError, match="more than 10 steps in a row .*train/loss_search"):
        search._guarded("train", search.train_update, (x, y))
    assert all(torch.equal(p, before[name]) for name, p in search.joint.named_parameters())


def test_a_loss_that_is_not_finite_moves_nothing_though_its_gradient_is():
    weight = torch.nn.Parameter(torch.ones(()))
    scaler = Precision(CPU, True, "fp16").scaler
    loss = weight + torch.tensor(float("inf"))
    update([loss], [torch.optim.SGD([weight], lr=1.0)], 5.0, scaler, skip_bad=True)
    assert weight.item() == 1.0
