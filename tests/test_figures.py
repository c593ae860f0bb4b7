"""Figures of the log: means over images and processes, the step that was not finite, what goes through a checkpoint."""

import math
import re
import time

import pytest
import torch
from torch import nn

from CyDAS.engine.estimate import FirstSteps, estimate_search
from CyDAS.engine.optim import learn, update
from CyDAS.models.fuse import fold_batch_norms
from CyDAS.models.weight_pool import WeightPool
from CyDAS.runs.checkpoint import buffers_of, set_buffers
from CyDAS.runs.meters import Averages
from CyDAS.runs.resume import MAY_DIFFER, check_continuation
from CyDAS.tasks.classification import top1
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_macs, count_parameters
from tests.spies import CPU, Lines, SpyBatches, make_search

NO_SCALER = torch.amp.GradScaler("cpu", enabled=False)


def scalar(value):
    return torch.tensor(float(value))


def test_means_weigh_figures_by_their_images_and_start_anew_after_a_report():
    averages, log = Averages(CPU), Lines()
    averages.add({"loss": scalar(1), "other": scalar(5)}, 2)
    averages.add({"loss": scalar(4)}, 1)
    assert averages.means() == pytest.approx({"loss": 2.0, "other": 5.0})
    again = Averages(CPU)
    again.load_state_dict(averages.state_dict())
    assert again.means() == averages.means()
    assert averages.report(log, "epoch", 2) == pytest.approx({"loss": 2.0, "other": 5.0})
    assert log.lines == ["epoch  loss 2  other 5"] and averages.means() == {}
    averages.add({"loss": scalar(7)})
    assert averages.means() == {"loss": 7.0}


def test_a_figure_that_is_not_finite_is_found_at_its_first_step():
    averages, log = Averages(CPU), Lines()
    for value in (1, 2, math.inf, math.nan, 3):
        averages.add({"loss": scalar(value)})
        assert averages.is_finite_everywhere() == (value in (1, 2))
    again = Averages(CPU)
    again.load_state_dict(averages.state_dict())
    for one in (averages, again):
        with pytest.raises(CydasError, match="at step 13, epoch: loss"):  # the last of them is step 15
            one.report(log, "epoch", 15)


def test_top_1_is_a_percentage():
    logits = torch.eye(4)[[0, 1, 2, 2]]
    assert top1(logits, torch.tensor([0, 1, 2, 3])).item() == 75.0


def test_buffers_go_back_where_they_were():
    network = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm2d(2))
    values = buffers_of(network)
    network.train()[0](torch.randn(4, 3, 2, 2))
    assert not torch.equal(network[0].running_mean, values["0.running_mean"])
    set_buffers(network, values)
    assert all(torch.equal(buffer, values[name]) for name, buffer in network.named_buffers())


def test_an_update_is_the_mean_gradient_of_its_parts():
    weight = nn.Parameter(torch.zeros(()))
    x, y = torch.arange(7.0), torch.arange(7)
    sizes = []

    def loss_of(batch):
        x, _ = batch
        sizes.append(len(x))
        return (weight * x).mean(), {"mean": x.mean()}

    figures, norm = learn(loss_of, (x, y), 3, [torch.optim.SGD([weight], lr=1.0)], 100.0, NO_SCALER)
    assert sizes == [3, 2, 2] and norm.item() == pytest.approx(3.0) and weight.item() == pytest.approx(-3.0)
    assert figures["mean"].item() == pytest.approx(3.0)


def test_a_gradient_that_is_not_finite_moves_nothing_where_it_is_to_be_left_out():
    for skip, moved in ((True, False), (False, True)):
        weight = nn.Parameter(torch.ones(()))
        optimiser = torch.optim.SGD([weight], lr=1.0)
        norm = update([weight * math.inf], [optimiser], 5.0, NO_SCALER, skip_bad=skip)
        assert not math.isfinite(norm.item()) and (weight.item() != 1.0) == moved
        with torch.no_grad():
            weight.fill_(1.0)
        update([weight * 2], [optimiser], 1.0, NO_SCALER, skip_bad=skip)
        assert weight.grad is None and weight.item() == pytest.approx(0.0, abs=1e-5)


def test_gradients_of_something_else_do_not_count():
    weight, other = (nn.Parameter(torch.zeros(())) for _ in range(2))
    weight.grad, other.grad = torch.full((), 9.0), torch.full((), 9.0)
    update([weight * 0.5], [torch.optim.SGD([weight, other], lr=1.0)], 5.0, NO_SCALER)
    assert (weight.item(), other.item()) == (-0.5, 0.0)


@pytest.mark.parametrize("apart", [False, True])
def test_what_overflows_in_one_optimiser_is_left_out_in_all_of_them(apart):
    """Not even weight decay or momentum moves the others' parameters."""
    weight, alpha = (nn.Parameter(torch.ones(())) for _ in range(2))
    optimisers = [torch.optim.SGD([p], lr=1.0, weight_decay=0.5) for p in (weight, alpha)]
    scaler = torch.amp.GradScaler("cpu")
    norm = update([weight * math.inf + alpha], optimisers, 5.0, scaler, apart)
    assert (weight.item(), alpha.item(), norm.item()) == (1.0, 1.0, 0.0)
    update([2 * weight + 3 * alpha], optimisers, 5.0, scaler, apart)
    assert (weight.item(), alpha.item()) == pytest.approx((-1.5, -2.5), rel=1e-5)


def test_flags_that_may_differ_in_a_continuation(tmp_path):
    from CyDAS.config import SearchConfig
    from CyDAS.utils.flags import plain

    saved = plain(SearchConfig(w_lr=0.3))
    for name in ("print_freq", "workers", "device", "threads", "checkpoint_minutes", "on_nan"):
        assert name in MAY_DIFFER
    check_continuation(saved, SearchConfig(w_lr=0.3, print_freq=3, workers=0, threads=1, name="x"), tmp_path)
    for flags in ({}, {"w_lr": 0.3, "seed": 1}, {"w_lr": 0.3, "use_amp": True}, {"w_lr": 0.3, "batch_size": 4}):
        with pytest.raises(CydasError, match="was made with other flags"):
            check_continuation(saved, SearchConfig(**flags), tmp_path)
    check_continuation(saved, SearchConfig(), tmp_path, "w_lr")


def test_sizes_of_a_network():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(64, 5)
    )
    assert count_parameters(network) == 3 * 4 * 9 + 8 + 64 * 5 + 5
    assert count_macs(network, (3, 4, 4)) == 16 * 27 * 4 + 64 * 5


def test_the_pool_is_copied_into_and_out_of():
    search = make_search()
    search.start_cycle(Lines())
    pool = WeightPool()
    pool.store(search.joint.nas_layers)
    assert len(pool) > 0 and pool.fill(search.joint.nas_layers) == len(pool)
    kept = {key: {n: t.clone() for n, t in state.items()} for key, state in pool.state_dict().items()}
    with torch.no_grad():
        for parameter in search.joint.nas_layers.parameters():
            parameter.add_(1)
    assert all(torch.equal(t, kept[key][n]) for key, state in pool.state_dict().items() for n, t in state.items())
    other = WeightPool()
    other.load_state_dict(pool.state_dict())
    assert other.fill(search.joint.nas_layers) == len(other) == len(pool)
    assert {"0.0", "0.1", "1.1", "2.0"} <= {".".join(key.split(".")[:2]) for key in kept}


def test_batch_norms_are_folded_everywhere():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        network[1].running_mean.uniform_(), network[1].weight.uniform_(1, 2)
        x = torch.randn(2, 3, 4, 4)
        expected = network(x)
        fold_batch_norms(network)
        torch.testing.assert_close(network(x), expected)
    assert [type(m).__name__ for m in network] == ["Conv2d", "Identity", "ReLU", "BatchNorm2d"]


def times_of(lines):
    """How often each part of an estimate comes, and what the whole is said to take."""
    parts = [re.fullmatch(r"(.+): (\S+) s, (\d+) times: (\S+) s", line) for line in lines]
    parts = [part for part in parts if part]
    for part in parts:
        assert float(part[4]) == pytest.approx(float(part[2]) * int(part[3]), rel=1e-2, abs=1e-9)
    return {part[1]: int(part[3]) for part in parts}, sum(float(part[4]) for part in parts)


def test_an_estimate_counts_every_step_of_a_search(monkeypatch):
    monkeypatch.setattr("CyDAS.engine.estimate.STEPS", 2)
    search = make_search(pretrain_epochs=2, search_iter=5, search_iter_epochs=4, nasnet_warmup=3, sample_ratio=0.5)
    train, val = SpyBatches(1.0, 10), SpyBatches(2.0, 12)
    lines = estimate_search(search, train, val, lambda: (train, val))
    times, seconds = times_of(lines)
    assert times == {
        "step, warm-up": 5 * 2, "checkpoint, warm-up": 2, "start of a cycle": 3, "step, evaluation warm-up": 5 * 3 * 3,
        "step, joint": 5 * 3 * 4, "checkpoint, joint": 3 * 7, "pictures of a round": 5,
    }  # fmt: skip
    assert f"the whole run: {seconds:.0f} s" in lines[-1] or abs(float(lines[-1].split()[3]) - seconds) <= 1
    assert "M parameters" in lines[0] and "multiply-accumulates" in lines[0]


def test_an_estimate_leaves_out_the_first_step():
    batches = SpyBatches(1.0, 10)
    first = FirstSteps(batches)
    assert len(first) == 3 and len(FirstSteps(SpyBatches(1.0, 2))) == 2
    for number, _ in enumerate(first.epoch(4)):
        time.sleep(0.05 if number == 0 else 0.0)
    assert len(first.seconds) == 3 and first.mean() < 0.03 < first.seconds[0]
    assert [(asked.epoch, asked.steps) for asked in batches.asked] == [(4, 3)]
