"""What is not in the published method: each flag by itself, off by default, exact on resume, alike in all processes."""

import json
import re
from dataclasses import fields

import pytest
import torch
from spies import Lines, Nobody, SpyBatches
from test_reliability import same
from two_ranks import run_ranks

from CyDAS.config import SearchConfig
from CyDAS.config.stability import StabilityFlags
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.entrants import candidates, entrants, leading
from CyDAS.engine.finalists import check_finalists, choose, judging_part, train_finalist
from CyDAS.engine.optim import Precision, SearchOptimisers
from CyDAS.engine.stability import growing, keep_moments, mean_logsumexp, mutate, sample_mixtures
from CyDAS.models.alpha_mean import AlphaMean, mean_alphas
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.supernet import Mixture
from CyDAS.models.chain.alphas import ArchitectureParameters as ChainArchitecture
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.search import main as search
from CyDAS.spaces import ChainSpace, DartsSpace, NatsSpace, load_architecture
from CyDAS.spaces.chain_cost import CostAim
from CyDAS.tasks.classification import Classification
from CyDAS.utils.errors import CydasError

CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_3x3~1|none~2|"
SMALL = "--space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --batch_size 16 --device cpu --threads 1"
ROUNDS = (
    "--sample_ratio 0.05 --pretrain_epochs 1 --search_iter 4 --search_iter_epochs 1 --nasnet_warmup 1 --print_freq 1"
)
ALL = (
    "--evaluation_cells 2 --edge_mutation 0.5 --average_rounds 2 --alpha_lr_schedule cosine --keep_moments "
    "--beta_decay 0.5 --dirichlet --lone_teacher --finalists 2 --finalist_rounds 3 --finalist_epochs 1.2 "
    "--alpha_lr 3 --checkpoint_minutes 0.000001"
)


def run_search(folder, *flags):
    search([*SMALL.split(), *ROUNDS.split(), *ALL.split(), "--output_dir", str(folder), "--name", "first", *flags])
    return folder / "search/first"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run_search(tmp_path_factory.mktemp("stable"))


def make_search(evaluation_cells=None, finalist_cells=None, **flags):
    torch.manual_seed(0)
    space = NatsSpace(
        NatsLayout(4, 1, image_size=8),
        evaluation_cells=evaluation_cells,
        finalist_cells=finalist_cells,
        ensemble_param=True,
    )
    joint = space.build().train()
    config = SearchConfig(**{"space": "nats", "search_iter": 5, "pretrain_epochs": 1, "search_iter_epochs": 2} | flags)
    engine = CyclicSearch(space, joint, config, Precision(torch.device("cpu"), False, "bf16"))
    engine._set_evaluation(parse_architecture(CELL))
    engine.optimisers = SearchOptimisers(joint, config)
    return engine


def batch(count=8):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.arange(count) % 10


def test_all_of_it_is_off_by_default():
    config = SearchConfig()
    assert {item.name: getattr(config, item.name) for item in fields(StabilityFlags)} == {
        "edge_mutation": 0.0, "average_rounds": 1, "alpha_lr_schedule": "constant", "keep_moments": False,
        "beta_decay": 0.0, "dirichlet": False, "lone_teacher": False, "finalists": 1,
        "finalist_rounds": 20, "finalist_epochs": 1.0, "finalist_lr": 0.1, "finalist_noise": 0.0,
        "finalist_sweep": False, "finalist_largest": False, "finalist_runoff": 0, "finalist_runoff_epochs": 3.0,
        "finalist_runoff_margin": None,
        "finalist_margin": 0.0, "finalist_size": 0.0, "finalist_image_size": None, "finalist_val": 1.0,
    }  # fmt: skip
    assert config.evaluation_cells is config.finalist_cells is None


# -- mutation ----------------------------------------------------------------------------------------------------------


def test_a_mutated_edge_is_one_operation_drawn_by_its_weights():
    torch.manual_seed(0)
    mixture = torch.rand(4000, 5).softmax(dim=1) * 0.5
    mixture[:, 3] = 0.0
    mutated = mutate([mixture], 0.25, 7)[0]
    torch.testing.assert_close(mutated.sum(dim=1), mixture.sum(dim=1))
    changed = (mutated != mixture).any(dim=1)
    assert float(changed.double().mean()) == pytest.approx(0.25, abs=0.02)
    alone = mutate([mixture], 1.0, 7)[0]
    assert ((alone > 0).sum(dim=1) == 1).all()
    share = (alone > 0).double().mean(dim=0)
    torch.testing.assert_close(
        share, (mixture / mixture.sum(dim=1, keepdim=True)).double().mean(dim=0), rtol=0, atol=0.02
    )
    assert share[3] == 0


def test_mutations_follow_their_key_and_shared_stages_stay_alike():
    mixture = torch.full((6, 5), 0.2, requires_grad=True)
    one, two = mutate([mixture, mixture], 0.5, 1, 2)
    assert one is two and not one.requires_grad
    assert torch.equal(one, mutate([mixture], 0.5, 1, 2)[0])
    assert not torch.equal(one, mutate([mixture], 0.5, 1, 3)[0])
    cells = mutate([Mixture([mixture, mixture[:2]], [mixture])], 1.0, 1)
    assert isinstance(cells[0], Mixture) and [len(part) for part in cells[0]] == [2, 1]
    assert mutate([mixture], 0.0, 1)[0] is mixture


def test_only_weights_are_updated_with_mutated_edges(monkeypatch):
    seen = []
    engine = make_search(edge_mutation=1.0)
    forward = type(engine.joint).forward
    monkeypatch.setattr(
        type(engine.joint), "forward", lambda self, *a, **o: seen.append(o.get("mixtures")) or forward(self, *a, **o)
    )
    engine.train_update(*batch())
    engine.round = 4  # the last one
    engine.train_update(*batch())
    engine.evaluation_update(*batch())
    engine.val_update(*batch(), epoch=8)
    assert [mixtures is None for mixtures in seen] == [True, False, True, True]
    assert ((seen[1][0] > 0).sum(dim=1) == 1).all()


def test_sampled_mixtures_have_the_mean_and_the_gradient_of_their_distribution():
    engine = make_search(dirichlet=True)
    architecture = engine.joint.super_layers_arch
    with torch.no_grad():
        architecture.alpha.copy_(torch.tensor([1.0, 0.0, -1.0, 0.5, 2.0]).expand(6, -1))
    concentration = torch.nn.functional.elu(architecture.alpha[0].detach()) + 1
    draws = torch.stack([sample_mixtures(architecture, 3, step)[0] for step in range(800)])
    rows = draws.detach().flatten(0, 1)
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(len(rows)))
    expected = torch.distributions.Dirichlet(concentration)
    torch.testing.assert_close(rows.mean(dim=0), expected.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(rows.var(dim=0), expected.variance, rtol=0.15, atol=0)
    (gradient,) = torch.autograd.grad(draws[..., 4].mean(), [architecture.alpha])
    leaf = architecture.alpha[0].detach().clone().requires_grad_()
    mean = torch.nn.functional.elu(leaf) + 1
    (of_mean,) = torch.autograd.grad((mean / mean.sum())[4], [leaf])
    torch.testing.assert_close(gradient.sum(dim=0), of_mean, rtol=0.1, atol=0.005)


def test_samples_follow_their_key_and_leave_the_alphas_alone():
    engine = make_search(dirichlet=True)
    before = engine.joint.super_layers_arch.alpha.detach().clone()
    one, again, other = (sample_mixtures(engine.joint.super_layers_arch, 1, key) for key in (2, 2, 3))
    assert torch.equal(one[0], again[0]) and not torch.equal(one[0], other[0])
    assert torch.equal(engine.joint.super_layers_arch.alpha.detach(), before)


@pytest.mark.parametrize("space", ["darts", "chain"])
def test_other_spaces_mixtures_are_sampled_too(space):
    if space == "chain":
        architecture = ChainArchitecture(2)
        rows = sample_mixtures(architecture, 0)
        assert all(float(stage[0, -1].detach()) == 0 for stage in rows)
    else:
        architecture = DartsSpace(Layout(init_channels=4, layer_num=3)).build().super_layers_arch
        normal = architecture.mixtures()[0][0]
        rows = sample_mixtures(architecture, 0)[0][0]
        torch.testing.assert_close([node.sum() for node in rows], [node.sum() for node in normal])
        assert not any(torch.equal(*pair) for pair in zip(rows, normal, strict=True))
    torch.testing.assert_close(sum(float(row.detach().sum()) for row in rows), 4.0 if space == "darts" else 10.0)


@pytest.mark.parametrize("method", ["cdarts", "darts"])
def test_both_updates_of_a_step_see_samples_of_their_own(monkeypatch, method):
    seen = []
    engine = make_search(dirichlet=True, method=method)
    forward = type(engine.joint).forward
    monkeypatch.setattr(
        type(engine.joint), "forward", lambda self, *a, **o: seen.append(o.get("mixtures")) or forward(self, *a, **o)
    )
    before = engine.joint.super_layers_arch.alpha.detach().clone()
    engine._joint_step([batch(), batch()], epoch=1)
    assert len(seen) == 2 and not torch.equal(seen[0][0], seen[1][0])
    assert not torch.equal(engine.joint.super_layers_arch.alpha.detach(), before)
    seen.clear()
    engine.optimisers.set_alpha_lr(0.0)  # so that no other alphas tell the two samples apart
    engine._joint_step([batch(), batch()], epoch=1)
    assert len(seen) == 2 and not torch.allclose(seen[0][0], seen[1][0])


def test_what_grows_does_so_in_equal_steps():
    assert [growing(0.2, index, 5) for index in range(5)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert growing(0.2, 0, 1) == 0


# -- alphas ------------------------------------------------------------------------------------------------------------


def test_beta_decay_is_the_mean_of_logsumexp_and_grows():
    alpha = torch.tensor([[0.0, 0.0], [1.0, 3.0]], requires_grad=True)
    loss = mean_logsumexp([alpha])
    assert float(loss.detach()) == pytest.approx((0.6931472 + 3.1269280) / 2)
    torch.testing.assert_close(torch.autograd.grad(loss, alpha)[0], alpha.detach().softmax(dim=1) / 2)
    engine = make_search(beta_decay=2.0)
    expected = 2.0 * float(mean_logsumexp([engine.joint.super_layers_arch.alpha]).detach())
    assert float(engine.regularisation(0)) == 0
    assert float(engine.regularisation(9).detach()) == pytest.approx(expected)
    assert float(engine.regularisation(5).detach()) == pytest.approx(expected / 2)


def test_the_mean_over_rounds_is_of_softmaxes_and_leaves_the_alphas_alone():
    engine = make_search(average_rounds=2)
    arch = engine.joint.super_layers_arch
    for row in ([9.0, 0, 0, 0, 0], [0, 2.0, 0, 0, 0], [0, 0, 1.0, 0, 0]):
        with torch.no_grad():
            arch.alpha.copy_(torch.tensor(row).expand(6, 5))
        engine.alpha_mean.add(arch)
    before = arch.alpha.detach().clone()
    assert engine.preferred().operations == ("skip_connect",) * 6
    assert torch.equal(arch.alpha, before)
    kept = engine.alpha_mean.state_dict()
    assert len(kept) == 2
    mean = (torch.tensor([0, 2.0, 0, 0, 0]).softmax(0) + torch.tensor([0, 0, 1.0, 0, 0]).softmax(0)) / 2
    torch.testing.assert_close(mean_alphas(kept)["alpha"][0].softmax(0), mean.double())
    single = AlphaMean(1)
    single.add(arch)
    single.apply(arch)
    assert torch.equal(arch.alpha, before) and single.state_dict() == []


def test_the_alphas_learning_rate_falls_to_zero():
    engine = make_search(alpha_lr_schedule="cosine", alpha_lr=0.1)
    rates = []
    for engine.round in range(5):
        engine._set_lr(0)
        rates.append(dict(engine.optimisers.learning_rates())["alpha"])
    assert rates[0] == 0.1 and rates == sorted(rates, reverse=True) and rates[-1] < 0.01
    assert dict(engine.optimisers.learning_rates())["w"] == engine.config.w_lr


@pytest.mark.parametrize("keep", [False, True])
def test_moments_of_what_is_still_there_are_kept(keep):
    engine = make_search(keep_moments=keep)
    engine.val_update(*batch(), epoch=2)
    engine.train_update(*batch())
    before = {name: dict(optimiser.state) for name, optimiser in vars(engine.optimisers).items()}
    gone = set(engine.joint.nas_layers.parameters())
    engine._set_evaluation(parse_architecture(CELL))
    engine._set_optimisers()
    for name, optimiser in vars(engine.optimisers).items():
        expected = {p for p in before[name] if p not in gone} if keep else set()
        assert set(optimiser.state) == expected and (not keep or expected)
    assert keep_moments(engine.optimisers.w, engine.optimisers.w) is None


# -- the evaluation network --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [False, True])
def test_a_lone_teacher_learns_from_labels_only(alone):
    engine = make_search(lone_teacher=alone)
    losses, _ = engine.val_losses(*batch(), epoch=2)
    weights = list(engine.joint.nas_layers.parameters())
    gradients = torch.autograd.grad(losses.kd, weights, allow_unused=True, retain_graph=True)
    assert all(g is None or not g.any() for g in gradients) == alone
    assert torch.autograd.grad(losses.kd, engine.joint.super_layers_arch.alpha)[0].any()


def test_the_evaluation_network_may_be_deeper():
    engine = make_search(evaluation_cells=3)
    assert [len(stage) for stage in engine.joint.super_layers] == [2, 2, 1]
    assert [len(stage) for stage in engine.joint.nas_layers] == [4, 4, 3]
    network = engine.space.retrain_network(parse_architecture(CELL), False)
    assert [len(stage) for stage in network.nas_layers] == [4, 4, 3]
    engine = make_search(evaluation_cells=3, finalist_cells=5)
    network = engine.space.retrain_network(parse_architecture(CELL), False)
    assert [len(stage) for stage in network.nas_layers] == [6, 6, 5]
    assert [len(stage) for stage in engine.joint.nas_layers] == [4, 4, 3]


# -- finalists ---------------------------------------------------------------------------------------------------------


def test_candidates_are_what_most_of_the_last_rounds_preferred():
    engine = make_search(finalists=2, finalist_rounds=4)
    a, b, c = (CELL.replace("none", name) for name in ("none", "skip_connect", "nor_conv_3x3"))
    engine.preferences = [{"0": cell} for cell in (c, c, c, a, b, a, b)]
    found = list(candidates(engine))
    assert [(str(each.architecture), each.rounds) for each in found] == [(b, 2), (a, 2)]
    engine.config.finalist_rounds = 7
    assert [(str(each.architecture), each.rounds) for each in candidates(engine)] == [(c, 3), (b, 2)]


def test_drawn_candidates_are_the_preferred_cell_and_others_by_their_probability():
    engine = make_search(finalists=4, finalist_noise=1.0)
    (alpha,) = engine.joint.super_layers_arch.parameters()
    with torch.no_grad():
        alpha.copy_(torch.tensor([[0.5, 0.3, 0.2, 0.0, 0.0]]).log().clamp_min(-50.0))
        alpha[1:, 1:] = -50.0  # the first edge alone has a choice
    before, first = alpha.clone(), engine.preferred()
    found = list(candidates(engine))
    cells = [each.architecture for each in found]
    assert cells[0] == first and len(set(map(str, cells))) == len(found) == 3  # there are no more
    assert found == list(candidates(engine)) and torch.equal(alpha, before)
    shares = [each.rounds / sum(each.rounds for each in found) for each in found]
    assert shares[0] == pytest.approx(0.5, abs=0.08) and sorted(shares)[0] == pytest.approx(0.2, abs=0.07)
    engine.config.seed = 1
    assert list(candidates(engine)) != found


def sweep(score, rounds=1, preferred="nor_conv_3x3", **flags):
    """The cells that are tried, each with the number of the leader that it is a change of.

    ``rounds``: before the preferred cell, all pooling was preferred in so many, less one.
    """
    engine, found = make_search(finalist_sweep=True, **{"finalists": 99, **flags}), []
    (alpha,) = engine.joint.super_layers_arch.parameters()
    with torch.no_grad():  # the third edge is the least decided, then the fifth
        alpha.copy_(torch.tensor([0.0, 0.1, 0.2, 4.0, 0.3]).expand(6, 5) / torch.tensor([2, 3, 9, 4, 5, 1.0])[:, None])
        if preferred == "nor_conv_1x1":
            alpha[:, 2] += 9.0
    before = alpha.clone()
    pooling = engine.space.changed(engine.preferred(), 0, 4)
    for place in range(1, 6):
        pooling = engine.space.changed(pooling, place, 4)
    engine.preferences = [engine.space.to_state(cell) for cell in [pooling] * (rounds - 1) + [engine.preferred()]]
    for each in candidates(engine):
        found.append((each.architecture, each.change_of))
        assert each.rounds == (rounds - 1 if each.architecture == pooling else each.architecture == engine.preferred())
        engine.judged.append([{}, 0, score(each.architecture)])
    assert torch.equal(alpha, before) and (engine.preferred(), 0) in found
    return found


def changed(a, b):
    return [place for place, (x, y) in enumerate(zip(a.operations, b.operations, strict=True)) if x != y]


def test_a_sweep_tries_all_other_operations_place_by_place_the_least_decided_first():
    found = sweep(lambda cell: 0.0)
    first, cells = found[0][0], [cell for cell, _ in found]
    assert first.operations == ("nor_conv_3x3",) * 6 and len(set(cells)) == len(cells) == 25
    assert [changed(cell, first) for cell in cells[1:]] == [[place] for place in (2, 4, 3, 1, 0, 5) for _ in range(4)]
    assert {origin for _, origin in found[1:]} == {1}
    likelier = ["avg_pool_3x3", "nor_conv_1x1", "skip_connect", "none"]
    assert [cell.operations[2] for cell in cells[1:5]] == likelier
    assert sweep(lambda cell: 0.0, finalists=7) == found[:7]


def test_a_sweep_starts_with_the_best_of_what_the_last_rounds_preferred():
    """Of pooling or convolutions everywhere, whichever is better."""
    for operation, leader in (("avg_pool_3x3", 1), ("nor_conv_3x3", 2)):
        found = sweep(lambda cell: cell.operations.count(operation) >= 5, rounds=3)  # noqa: B023 - it is used up at once
        assert [set(cell.operations) for cell, _ in found[:2]] == [{"avg_pool_3x3"}, {"nor_conv_3x3"}]
        assert [origin for _, origin in found] == [0, 0] + [leader] * 24
        assert all(len(changed(cell, found[leader - 1][0])) == 1 for cell, _ in found[2:])
    assert len(sweep(lambda cell: 0.0, rounds=3, finalist_rounds=1)) == 25


def test_a_sweep_may_start_with_the_largest_operation_everywhere():
    """Pooling leads, and is not changed before the sweep has ended."""
    found = sweep(lambda cell: cell.operations.count("avg_pool_3x3"), rounds=3, preferred="nor_conv_1x1",
                  finalist_largest=True, finalists=29)  # fmt: skip
    cells = [cell for cell, _ in found]
    assert [cell.operations for cell in cells[:3]] == [
        (name,) * 6 for name in ("nor_conv_3x3", "avg_pool_3x3", "nor_conv_1x1")
    ]
    assert [origin for _, origin in found] == [0] * 3 + [1] * 24 + [2] * 2
    assert all(len(changed(cell, cells[0])) == 1 for cell in cells[3:27])
    found = sweep(lambda cell: 0.0, rounds=3, finalist_largest=True, finalists=4)  # the largest is preferred
    assert [cell for cell, _ in found[:2]] == cells[:2] and found[2][1] == found[3][1] == 1


def test_a_sweep_judges_all_changes_before_it_makes_the_best_and_ends_where_none_is_better():
    """A skip in the place that is swept last is worth most, the others' help only once it is there."""
    worth = {5: 4.0, 3: 1.0, 0: 2.0}

    def score(cell):
        skips = [place for place, operation in enumerate(cell.operations) if operation == "skip_connect"]
        return sum(worth.get(place, -1.0) for place in skips) * (5 in skips)

    found = sweep(score, finalist_margin=0.5)
    cells = [cell for cell, _ in found]
    assert len(set(cells)) == len(cells)
    leaders = sorted({origin for _, origin in found[1:]})
    assert found[1:] == sorted(found[1:], key=lambda each: each[1])  # one sweep after the other
    assert [changed(cells[leader - 1], cells[0]) for leader in leaders] == [[], [5], [0, 5], [0, 3, 5]]
    for number, (cell, origin) in enumerate(found[1:], 1):
        assert len(changed(cell, cells[origin - 1])) == 1 and origin <= number
    neighbours = [cell for cell in cells if len(changed(cell, cells[leaders[-1] - 1])) == 1]
    assert len(neighbours) == 24


def test_a_finalist_leads_only_if_it_is_better_by_more_than_the_margin():
    def leader(margin, size=0.0):
        return leading(judged, SearchConfig(finalist_margin=margin, finalist_size=size))

    judged = [({}, 1, top1) for top1 in (30.0, 33.0, 34.0, 33.5)]
    assert [leader(margin) for margin in (0.0, 0.5, 2.0, 3.5, 4.0)] == [2, 2, 2, 2, 0]
    judged = [({}, 1, 3.0)] * 2
    assert leader(0.0) == 0


def test_of_the_changes_of_one_finalist_the_best_is_made_and_not_the_first_that_is_good_enough():
    config = SearchConfig(finalist_margin=3.0)
    judged = [({}, 1, 50.0)] + [({}, 0, top1, 1, False, 1) for top1 in (53.5, 56.0, 55.0)]
    assert [leading(judged[:count], config) for count in range(1, 5)] == [0, 1, 2, 2]
    judged += [({}, 0, 58.5, 1, False, 3), ({}, 0, 59.5, 1, False, 3)]  # changes of the new leader, against it
    assert [leading(judged[:count], config) for count in (5, 6)] == [2, 5]


def test_longer_trainings_have_a_margin_of_their_own_where_one_is_given():
    judged = [({}, 1, 50.0), ({}, 0, 52.0, 1, False, 1), ({}, 0, 60.0, 1, True, 1), ({}, 0, 62.0, 1, True, 3)]

    def leader(count, **margins):
        return leading(judged[:count], SearchConfig(**margins))

    assert leader(4, finalist_margin=3.0) == 2 and leader(4, finalist_margin=1.0) == 3
    assert leader(4, finalist_margin=3.0, finalist_runoff_margin=1.0) == 3
    assert leader(4, finalist_margin=1.0, finalist_runoff_margin=3.0) == 2
    assert leader(4, finalist_margin=3.0, finalist_runoff_margin=0.0) == 3
    assert [leader(2, finalist_margin=margin, finalist_runoff_margin=0.0) for margin in (1.0, 3.0)] == [1, 0]


def test_size_counts_for_as_many_points_as_the_flag_says():
    judged = [({}, 1, 30.0, 1000), ({}, 1, 33.0, 500), ({}, 1, 29.0, 2000)]
    sizes = {0.0: 1, 0.9: 1, 3.1: 2, 2.5: 2, 1.9: 1}
    assert {size: leading(judged, SearchConfig(finalist_size=size)) for size in sizes} == sizes


def test_the_best_finalists_are_trained_again_and_the_best_of_them_leads():
    engine = make_search(finalists=4, finalist_noise=1.0, finalist_runoff=2, finalist_margin=2.0)
    architectures = [engine.space.to_state(each.architecture) for each in candidates(engine)]
    top1, found = iter((30.0, 31.0, 29.0, 31.5, 25.0, 26.0)), []
    for cell, count, change_of, again in entrants(engine):
        engine.judged.append([engine.space.to_state(cell), count, next(top1), 1, again, change_of])
        found.append((architectures.index(engine.judged[-1][0]), again))
    # the one that leads, by the margin, and the best of the others
    assert found == [(0, False), (1, False), (2, False), (3, False), (0, True), (3, True)]
    assert [each[5] for each in engine.judged] == [0, 0, 0, 0, 1, 4]
    assert [leading(engine.judged[:count], engine.config) for count in range(1, 7)] == [0, 0, 0, 0, 4, 4]
    engine.config.finalist_margin = 0.5
    assert leading(engine.judged, engine.config) == 5


def test_the_run_off_of_a_sweep_makes_the_changes_that_it_was_least_sure_about():
    engine = make_search(finalists=25, finalist_sweep=True, finalist_runoff=3, finalist_margin=0.5)
    (alpha,) = engine.joint.super_layers_arch.parameters()
    with torch.no_grad():
        alpha.copy_(torch.tensor([0.0, 0.1, 0.2, 4.0, 0.3]).expand(6, 5))
    engine.preferences = [engine.space.to_state(engine.preferred())]
    worth = {(0, "skip_connect"): -0.2, (3, "skip_connect"): 1.0}  # of short trainings; the second is made, no other

    def score(cell, again):
        if again:
            return 40.0 + 2.0 * (cell.operations[0] == "skip_connect")
        others = [each for each in enumerate(cell.operations) if each[1] != "nor_conv_3x3"]
        return 30.0 + sum(worth.get(each, -5.0) for each in others)

    found = []
    for cell, rounds, change_of, again in entrants(engine):
        engine.judged.append([engine.space.to_state(cell), rounds, score(cell, again), 1, again, change_of])
        found.append((cell.operations, change_of))
    leader = tuple("skip_connect" if place == 3 else "nor_conv_3x3" for place in range(6))
    own = [operations for operations, _ in found].index(leader) + 1
    better = ("skip_connect", *leader[1:])
    back = ("nor_conv_3x3",) * 6
    assert len(found) == 28 and found[25:] == [(leader, own), (back, 26), (better, 26)]
    assert leading(engine.judged, engine.config) == 27


def test_finalists_start_alike_and_see_the_same_batches():
    engine = make_search(finalists=2, finalist_epochs=1.5)
    seen, cell = [], engine.preferred()

    class Batches:
        def __len__(self):
            return 4

        def epoch(self, number, steps):
            generator = torch.Generator().manual_seed(number)
            for _ in range(steps):
                seen.append(torch.randn(8, 3, 8, 8, generator=generator))
                yield seen[-1], torch.arange(8)

    networks = [train_finalist(engine, cell, name, Batches(), 6, Lines(), Nobody()) for name in "ab"]
    assert len(seen) == 12 and all(map(torch.equal, seen[:6], seen[6:])) and not torch.equal(seen[0], seen[4])
    assert same(networks[0].state_dict(), networks[1].state_dict())


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_a_finalists_bad_step_stops_the_search_or_is_left_out_as_elsewhere(on_nan):
    engine = make_search(finalists=2, on_nan=on_nan)

    class Batches:
        def epoch(self, epoch, steps):
            images, labels = batch()
            return [(images * (torch.nan if step == 1 else 1.0), labels) for step in range(steps)]

        def __len__(self):
            return 4

    def train():
        return train_finalist(engine, parse_architecture(CELL), "a", Batches(), 4, Lines(), Nobody())

    if on_nan == "stop":
        with pytest.raises(CydasError, match="not finite"):
            train()
    else:
        assert all(value.isfinite().all() for value in train().state_dict().values())
        assert engine.guard.skipped == 0  # a finalist that is trained again after a resume would count twice


def test_finalists_are_judged_on_evenly_spaced_images_of_val():
    assert judging_part(range(100, 110), 0.5) == [100, 102, 104, 106, 108]
    assert judging_part(range(100, 110), 1.0) == list(range(100, 110)) and judging_part(range(7), 0.01) == [0]


def test_a_sweep_of_darts_cells_changes_one_operation_of_an_edge_that_is_chosen():
    torch.manual_seed(0)
    space = DartsSpace(Layout(init_channels=4, layer_num=3))
    config = SearchConfig(finalists=200, finalist_sweep=True)
    engine = CyclicSearch(space, space.build(), config, Precision(torch.device("cpu"), False, "bf16"))
    with torch.no_grad():  # none, which no cell may have, is the likeliest on every edge
        for alpha in engine.joint.super_layers_arch.parameters():
            if alpha.dim() == 2:
                alpha[:, -1] += 1
    engine.judged, engine.preferences = [[{}, 0, 0.0]] * 200, [space.to_state(engine.preferred())]
    cells = [each.architecture for each in candidates(engine)]
    edges = [flat(cell) for cell in cells]
    assert cells[0] == engine.preferred() and len(set(map(str, cells))) == 200
    first, second = ([a != b for a, b in zip(edges[0], other, strict=True)] for other in edges[1:3])
    assert sum(first) == 1 and first == second
    assert {sum(a != b for a, b in zip(edges[0], other, strict=True)) for other in edges[1:]} == {1}
    assert all([source for _, source in edges[0]] == [source for _, source in other] for other in edges)
    # two stages of eight edges in both cells, one without a reduction cell; six other operations on each edge
    changes = space.changes(engine.joint)
    assert len(changes) == 7 * (2 * 16 + 8)
    # of every stage there are more normal cells than reduction cells
    assert [place[1] for place, _ in changes] == [0] * 7 * 24 + [1] * 7 * 16


def test_a_sweep_from_the_largest_darts_cell_tries_its_shortcuts_first():
    torch.manual_seed(0)
    space = DartsSpace(Layout(init_channels=4, layer_num=3), repeat_cell=True)
    config = SearchConfig(finalists=10, finalist_rounds=1, finalist_sweep=True, finalist_largest=True)
    engine = CyclicSearch(space, space.build(), config, Precision(torch.device("cpu"), False, "bf16"))
    engine.judged, engine.preferences = [[{}, 0, 0.0]] * 10, [space.to_state(engine.preferred())]
    first, preferred, *others = [flat(each.architecture[:1]) for each in candidates(engine)]
    assert {name for name, _ in first} == {"sep_conv_5x5"} and {source for _, source in first} == {
        source for _, source in preferred
    }
    assert sorted([a != b for a, b in zip(other, first, strict=True)].index(True) for other in others) == [*range(8)]
    assert {name for other in others for name, _ in set(other) - set(first)} == {"skip_connect"}


def flat(architecture):
    return [
        edge for genotype in architecture for cell in (genotype.normal, genotype.reduce) for n in cell for edge in n
    ]


def test_a_sweep_of_repeated_darts_cells_changes_all_stages():
    space = DartsSpace(Layout(init_channels=4, layer_num=3), repeat_cell=True)
    joint = space.build()
    architecture = space.discretise(joint)
    place, operation = space.changes(joint)[1]
    changed = space.changed(architecture, place, operation)
    assert changed == [changed[0]] * 3 and changed[0] != architecture[0] and len(space.changes(joint)) == 7 * 16
    assert [place[:2] for place, _ in space.changes(joint)] == [(0, 0)] * 56 + [(0, 1)] * 56


def test_chains_are_not_swept_which_is_said_at_once(tmp_path):
    flags = "--space chain --c_last 32 --image_size 32 --device cpu --search_iter 6 --finalists 2 --finalist_sweep"
    with pytest.raises(CydasError, match="--finalist_sweep: this space has no places"):
        search([*flags.split(), "--output_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_a_run_off_of_one_is_refused(tmp_path):
    with pytest.raises(CydasError, match="--finalist_runoff 1 would compare one finalist with nothing"):
        run_search(tmp_path, "--finalist_runoff", "1")


def test_chains_are_drawn_within_their_cost():
    layout = ChainLayout(depth=2, c_last=320, n_classes=10, image_size=32)
    space = ChainSpace(layout, CostAim(CostTable.counted(layout), 3.6e6))
    config = SearchConfig(space="chain", finalists=6, finalist_noise=1.0)
    engine = CyclicSearch(space, space.build(), config, Precision(torch.device("cpu"), False, "bf16"))
    chains = [each.architecture for each in candidates(engine)]
    assert len(set(chains)) == 6
    assert all(space.aim.table.of(chain) == pytest.approx(3.6e6, rel=0.02) for chain in chains)


def test_warm_up_rounds_have_no_vote(finished):
    """Alphas do not move in them."""
    state = load_checkpoint(finished / "search_resume.pth.tar")["search"]
    assert len(state["preferences"]) == 3 and len(state["alpha_mean"]) == 2  # of four rounds, one of them a warm-up


def test_a_dry_run_counts_finalists(tmp_path, capsys):
    run_search(tmp_path, "--dry_run")
    lines = capsys.readouterr().out
    assert re.search(r"step, finalist: .* s, 108 times", lines)  # 45 batches, 1.2 epochs, two finalists
    assert re.search(r"test step, finalist: .* s, 90 times", lines)
    run_search(tmp_path, "--dry_run", "--finalist_runoff", "3", "--finalist_runoff_epochs", "0.2")
    lines = capsys.readouterr().out
    assert re.search(r"step, finalist: .* s, 126 times", lines)  # 9 batches more for each of the two
    assert re.search(r"test step, finalist: .* s, 180 times", lines)


def test_the_best_finalist_is_found(finished):
    result = json.loads((finished / "result.json").read_text())
    best = max(result["finalists"], key=lambda each: (each["top1"], each["rounds"]))
    assert result["genotype"] == best["architecture"] == json.loads((finished / "genotype.json").read_text())
    assert (
        len(result["finalists"]) == 2
        and result["finalists"][0]["architecture"] != result["finalists"][1]["architecture"]
    )
    assert all(0 <= each["top1"] <= 100 for each in result["finalists"])
    last = json.loads((finished / "alphas/round_004.json").read_text())["genotype"]
    assert load_architecture(finished / "search_resume.pth.tar", 3, "nats") == parse_architecture(last["0"])


def test_finalists_may_have_smaller_images(tmp_path, monkeypatch):
    import CyDAS.engine.finalists as finalists

    learn, evaluate, sizes = finalists.learn, finalists.evaluate, {"learn": set(), "evaluate": set()}

    def spy_learn(loss_of, batch, *rest, **options):
        sizes["learn"].add(tuple(batch[0].shape[2:]))
        return learn(loss_of, batch, *rest, **options)

    def spy_evaluate(network, task, batches, *rest):
        sizes["evaluate"] |= {tuple(images.shape[2:]) for images, _ in batches.epoch()}
        return evaluate(network, task, batches, *rest)

    monkeypatch.setattr(finalists, "learn", spy_learn)
    monkeypatch.setattr(finalists, "evaluate", spy_evaluate)
    run = run_search(tmp_path, "--image_size", "16", "--finalist_image_size", "8")
    assert sizes == {"learn": {(8, 8)}, "evaluate": {(8, 8)}}
    macs = [
        [each["macs"] for each in json.loads((folder / "result.json").read_text())["finalists"]]
        for folder in (run, run_search(tmp_path / "large", "--image_size", "16"))
    ]
    assert (16, 16) in sizes["learn"]
    assert max(macs[0]) < 0.5 * min(macs[1])


def test_a_size_that_finalists_cannot_have_is_refused_before_the_search():
    engine = make_search(finalists=2)
    with pytest.raises(CydasError, match="networks of finalists cannot have images of 0 pixels: "):
        check_finalists(engine, (3, 0, 0))
    check_finalists(engine, (3, 8, 8))


def test_a_search_of_an_earlier_program_trains_those_finalists_anew_that_were_others():
    engine = make_search(finalists=2, finalist_sweep=True, finalist_epochs=0.5)
    preferred = engine.preferred()
    engine.preferences = [engine.space.to_state(preferred)]
    other = engine.space.to_state(engine.space.changed(preferred, 0, 0))
    engine.judged = [[engine.space.to_state(preferred), 1, 99.0, 7], [other, 1, 100.0]]
    log, batches = Lines(), SpyBatches(1.0, 2)
    choose(engine, batches, batches, Classification(10), (3, 8, 8), log, Nobody())
    assert engine.judged[0][2] == 99.0 and engine.judged[1][0] != other and len(engine.judged) == 2
    assert [line for line in log.lines if "finalist 2 was another one when the search was left" in line]


def test_a_sweep_does_not_mind_noise_and_says_where_nothing_was_swept(tmp_path):
    run = run_search(tmp_path, "--finalist_sweep", "--finalist_noise", "1", "--finalists", "3")
    judged = json.loads((run / "result.json").read_text())["finalists"]
    log = (run / "search.log").read_text()
    assert judged[0]["rounds"] and ("preferred in" in log) and ("drawn" not in log)
    assert ("nothing was swept" in log) == (not any(each["change_of"] for each in judged))


def test_a_sweep_that_is_cut_off_goes_on_with_the_finalist_that_it_was_at(tmp_path, monkeypatch):
    import CyDAS.engine.finalists as finalists

    flags = "--finalists 4 --finalist_sweep --finalist_epochs 0.1 --finalist_size 5".split()
    flags += "--finalist_runoff 2 --finalist_runoff_epochs 0.2".split()
    original, left = finalists.evaluate, [0]

    def cut(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments)

    whole = run_search(tmp_path / "whole", *flags)
    with monkeypatch.context() as patch:
        patch.setattr(finalists, "evaluate", cut)
        for left[0], resume in ((1, []), (4, ["--resume"])):  # in the sweep, then in the run-off
            with pytest.raises(KeyboardInterrupt):
                run_search(tmp_path, *flags, *resume)
        assert len(load_checkpoint(tmp_path / "search/first/search_resume.pth.tar")["search"]["judged"]) == 5
    run = run_search(tmp_path, *flags, "--resume")
    results = [json.loads((folder / "result.json").read_text()) for folder in (whole, run)]
    assert results[0]["finalists"] == results[1]["finalists"] and results[0]["genotype"] == results[1]["genotype"]
    assert len({str(each["architecture"]) for each in results[0]["finalists"]}) == 4
    assert [each["again"] for each in results[0]["finalists"]] == [False] * 4 + [True] * 2
    log = (run / "search.log").read_text()
    assert "finalist 4 [4/4]" in log and "finalist 5 [9/9]" in log and "finalist 2: " in log
    first, second = (each["change_of"] for each in results[0]["finalists"][4:])
    swept = [each for each in results[0]["finalists"][:4] if each["change_of"]]
    assert f", finalist {first} again" in log and f"a change of finalist {swept[0]['change_of']}" in log
    assert all(each["rounds"] == 0 for each in swept) and 0 < len(swept) < 4
    assert second == 5 and "a change of finalist 5" in log


@pytest.mark.parametrize(("name", "call"), [("train_update", 3), ("val_update", 2), ("finalist", 1), ("finalist", 60)])
def test_a_search_cut_off_anywhere_ends_as_if_it_had_not(finished, tmp_path, monkeypatch, name, call):
    import CyDAS.engine.finalists as finalists

    owner, attribute = (finalists, "learn") if name == "finalist" else (CyclicSearch, name)
    original, left = getattr(owner, attribute), [call]

    def cut(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, cut)
        with pytest.raises(KeyboardInterrupt):
            run_search(tmp_path)
    run = run_search(tmp_path, "--resume")
    assert (run / "genotype.json").read_text() == (finished / "genotype.json").read_text()
    mine, theirs = (load_checkpoint(folder / "search_resume.pth.tar")["search"] for folder in (run, finished))
    assert same(mine, theirs)
    log = (run / "search.log").read_text()
    assert log.count("finalist 1: top-1") == log.count("finalist 2: top-1") == 1  # none is judged twice


def _steps(process):
    engine = make_search(edge_mutation=0.5, beta_decay=1.0)
    engine.round = 4
    for engine.step in range(3):
        engine.train_update(*batch())
        engine.val_update(*batch(), epoch=8)
    return engine.joint.super_layers_arch.alpha.detach().numpy()


def _finalist(process):
    engine, batches = make_search(), SpyBatches(1.0 + process.rank, 3)
    network = train_finalist(engine, engine.preferred(), "finalist", batches, 3, Lines(), Nobody())
    return [value.detach().numpy() for value in network.state_dict().values()]


def test_a_finalist_is_the_same_network_in_all_processes():
    """Each sees images of its own."""
    one, two = run_ranks(_finalist)
    assert len(one) > 9 and all((a == b).all() for a, b in zip(one, two, strict=True))


def test_edges_mutate_alike_in_all_processes():
    one, two = run_ranks(_steps)
    assert (one == two).all()
