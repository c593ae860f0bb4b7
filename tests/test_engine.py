"""The algorithm's rules: what moves in which update, and how strengths and rates change over time."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from CyDAS.config import RetrainConfig, SearchConfig
from CyDAS.engine.cycle import CyclicSearch, Phase, steps_per_epoch
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.guard import LIMIT
from CyDAS.engine.losses import kd_loss
from CyDAS.engine.optim import Precision, update
from CyDAS.engine.schedules import retrain_lr
from CyDAS.models.cells.genotype import make_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import DropPath, RetrainNetwork
from CyDAS.models.heads import RetrainOutput
from CyDAS.models.weight_pool import WeightPool
from CyDAS.recipe import apply_size_rule
from CyDAS.runs.logs import RunLog
from CyDAS.spaces import DartsSpace
from CyDAS.spaces.penalty import regulariser_strength
from CyDAS.tasks.classification import Classification, classification_loss, mixup, retrain_loss
from CyDAS.utils.errors import CydasError
from tests.spies import make_training

CPU = torch.device("cpu")
LAYOUT = Layout(init_channels=2, stem_multiplier=1, image_size=16)
SILENT = RunLog(None)


def make_search(**flags):
    torch.manual_seed(0)
    space_flags = ("repeat_cell", "use_beta", "share_fc", "ensemble_param", "ensemble_sum", "fix_head")
    space = DartsSpace(LAYOUT, **{name: flags[name] for name in space_flags if name in flags})
    joint = space.build().train()
    config = SearchConfig(**{"search_iter": 10, "pretrain_epochs": 2, "search_iter_epochs": 1, **flags})
    search = CyclicSearch(space, joint, config, Precision(CPU, config.use_amp, config.amp_dtype))
    search.architecture = space.discretise(joint)
    space.set_evaluation(joint, search.architecture)
    search.optimisers = type(search.optimisers)(joint, config)
    return search


def moved(search, step):
    before = {name: p.detach().clone() for name, p in search.joint.named_parameters()}
    step()
    return {name for name, p in search.joint.named_parameters() if not torch.equal(p, before[name])}


def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 16, 16, generator=generator), torch.randint(0, 10, (8,), generator=generator)


def parts(names):
    return {name.split(".")[0] for name in names}


def test_the_val_update_moves_evaluation_network_stem_heads_and_alphas():
    search = make_search(ensemble_param=True)
    names = moved(search, lambda: search.val_update(*batch(), epoch=2))
    assert parts(names) == {
        "feature_extractor", "nas_layers", "fc_nas", "distill_aux_head1", "distill_aux_head2", "ensemble_param",
        "super_layers_arch",
    }  # fmt: skip


def test_the_train_update_moves_search_network_and_stem():
    search = make_search(ensemble_param=True)
    names = moved(search, lambda: search.train_update(*batch()))
    assert parts(names) == {"feature_extractor", "super_layers", "fc_super"}


def test_the_evaluation_warm_up_moves_evaluation_network_and_stem():
    search = make_search(ensemble_param=True)
    names = moved(search, lambda: search.evaluation_update(*batch()))
    assert parts(names) == {"feature_extractor", "nas_layers", "fc_nas"}


def test_fixed_heads_do_not_move_but_their_statistics_do():
    search = make_search(fix_head=True)
    statistics = search.joint.distill_aux_head1.features[3].running_mean.clone()
    names = moved(search, lambda: search.val_update(*batch(), epoch=2))
    assert "distill_aux_head1" not in parts(names)
    assert not torch.equal(statistics, search.joint.distill_aux_head1.features[3].running_mean)


def test_a_shared_last_layer_is_moved_by_both_networks():
    search = make_search(share_fc=True)
    assert search.joint.fc_nas is search.joint.fc_super
    assert "fc_super" in parts(moved(search, lambda: search.train_update(*batch())))
    assert "fc_super" in parts(moved(search, lambda: search.val_update(*batch(), epoch=2)))


def test_reduction_alphas_of_a_stage_without_reduction_never_move():
    """Not even by weight decay, though they count in the regulariser's value."""
    search = make_search(regular=True, alpha_weight_decay=0.1)
    names = moved(search, lambda: search.val_update(*batch(), epoch=2))
    assert {n for n in names if n.startswith("super_layers_arch.2.1.")} == set()
    assert {n for n in names if n.startswith("super_layers_arch.2.0.")} != set()
    before = search.space.regulariser(search.joint)
    with torch.no_grad():
        search.joint.super_layers_arch[2].cell(True)[0][0][0, 0] += 10
    assert search.space.regulariser(search.joint) > before + 9


def test_betas_move_only_when_they_are_used():
    betas = "super_layers_arch.0.2."
    without, with_beta = make_search(), make_search(use_beta=True)
    assert not any(n.startswith(betas) for n in moved(without, lambda: without.val_update(*batch(), epoch=2)))
    assert any(n.startswith(betas) for n in moved(with_beta, lambda: with_beta.val_update(*batch(), epoch=2)))


def test_without_betas_each_edge_is_scaled_by_the_number_of_edges():
    weights = DartsSpace(LAYOUT).build().super_layers_arch.mixtures()[0].normal
    for node, weight in enumerate(weights):
        assert torch.allclose(weight.sum(dim=1), torch.full((node + 2,), 1 / (node + 2)))


def test_shared_alphas_count_once_a_stage_in_the_regulariser():
    space = DartsSpace(LAYOUT, repeat_cell=True)
    joint = space.build()
    alphas = [a for r in (False, True) for a in joint.super_layers_arch[0].cell(r)[0]]
    expected = 3 * sum(alpha[:, :3].abs().sum().item() for alpha in alphas)
    assert space.regulariser(joint).item() == pytest.approx(expected)


def test_the_regulariser_falls_to_nothing():
    def strength(epoch):
        return regulariser_strength(epoch, 2, 32, 1, 0.667, 5)

    assert strength(2) == 5
    assert strength(3) == pytest.approx(5 * (1 - 1 / (30 * 0.667)))
    assert strength(22) > 0 and strength(23) == 0
    assert strength(31) == 0


def test_the_joint_clip_shrinks_weights_and_alphas_together():
    weight, alpha = (torch.nn.Parameter(torch.zeros(())) for _ in range(2))
    optimisers = [torch.optim.SGD([p], lr=1.0) for p in (weight, alpha)]
    scaler = Precision(CPU, False, "bf16").scaler
    norm = update([3 * weight + 40 * alpha], optimisers, 5.0, scaler)
    assert norm.item() == pytest.approx(1609**0.5)
    assert weight.item() == pytest.approx(-3 * 5 / 1609**0.5, rel=1e-4)
    with torch.no_grad():
        weight.zero_(), alpha.zero_()
    update([3 * weight + 40 * alpha], optimisers, 5.0, scaler, apart=True)
    assert (weight.item(), alpha.item()) == pytest.approx((-3, -5), rel=1e-4)


def test_unused_parameters_do_not_move_even_with_weight_decay():
    used, unused = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
    update(
        [used * 2],
        [torch.optim.SGD([used, unused], lr=0.1, weight_decay=0.5)],
        5.0,
        Precision(CPU, False, "bf16").scaler,
    )
    assert unused.item() == 1.0 and used.item() < 1.0


@pytest.mark.parametrize(
    ("ratio", "steps", "expected"), [(1.0, 391, 391), (0.2, 35, 7), (0.29, 100, 29), (0.05, 391, 19), (0.01, 10, 1)]
)
def test_an_epoch_has_exactly_its_share_of_the_steps(ratio, steps, expected):
    assert steps_per_epoch(ratio, steps) == expected


def test_the_pool_gives_operations_their_last_weights_back():
    search = make_search()
    joint, space, pool = search.joint, search.space, WeightPool()
    with torch.no_grad():
        for tensor in [*joint.nas_layers.parameters(), *joint.nas_layers.buffers()]:
            tensor.add_(1)
    pool.store(joint.nas_layers)
    stored = {key: value.clone() for key, value in joint.nas_layers.state_dict().items()}
    space.set_evaluation(joint, search.architecture)
    fresh = joint.nas_layers.state_dict()
    assert any(not torch.equal(fresh[key], stored[key]) for key in stored)
    assert pool.fill(joint.nas_layers) == len(pool)
    for key, value in joint.nas_layers.state_dict().items():
        assert torch.equal(value, stored[key]), key


def test_learning_rates_of_retraining():
    assert retrain_lr(0.1, 0, 10, 5, 256) == pytest.approx(0.1)
    assert retrain_lr(0.1, 5, 10, 5, 256) == pytest.approx(0.05)
    assert retrain_lr(0.1, 0, 10, 5, 257) == pytest.approx(0.1 / 5)
    assert retrain_lr(0.1, 5, 10, 5, 1024) == pytest.approx(0.05)


@pytest.mark.parametrize(("parameters", "expected"), [(2.9e6, (3e-4, 0.2)), (3.2e6, (3e-4, 0.3)), (3.9e6, (5e-4, 0.3))])
def test_small_cifar_networks_get_less_regularisation_unless_told(parameters, expected):
    config = RetrainConfig(dataset="cifar10")
    apply_size_rule(config, set(), parameters)
    assert (config.weight_decay, config.drop_path_prob) == expected
    config = RetrainConfig(dataset="cifar10", weight_decay=1.0, drop_path_prob=0.9)
    apply_size_rule(config, {"weight_decay", "drop_path_prob"}, parameters)
    assert (config.weight_decay, config.drop_path_prob) == (1.0, 0.9)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    layer = DropPath().train()
    layer.p = 0.25
    out = layer(torch.ones(4000, 2, 3, 3))
    assert {round(v, 4) for v in out.unique().tolist()} == {0.0, round(1 / 0.75, 4)}
    assert all(len(sample.unique()) == 1 for sample in out[:100])
    assert float(out.mean()) == pytest.approx(1.0, abs=0.05)
    assert torch.equal(layer.eval()(torch.ones(2, 1, 1, 1)), torch.ones(2, 1, 1, 1))


def test_stride_1_skips_are_never_dropped():
    skip = make_genotype(*[[[("skip_connect", 0), ("max_pool_3x3", 1)]] * 4] * 2)
    network = RetrainNetwork(LAYOUT, [skip] * 3, auxiliary=False)
    for stage, shapes in zip(network.nas_layers, LAYOUT.shapes(LAYOUT.evaluation_cells), strict=True):
        for cell, shape in zip(stage, shapes, strict=True):
            for skip_edge, pool_edge in cell.dag:
                assert isinstance(pool_edge[-1], DropPath)
                assert isinstance(skip_edge[-1], DropPath) == shape.reduction


def test_the_auxiliary_loss_is_added_in_training_only():
    logits, auxiliary = torch.randn(4, 10), torch.randn(4, 10)
    y = torch.arange(4)
    plain = classification_loss(logits, y, 0.1)
    assert retrain_loss(RetrainOutput(logits, None), y, 0.1, 0.4) == plain
    expected = plain + 0.4 * classification_loss(auxiliary, y, 0.1)
    assert torch.allclose(retrain_loss(RetrainOutput(logits, auxiliary), y, 0.1, 0.4), expected)


def test_mixup_mixes_images_and_targets_alike():
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 2, 2)
    mixed, targets = mixup(images, torch.arange(6), 6, alpha=1.0)
    assert torch.allclose(targets.sum(dim=1), torch.ones(6))
    assert torch.allclose(mixed[:, 0, 0, 0], targets @ torch.arange(6.0))


def test_both_networks_receive_the_distillation_gradient():
    search, evaluation = torch.randn(6, 10, requires_grad=True), torch.randn(6, 10, requires_grad=True)
    kd_loss(search, evaluation, 0, 2.0).backward()
    assert search.grad.abs().sum() > 0 and evaluation.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="interactive_type"):
        kd_loss(search, evaluation, 4, 2.0)


class FixedBatches:
    """Two batches, the second smaller, of images that say their label."""

    size = 12

    def __init__(self, images=None):
        self.labels = torch.arange(12) % 10
        self.images = torch.nn.functional.one_hot(self.labels, 10).float() if images is None else images

    def __len__(self):
        return 2

    def epoch(self, epoch=0, steps=None, start=0):
        yield self.images[:8], self.labels[:8]
        yield self.images[8:], self.labels[8:]


class Reader(torch.nn.Module):
    """Reads the label off the image but answers 8 and 9 wrongly."""

    def forward(self, x):
        confused = x.clone()
        confused[:, [8, 9]] = confused[:, [9, 8]]
        return RetrainOutput(confused, None)


def test_accuracy_weighs_images_not_batches():
    accuracy = evaluate(Reader(), Classification(10), FixedBatches(), Precision(CPU, False, "bf16"))
    assert accuracy.top1 == pytest.approx(100 * 10 / 12)
    assert accuracy.top5 >= accuracy.top1 and accuracy.images == 12


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_step():
    network = torch.nn.Linear(10, 10)
    network.forward = lambda x, f=network.forward: RetrainOutput(f(x), None)
    images = FixedBatches().images.clone()
    images[8:] = float("nan")
    training = make_training(network, rate=0.1)
    with pytest.raises(CydasError, match="not finite at step 2, .*Last good checkpoint: none yet"):
        training.train_epoch(FixedBatches(images), SILENT, lambda: None)


def test_a_search_that_is_not_finite_stops_and_names_the_step():
    search = make_search(print_freq=2)
    x, y = batch()
    log = RunLog(None)
    log.last_checkpoint = Path("runs/last.pth.tar")
    pairs = iter([(x, y), (x * float("inf"), y)])
    with pytest.raises(CydasError, match="not finite at step 2, .*Last good checkpoint: runs/last.pth.tar"):
        phase = Phase("joint", "cycle", 0, (FixedBatches(),), 0, lambda b: search.train_update(*next(pairs)))
        search.epoch(phase, 2, log, SimpleNamespace(end_step=lambda search: None))


def test_a_bad_update_can_be_left_out_as_if_it_had_not_been():
    search, twin = (make_search(on_nan="skip", regular=True) for _ in range(2))
    (x, y), bad = batch(), torch.full((8, 3, 16, 16), float("nan"))
    for s in (search, twin):
        s._joint_step(((x, y), (x, y)), epoch=2)
    figures = search._joint_step(((bad, y), (bad, y)), epoch=2)
    assert figures == {} and search.guard.skipped == 2
    half = search._joint_step(((bad, y), (x, y)), epoch=2)  # the good update counts
    assert "val/loss_search" in half and "train/loss_search" not in half
    twin.val_update(x, y, epoch=2)
    for (name, a), b in zip(search.joint.state_dict().items(), twin.joint.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    with pytest.raises(CydasError, match="more than 10 steps in a row were not finite"):
        for _ in range(LIMIT + 1):
            search._guarded("train", search.train_update, (bad, y))
    assert all(torch.isfinite(p).all() for p in search.joint.parameters())


@pytest.mark.parametrize("dtype", ["bf16"])
def test_mixed_precision_keeps_losses_and_parameters_in_float32(dtype):
    search = make_search(use_amp=True, amp_dtype=dtype)
    losses, _ = search.val_update(*batch(), epoch=2)
    assert losses.total.dtype == torch.float32 and torch.isfinite(losses.total)
    assert all(p.dtype == torch.float32 for p in search.joint.parameters())
    assert torch.isfinite(search.train_update(*batch())["train/loss_search"])


def test_a_state_that_is_loaded_goes_on_as_the_one_that_was_saved():
    first = make_search(regular=True)
    first.val_update(*batch(), epoch=2), first.train_update(*batch())
    first.pool.store(first.joint.nas_layers)
    second = make_search(regular=True)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for search in (first, second):
        search.val_update(*batch(), epoch=2), search.train_update(*batch())
    for (name, a), b in zip(first.joint.state_dict().items(), second.joint.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert len(second.pool) == len(first.pool)


def test_an_overflow_of_float16_leaves_out_both_optimisers_and_does_not_stop_the_run():
    weight, alpha = (torch.nn.Parameter(torch.ones(())) for _ in range(2))
    optimisers = [torch.optim.SGD([p], lr=1.0) for p in (weight, alpha)]
    scaler = Precision(CPU, True, "fp16").scaler
    before = scaler.get_scale()
    norm = update([weight * torch.tensor(float("inf")) + alpha], optimisers, 5.0, scaler)
    assert (weight.item(), alpha.item(), norm.item()) == (1.0, 1.0, 0.0) and scaler.get_scale() == before / 2
    update([2 * weight + 3 * alpha], optimisers, 5.0, scaler)
    assert (weight.item(), alpha.item()) == (-1.0, -2.0)
