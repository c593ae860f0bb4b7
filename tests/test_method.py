"""The cyclic search over time: which data, epoch, network and optimiser each of its phases gets."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from CyDAS.config import SearchConfig
from CyDAS.engine.losses import kd_loss
from CyDAS.engine.optim import SearchOptimisers, cosine
from CyDAS.models.cells.layout import Layout
from CyDAS.models.joint import JointNetwork
from CyDAS.models.nats.architecture import OPERATIONS
from CyDAS.runs.logs import RunLog
from CyDAS.spaces import DartsSpace
from CyDAS.spaces.penalty import regulariser_strength
from CyDAS.tasks.classification import classification_loss, mixup
from tests.spies import Nobody, SpyBatches, make_search, run, steps_of_optimisers

TRAIN, VAL = 1.0, 2.0
LAYOUT = Layout(init_channels=2, stem_multiplier=1, image_size=12)


def watch(search):
    """A list of all that happens: (part of the data, networks and heads that ran, optimisers that then moved)."""
    joint, events = search.joint, []

    def begin(module, inputs):
        part = inputs[0][0, 0, 0, 0].item()
        events.append({"data": {TRAIN: "train", VAL: "val"}[part], "ran": set(), "moved": []})

    def ran(name):
        return lambda *_: events[-1]["ran"].add(name)

    joint.feature_extractor.register_forward_pre_hook(begin)
    for name in ("fc_super", "fc_nas", "distill_aux_head1", "distill_aux_head2"):
        getattr(joint, name).register_forward_hook(ran(name.replace("distill_aux_", "")))
    return events


def name_of(optimiser, joint):
    if isinstance(optimiser, torch.optim.Adam):
        return "alpha"
    parameters = {id(p) for p in optimiser.param_groups[0]["params"]}
    return "w" if id(joint.fc_super.weight) in parameters else "nas"


def follow(search, train, val, progress=None):
    """Run the search: its events, and the steps of its optimisers by the optimisers' names."""
    events = watch(search)
    with steps_of_optimisers() as steps:
        run(search, train, val, progress)
    for step in steps:
        step.name = name_of(step.optimiser, search.joint)
    return events, steps


WARM_UP = [({"fc_super"}, "train")]
EVALUATION = [({"fc_nas"}, "val")]
JOINT = [({"fc_super", "fc_nas", "head1", "head2"}, "val"), ({"fc_super"}, "train")]


def test_every_phase_gets_its_data_its_networks_and_its_optimisers():
    search = make_search(pretrain_epochs=1, search_iter=3, search_iter_epochs=2, nasnet_warmup=1)
    events, steps = follow(search, SpyBatches(TRAIN, 2), SpyBatches(VAL, 2))
    cycle = EVALUATION * 2 + JOINT * 4
    assert [(event["ran"], event["data"]) for event in events] == WARM_UP * 2 + cycle * 2
    moves = ["w"] * 2 + (["nas"] * 2 + ["nas", "alpha", "w"] * 4) * 2
    assert [step.name for step in steps] == moves


def test_plain_darts_moves_alphas_by_val_and_weights_by_train():
    search = make_search(method="darts", search_iter_epochs=2)
    events, steps = follow(search, SpyBatches(TRAIN, 1), SpyBatches(VAL, 1))
    expected = WARM_UP + [({"fc_super"}, "val"), ({"fc_super"}, "train")] * 4
    assert [(event["ran"], event["data"]) for event in events] == expected
    assert [step.name for step in steps] == ["w", *["alpha", "w"] * 4]
    assert len({id(step.optimiser) for step in steps}) == 2  # they live through the whole search


def test_all_optimisers_are_new_in_each_cycle_and_kept_within_it():
    search = make_search(pretrain_epochs=2, search_iter=4, search_iter_epochs=2, nasnet_warmup=2)
    _, steps = follow(search, SpyBatches(TRAIN, 2), SpyBatches(VAL, 2))
    warmup, cycles = steps[:4], [steps[4:20], steps[20:]]
    assert len(cycles[0]) == len(cycles[1]) == 16
    of_part = [{name: {id(s.optimiser) for s in part if s.name == name} for name in ("w", "nas", "alpha")}
               for part in (warmup, *cycles)]  # fmt: skip
    assert len(of_part[0]["w"]) == 1
    for part in of_part[1:]:
        assert all(len(found) == 1 for found in part.values())
    assert len(set.union(*(found for part in of_part for found in part.values()))) == 1 + 3 + 3
    for part in cycles:
        for name in ("w", "nas", "alpha"):
            assert [s.is_new for s in part if s.name == name] == [
                True, *[False] * (sum(s.name == name for s in part) - 1)
            ]  # fmt: skip


def test_every_epoch_of_a_loader_has_a_number_of_its_own():
    train, val = SpyBatches(TRAIN, 3), SpyBatches(VAL, 3)
    search = make_search(pretrain_epochs=2, search_iter=5, search_iter_epochs=2, nasnet_warmup=3, sample_ratio=0.67)
    run(search, train, val)
    assert len(train.asked) == 2 + 3 * 2 and len(val.asked) == 3 * (2 + 3)
    for loader in (train, val):
        assert len({asked.epoch for asked in loader.asked}) == len(loader.asked)
        assert all((asked.steps, asked.start) == (2, 0) for asked in loader.asked)


def test_an_epoch_has_the_steps_of_the_shorter_half():
    for sizes in ((3, 5), (5, 3)):
        train, val = SpyBatches(TRAIN, sizes[0]), SpyBatches(VAL, sizes[1])
        run(make_search(pretrain_epochs=1, search_iter=2), train, val)
        assert {asked.steps for asked in [*train.asked, *val.asked]} == {3}


class Directs(Nobody):
    """Says after each round which operations the alphas prefer, and looks at the evaluation network before it goes."""

    def __init__(self, choices):
        self.choices, self.after, self.numbers = iter(choices), [], []

    def end_round(self, search):
        self.numbers.append(search.round)
        self.after.append({k: v.clone() for k, v in search.joint.nas_layers.state_dict().items()})
        operation = next(self.choices, None)
        if operation:
            with torch.no_grad():
                search.joint.super_layers_arch.alpha.zero_()
                search.joint.super_layers_arch.alpha[:, OPERATIONS.index(operation)] = 1


def test_each_cycle_builds_what_the_alphas_prefer_and_gives_operations_their_last_weights():
    # a learning rate of almost 0: what a cycle ends with is what it began with
    search = make_search(pretrain_epochs=1, search_iter=4, alpha_lr=1e-9, nasnet_lr=1e-12, w_lr=1e-12)
    directs = Directs(["nor_conv_3x3", "nor_conv_1x1", "nor_conv_3x3"])
    built = []
    start = search.start_cycle

    def started(log):
        start(log)
        built.append(
            (search.architecture.operations, {k: v.clone() for k, v in search.joint.nas_layers.named_parameters()})
        )

    search.start_cycle = started
    run(search, SpyBatches(TRAIN, 1), SpyBatches(VAL, 1), directs)
    assert directs.numbers == [1, 2, 3, 4]
    assert [operations for operations, _ in built] == [
        (n,) * 6 for n in ("nor_conv_3x3", "nor_conv_1x1", "nor_conv_3x3")
    ]
    (_, first), (_, second), (_, third) = built
    convolutions = [key for key in first if ".layers." in key and key.endswith("op.1.weight")]
    assert len(convolutions) == 18 and {third[k].shape[-1] for k in convolutions} == {3}
    assert not any(first[key].shape == second[key].shape for key in convolutions)
    for key in first:  # the convolutions rested for a cycle, the residual blocks went on
        torch.testing.assert_close(third[key], first[key], atol=1e-6, rtol=0)


def test_what_an_evaluation_network_learns_goes_on_in_the_next_cycle():
    search = make_search(pretrain_epochs=0, search_iter=3, alpha_lr=1e-9, nasnet_lr=0.1)
    directs = Directs([])
    begun, start = [], search.start_cycle

    def started(log):
        start(log)
        begun.append({k: v.clone() for k, v in search.joint.nas_layers.state_dict().items()})

    search.start_cycle = started
    with torch.no_grad():
        search.joint.super_layers_arch.alpha[:, OPERATIONS.index("nor_conv_1x1")] = 1
    run(search, SpyBatches(TRAIN, 2), SpyBatches(VAL, 2), directs)
    for ended, next_one, same in zip(directs.after[:2], begun[1:], begun[:2], strict=True):
        assert all(torch.equal(ended[key], next_one[key]) for key in ended)
        assert any(not torch.equal(same[key], next_one[key]) for key in ended)


@pytest.mark.parametrize("method", ["cdarts", "darts"])
def test_the_evaluation_network_belongs_to_cdarts(method):
    search = make_search(method=method)
    run(search, SpyBatches(TRAIN, 1), SpyBatches(VAL, 1))
    assert (len(search.joint.nas_layers) > 0) == (len(search.pool) > 0) == (method == "cdarts")
    assert (search.architecture is None) == (method == "darts")


def test_the_regulariser_counts_epochs_over_the_whole_search():
    """The warm-up rounds included, as published: round * search_iter_epochs + the epoch of the round."""
    search = make_search(pretrain_epochs=1, search_iter=4, search_iter_epochs=3, regular=True)
    epochs, original = [], search.regularisation

    def noted(epoch):
        epochs.append(epoch)
        return original(epoch)

    search.regularisation = noted
    run(search, SpyBatches(TRAIN, 1), SpyBatches(VAL, 1))
    assert epochs == list(range(3, 12))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rates_of_the_search(schedule):
    search = make_search(
        pretrain_epochs=1, search_iter=3, search_iter_epochs=2, nasnet_warmup=1, lr_schedule=schedule,
        w_lr=0.4, nasnet_lr=0.2, w_lr_min=0.1, alpha_lr=0.03,
    )  # fmt: skip
    _, steps = follow(search, SpyBatches(TRAIN, 1), SpyBatches(VAL, 1))
    rates = [(step.name, step.options["lr"]) for step in steps]
    assert all(rate == 0.03 for name, rate in rates if name == "alpha")
    if schedule == "constant":
        assert {rate for name, rate in rates if name == "w"} == {0.4}
        assert {rate for name, rate in rates if name == "nas"} == {0.2}
        return

    def at(progress, start):
        return pytest.approx(0.1 + (start - 0.1) * (1 + math.cos(math.pi * progress)) / 2)

    # of three rounds with two joint epochs each; the evaluation warm-up has the rate of its round's start
    assert [rate for name, rate in rates if name == "w"] == [at(p, 0.4) for p in (0, 2 / 6, 3 / 6, 4 / 6, 5 / 6)]
    assert [rate for name, rate in rates if name == "nas"] == [
        at(p, 0.2) for p in (2 / 6, 2 / 6, 3 / 6, 4 / 6, 4 / 6, 5 / 6)
    ]


def test_half_a_cosine():
    assert [cosine(3.0, 1.0, p) for p in (0, 0.5, 1)] == pytest.approx([3.0, 2.0, 1.0])
    assert cosine(3.0, 1.0, 1 / 3) == pytest.approx(2.5)


# -- optimisers and updates ------------------------------------------------------------------------------------------


def darts_search(**flags):
    """The same on DARTS cells, with an evaluation network."""
    options = ("repeat_cell", "use_beta", "bn_affine", "share_fc", "ensemble_param", "ensemble_sum", "fix_head")
    space = DartsSpace(LAYOUT, **{name: flags[name] for name in options if name in flags})
    torch.manual_seed(0)
    joint = space.build()
    space.set_evaluation(joint, space.discretise(joint))
    return joint, SearchConfig(**flags)


def test_optimisers_have_the_published_options():
    flags = dict(w_lr=0.3, nasnet_lr=0.2, alpha_lr=0.1, w_momentum=0.7, w_weight_decay=0.01, alpha_weight_decay=0.02)
    optimisers = SearchOptimisers(*darts_search(**flags))
    for optimiser, lr in ((optimisers.w, 0.3), (optimisers.nas, 0.2)):
        (group,) = optimiser.param_groups
        assert type(optimiser) is torch.optim.SGD
        assert (group["lr"], group["momentum"], group["weight_decay"]) == (lr, 0.7, 0.01)
        assert (group["nesterov"], group["dampening"], group["maximize"]) == (False, 0, False)
    (group,) = optimisers.alpha.param_groups
    assert type(optimisers.alpha) is torch.optim.Adam  # L2 weight decay, not AdamW's
    assert (group["lr"], group["betas"], group["weight_decay"]) == (0.1, (0.5, 0.999), 0.02)
    assert (group["eps"], group["amsgrad"], group["decoupled_weight_decay"]) == (1e-8, False, False)


def names_in(optimiser, joint):
    held = {id(p) for p in optimiser.param_groups[0]["params"]}
    return {name.split(".")[0] for name, p in joint.named_parameters(remove_duplicate=False) if id(p) in held}


def test_optimisers_hold_the_published_parameters():
    joint, config = darts_search()
    optimisers = SearchOptimisers(joint, config)
    assert names_in(optimisers.w, joint) == {"feature_extractor", "super_layers", "fc_super"}
    nas = {"feature_extractor", "nas_layers", "fc_nas", "distill_aux_head1", "distill_aux_head2"}
    assert names_in(optimisers.nas, joint) == nas
    assert names_in(optimisers.alpha, joint) == {"super_layers_arch"}
    joint, config = darts_search(ensemble_param=True, fix_head=True, share_fc=True)
    optimisers = SearchOptimisers(joint, config)
    assert names_in(optimisers.w, joint) == {"feature_extractor", "super_layers", "fc_super", "fc_nas"}
    assert names_in(optimisers.nas, joint) == {
        "feature_extractor",
        "nas_layers",
        "fc_nas",
        "fc_super",
        "ensemble_param",
    }
    held = [p for optimiser in vars(optimisers).values() for g in optimiser.param_groups for p in g["params"]]
    assert all(p.requires_grad for p in held)


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        ("train_update", {"w": 0.03}),
        ("evaluation_update", {"nas": 0.03}),
        ("alpha_update", {"alpha": 0.03}),
        ("val_update", {"nas + alpha": 0.03}),
    ],
)
def test_every_update_is_clipped_to_the_flag(update, expected):
    search = make_search(w_grad_clip=0.03)
    search.start_cycle(RunLog(None))
    batch = next(SpyBatches(VAL, 1, batch_size=8).epoch())
    with steps_of_optimisers() as steps:
        getattr(search, update)(*batch, *([1] if update in ("val_update", "alpha_update") else []))
    gradients = [g for step in steps for g in step.gradients if g is not None]
    assert " + ".join(name_of(step.optimiser, search.joint) for step in steps) in expected
    norm = torch.stack([g.norm() for g in gradients]).norm()
    assert float(norm) == pytest.approx(0.03, rel=1e-3)


def test_weights_and_alphas_may_be_clipped_apart():
    search = make_search(w_grad_clip=1e-4, clip_apart=True)
    search.start_cycle(RunLog(None))
    with steps_of_optimisers() as steps:
        search.val_update(*next(SpyBatches(VAL, 1, batch_size=8).epoch()), 1)
    for step in steps:
        norm = torch.stack([g.norm() for g in step.gradients if g is not None]).norm()
        assert float(norm) == pytest.approx(1e-4, rel=1e-2)


def test_gradients_are_not_left_over_from_an_update():
    search = make_search()
    search.start_cycle(RunLog(None))
    batch = next(SpyBatches(VAL, 1).epoch())
    for update in (lambda: search.val_update(*batch, 1), lambda: search.train_update(*batch)):
        update()
        assert all(p.grad is None for p in search.joint.parameters())


@pytest.mark.parametrize("loss_alpha", [1.0, 4.0])
@pytest.mark.parametrize("ensemble_sum", [False, True])
def test_the_terms_of_the_val_loss(loss_alpha, ensemble_sum):
    flags = dict(loss_alpha=loss_alpha, loss_T=3.0, interactive_type=2, regular=True, regular_coeff=2.0)
    search = make_search({"ensemble_sum": ensemble_sum}, pretrain_epochs=1, search_iter=3, regular_ratio=1.0, **flags)
    search.start_cycle(RunLog(None))
    joint = search.joint.eval()
    x, y = next(SpyBatches(VAL, 1, batch_size=6).epoch())
    with torch.no_grad():
        losses, figures = search.val_losses(x, y, epoch=2)
        s, e = joint(x)
        classification = F.cross_entropy(s.logits, y) + F.cross_entropy(e.logits, y)
        assert s.kd_input.shape == ((6, 10) if ensemble_sum else (18, 10))
        distillation = (s.kd_input - e.kd_input).square().mean() * 9
        penalty = joint.super_layers_arch.alpha[:, 0].abs().mean()
    assert losses.cls.item() == pytest.approx(classification.item() / loss_alpha, rel=1e-5)
    assert losses.kd.item() == pytest.approx(distillation.item() * loss_alpha, rel=1e-4)
    assert losses.reg.item() == pytest.approx(2.0 * 0.5 * penalty.item(), rel=1e-5)  # half of the epochs are over
    assert losses.total.item() == pytest.approx((losses.cls + losses.kd + losses.reg).item())
    assert figures["val/loss_search"].item() == pytest.approx(F.cross_entropy(s.logits, y).item(), rel=1e-5)
    assert figures["val/loss_evaluation"].item() == pytest.approx(F.cross_entropy(e.logits, y).item(), rel=1e-5)
    for name, output in (("search", s), ("evaluation", e)):
        correct = (output.logits.argmax(1) == y).double().mean() * 100
        assert figures[f"val/top1_{name}"].item() == pytest.approx(correct.item())


def test_without_its_flag_there_is_no_regulariser():
    search = make_search(regular=False)
    assert search.regularisation(1).item() == 0.0
    assert make_search(regular=True).regularisation(1).item() > 0.0


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_the_search_takes_the_distillation_of_its_flag(kind):
    search = make_search(interactive_type=kind, loss_T=1.5)
    search.start_cycle(RunLog(None))
    search.joint.eval()
    x, y = next(SpyBatches(VAL, 1).epoch())
    with torch.no_grad():
        s, e = search.joint(x)
        expected = kd_loss(s.kd_input, e.kd_input, kind, 1.5)
        assert search.val_losses(x, y, 1)[0].kd.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-9)


def test_distillation_losses_by_their_formulas():
    generator = torch.Generator().manual_seed(0)
    s, e = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    t, p = (e / 2).softmax(1), (s / 2).softmax(1)
    expected = [
        (t * (t.log() - p.log())).mean() * 4,  # over all elements
        -((s * e).sum(1) / (s.norm(dim=1) * e.norm(dim=1))).mean() * 4,
        (s - e).square().mean() * 4,
        torch.where((s - e).abs() < 1, (s - e).square() / 2, (s - e).abs() - 0.5).mean() * 4,
    ]
    for kind, value in enumerate(expected):
        assert kd_loss(s, e, kind, 2.0).item() == pytest.approx(value.item(), rel=1e-9)


def test_cosine_similarity_of_next_to_nothing_is_next_to_nothing():
    """The published eps of 1e-6, by which each norm is at least that."""
    tiny = torch.full((1, 4), 5e-8, dtype=torch.float64)  # of norm 1e-7
    assert kd_loss(tiny, tiny, 1, 1.0).item() == pytest.approx(-0.01)


def test_losses_are_computed_in_float32_at_least():
    logits = torch.randn(4, 10).bfloat16()
    assert classification_loss(logits, torch.arange(4)).dtype == torch.float32
    assert kd_loss(logits, logits, 0, 2.0).dtype == torch.float32
    assert classification_loss(logits.double(), torch.arange(4)).dtype == torch.float64


@pytest.mark.parametrize(
    ("ratio", "coefficient", "epochs"), [(0.5, 5.0, 1), (0.5, 3.0, 2), (1.0, 5.0, 2), (0.667, 5.0, 1)]
)
def test_the_regulariser_falls_by_its_flags(ratio, coefficient, epochs):
    duration = (12 - 2) * epochs * ratio
    for epoch in range(2, 12 * epochs):
        expected = max(coefficient * (1 - (epoch - 2) / duration), 0.0)
        assert regulariser_strength(epoch, 2, 12, epochs, ratio, coefficient) == pytest.approx(expected)


# -- both networks ---------------------------------------------------------------------------------------------------


def test_the_weights_of_the_three_classifiers():
    search = make_search({"ensemble_param": True})
    assert search.joint.ensemble_param.requires_grad
    assert not make_search().joint.ensemble_param.requires_grad
    assert make_search().joint.ensemble_param.tolist() == pytest.approx([0.333] * 3)
    initial = search.joint.ensemble_param.detach()
    assert 0 <= float(initial.min()) and float(initial.max()) <= 0.333
    joint = search.joint.eval()
    with torch.no_grad():
        joint.ensemble_param.copy_(torch.tensor([1.0, 2.0, 4.0]))
        x = torch.randn(3, 3, 8, 8)
        votes = []
        for head in (joint.distill_aux_head1, joint.distill_aux_head2):
            head.register_forward_hook(lambda module, inputs, output: votes.append(output))
        output = joint(x, evaluation=False).search
    weights = torch.tensor([1.0, 2.0, 4.0]).softmax(0)
    expected = torch.cat([w * v for w, v in zip(weights, [*votes, output.logits], strict=True)])
    torch.testing.assert_close(output.kd_input, expected)


def test_heads_stand_behind_the_last_but_two_and_the_last_but_one_stage():
    """Stages L-2 and L-1 of L, as published: with four stages not behind the first."""
    layout = Layout("imagenet", 2, 1, layer_num=4, image_size=64, res_stem=True)
    space = DartsSpace(layout)
    joint = space.build().eval()
    seen = []
    for head in (joint.distill_aux_head1, joint.distill_aux_head2):
        head.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[1:])))
    with torch.no_grad():
        joint(torch.randn(1, 3, 64, 64), evaluation=False)
    assert seen == [(*layout.stage_output(s)[:1], *layout.stage_output(s)[1:] * 2) for s in (1, 2)]


def test_a_network_that_is_not_asked_for_does_not_run():
    joint = make_search().joint
    x = torch.randn(2, 3, 8, 8)
    assert joint(x, evaluation=False).evaluation is None
    output = joint(x, evaluation=False, heads=False).search
    assert output.kd_input is None and output.logits.shape == (2, 10)


def test_parameters_of_a_role_are_an_error_for_an_unknown_one():
    with pytest.raises(KeyError):
        JointNetwork.parameters_of(make_search().joint, "stem")


def test_mixup_draws_its_share_from_a_beta_distribution():
    """Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2a + 1))."""
    images, labels = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1), torch.arange(2)
    for alpha in (0.3, 4.0):
        torch.manual_seed(0)
        shares = []
        while len(shares) < 600:
            mixed, targets = mixup(images, labels, 3, alpha)
            if targets[0, 1] > 0:  # mixed with the other one
                shares.append(float(targets[0, 0]))
        shares = torch.tensor(shares)
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.05)
        assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)


def test_progress_is_told_of_steps_phases_and_rounds_but_for_the_last_of_each():
    told = SimpleNamespace(step=[], phase=[], round=[])

    class Listener(Nobody):
        def end_step(self, search):
            told.step.append((search.round, search.phase, search.index, search.step))

        def end_phase(self, search):
            told.phase.append((search.round, search.phase, search.index, search.step))

        def end_round(self, search):
            told.round.append((search.round, search.phase, search.index, search.step))

    search = make_search(pretrain_epochs=1, search_iter=2)
    run(search, SpyBatches(TRAIN, 2), SpyBatches(VAL, 2), Listener())
    assert told.step == [(0, 0, 1, 1), (1, 0, 1, 3), (1, 1, 1, 5)]
    assert told.phase == [(1, 1, 0, 4)]
    assert told.round == [(1, 0, 0, 2), (2, 0, 0, 6)]


def test_processes_share_the_start_of_a_cycle_and_the_end_of_a_round(monkeypatch):
    """Its weights are drawn, and its batch norms' statistics made, in each process by itself."""
    events = []
    monkeypatch.setattr("CyDAS.engine.cycle.copy_from_main", lambda joint: events.append("shared"))
    search = make_search(pretrain_epochs=1, search_iter=2)
    search.joint.feature_extractor.register_forward_pre_hook(lambda *_: events.append("step"))

    class Listener(Nobody):
        def end_round(self, search):
            events.append("end")

    run(search, SpyBatches(TRAIN, 1), SpyBatches(VAL, 1), Listener())
    assert events == ["step", "shared", "end", "shared", *["step"] * 3, "shared", "end"]
