"""Chains in the three programs: what a search finds costs what it shall, resumes exactly, and opens in timm."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import ROOT
from test_reliability import same
from two_ranks import run_ranks

from CyDAS.config import SearchConfig
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import Precision, SearchOptimisers
from CyDAS.latency import main as latency
from CyDAS.models.chain.alphas import ArchitectureParameters
from CyDAS.models.chain.architecture import SEARCHED, parse_architecture
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.chain.network import RetrainedChain, chain_network
from CyDAS.models.chain.published import PUBLISHED
from CyDAS.models.fuse import fold_batch_norms
from CyDAS.retrain import main as retrain
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.scripts.random_genotype import main as draw_random
from CyDAS.search import main as search
from CyDAS.spaces import ChainSpace, identify_architecture, load_architecture
from CyDAS.spaces.chain_cost import CostAim, make_aim
from CyDAS.spaces.chain_latency import read_latency_table, write_latency_table
from CyDAS.test import main as evaluate
from CyDAS.utils.distributed import synchronised
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_macs

TARGET = 4e6
CHAINS = "--space chain --image_size 32 --c_last 32 --device cpu --threads 1 --print_freq 1".split()
SEARCH = (
    "--blocks_per_stage 2 --target_flops 4M --alpha_lr 0.05 --batch_size 16 --sample_ratio 0.07 --pretrain_epochs 1 "
    "--search_iter 3 --search_iter_epochs 1 --nasnet_warmup 1 --checkpoint_minutes 0.000001"
).split()
LAYOUT = ChainLayout(depth=2, c_last=32, n_classes=10, input_channels=3, image_size=32)


def run_search(folder, *flags):
    search([*CHAINS, *SEARCH, "--output_dir", str(folder), "--name", "first", *flags])
    return folder / "search/first"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search and the retraining of what it found."""
    folder = tmp_path_factory.mktemp("chain")
    run_search(folder)
    retrain([*CHAINS, *RETRAIN, "--output_dir", str(folder), "--name", "first"])
    return folder


RETRAIN = "--epochs 1 --batch_size 120 --cutout_length 0".split()


# -- what is found -----------------------------------------------------------------------------------------------------


def test_a_search_finds_a_chain_that_costs_what_it_shall(finished):
    run = finished / "search/first"
    result = json.loads((run / "result.json").read_text())
    architecture = load_architecture(run / "genotype.json", 3, "chain")
    assert abs(result["cost"] * 1e6 / TARGET - 1) <= 0.02 and result["unit_of_cost"] == "M"
    network = chain_network(architecture, c_last=32, num_classes=10, in_chans=3)
    assert count_macs(network, (3, 32, 32)) / 1e6 == result["cost"]
    for number in (1, 2, 3):
        entry = json.loads((run / f"alphas/round_{number:03d}.json").read_text())
        assert abs(entry["cost/found_M"] * 1e6 / TARGET - 1) <= 0.02  # also every evaluation network on the way
        assert abs(entry["cost/expected_M"] * 1e6 / TARGET - 1) <= 0.02
    checkpoint = run / "search_resume.pth.tar"
    assert load_architecture(checkpoint, 3, "chain") == architecture
    assert str(architecture) in (run / "search.log").read_text()


def test_what_retrain_saves_opens_in_timm_and_in_a_test(finished, capsys):
    last = finished / "retrain/first/last.pth.tar"
    architecture = load_architecture(finished / "search/first/genotype.json", 3, "chain")
    ours = chain_network(architecture, kind=RetrainedChain, c_last=32, num_classes=10, in_chans=3).eval()
    ours.load_state_dict(load_checkpoint(last)["state_dict"])
    shape = {"c_last": 32, "num_classes": 10, "in_chans": 3}
    theirs = timm.create_model(
        "cdarts_chain", architecture=str(architecture), checkpoint_path=str(last), **shape
    ).eval()
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(ours(x).logits, theirs(x))
    backbone = timm.create_model(
        "cdarts_chain", architecture=str(architecture), checkpoint_path=str(last), features_only=True,
        in_chans=3, c_last=32,
    )  # fmt: skip
    assert torch.equal(backbone.conv_stem.weight, theirs.conv_stem.weight)
    result = json.loads((finished / "retrain/first/result.json").read_text())
    evaluate(["--output_dir", str(finished), "--name", "first", "--device", "cpu"])
    assert f"top-1 {result['last']['top1']:.2f} %" in capsys.readouterr().out


def test_checkpointed_activations_give_the_same_step():
    architecture = parse_architecture("[[0], [1, 4], [2], [5, 0], [3], [0], [0]]")
    steps = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        space = ChainSpace(LAYOUT, grad_checkpointing=checkpointing)
        network = space.retrain_network(architecture, False).train()
        network(torch.ones(4, 3, 32, 32).cumsum(3)).logits.square().sum().backward()
        steps.append([p.grad for p in network.parameters()] + list(network.buffers()))
    assert all(map(torch.equal, *steps))


def test_a_tested_chain_has_its_batch_norms_folded():
    torch.manual_seed(0)
    network = ChainSpace(LAYOUT).retrain_network(parse_architecture(FINE), False).double()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                tensor.uniform_(0.5, 1.5)
    network.eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = network(x).logits
        fold_batch_norms(network)
        torch.testing.assert_close(network(x).logits, expected, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


# -- the cycle ---------------------------------------------------------------------------------------------------------


def make_search(dtype=torch.float32, use_amp=False, target=TARGET, **flags):
    torch.manual_seed(0)
    space = ChainSpace(LAYOUT, CostAim(CostTable.counted(LAYOUT), target))
    joint = space.build().to(dtype).train()
    config = SearchConfig(space="chain", search_iter=3, pretrain_epochs=1, alpha_lr=0.05, **flags)
    engine = CyclicSearch(space, joint, config, Precision(torch.device("cpu"), use_amp, "bf16"))
    engine._set_evaluation(space.discretise(joint))
    joint.to(dtype)
    engine.optimisers = SearchOptimisers(joint, config)
    return engine


def batch(count=8, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 32, 32, generator=generator).to(dtype), torch.arange(count) % 10


@pytest.mark.parametrize("method", ["cdarts", "darts"])
def test_the_cost_term_moves_the_alphas_and_its_multiplier_with_them(method):
    engine = make_search(method=method)
    constraint = engine.space.aim.constraint
    constraint.target *= 0.8  # as if it had been 20 percent lower from the start
    before = float(constraint.excess(engine.joint.super_layers_arch.mixtures()).detach())
    for _ in range(3):
        engine._joint_step([batch(), batch()], epoch=1)
    after = float(constraint.excess(engine.joint.super_layers_arch.mixtures()).detach())
    assert before == pytest.approx(0.25, abs=0.01) and after < 0.95 * before
    assert float(constraint.multiplier) == pytest.approx(3 * 0.1 * 0.02)  # far from the target it grows slowly


@pytest.mark.parametrize("share", [0.35, 0.5, 0.8, 0.97])
def test_a_search_starts_at_its_target(share):
    target = share * CostTable.counted(LAYOUT).range[1]
    engine = make_search(target=target)
    mixtures = engine.joint.super_layers_arch.mixtures()
    assert float(engine.space.aim.constraint.excess(mixtures).detach()) == pytest.approx(0, abs=1e-4)
    costs = engine.space.aim.table.stages[2][1, :6]
    order = mixtures[2][1, :6].detach().argsort()
    open_start = CostTable.counted(LAYOUT).expected(ArchitectureParameters(2).mixtures()) / target
    assert torch.equal(order, costs.argsort(descending=bool(open_start > 1)))  # in the order of their costs


def test_no_target_no_cost_term():
    engine = make_search(target=None)
    assert engine.regularisation(0) == 0
    alphas = engine.joint.super_layers_arch
    assert max(float(alpha.detach()[:, :6].abs().max()) for alpha in alphas) < 0.01
    with torch.no_grad():
        for alpha in alphas:
            alpha[:, 5] = 5.0
    assert engine.space.discretise(engine.joint).stages[1:-1] == ((5, 5),) * 5


def test_weights_are_kept_by_the_place_in_the_search_network():
    """Where a block before it goes, a block's weights go on."""
    engine = make_search()
    layers = []
    for text in ("[[0], [1, 4], [2], [5], [3], [0], [0]]", "[[0], [1], [2], [5], [3], [0], [0]]"):
        engine._set_evaluation(parse_architecture(text))
        engine.pool.fill(engine.joint.nas_layers)
        engine.pool.store(engine.joint.nas_layers)
        layers.append(engine.joint.nas_layers)
    gap = parse_architecture("[[0], [1, -1, 4], [2], [5], [3], [0], [0]]")
    assert gap == parse_architecture("[[0], [1, 4], [2], [5], [3], [0], [0]]")
    assert gap.with_gaps() == "[[0], [1, -1, 4], [2], [5], [3], [0], [0]]" and str(gap) != gap.with_gaps()
    assert ChainSpace.parse(ChainSpace.to_state(gap), None, "").slots == gap.slots
    three = ChainSpace(ChainLayout(depth=3, c_last=32, n_classes=10, input_channels=3, image_size=32))
    joint = three.build()
    three.set_evaluation(joint, gap)
    engine.pool.store(joint.nas_layers)
    assert "0.2.k7_e4" in engine.pool.state_dict()
    assert [block.slot for block in joint.nas_layers[0]] == [0, 2]


def test_bf16_takes_the_same_steps_nearly():
    """Gradients of the alphas and of both networks' weights point the same way."""
    gradients = []
    for use_amp in (False, True):
        engine = make_search(use_amp=use_amp)
        loss = engine.val_losses(*batch(16), epoch=1)[0].total
        for role in ("alphas", "search", "evaluation"):
            found = torch.autograd.grad(loss, engine.joint.parameters_of(role), retain_graph=True, allow_unused=True)
            gradients.append(torch.cat([g.flatten() for g in found if g is not None]).float())
    for exact, rounded in zip(gradients[:3], gradients[3:], strict=True):
        assert not torch.equal(exact, rounded)
        assert float(torch.nn.functional.cosine_similarity(exact, rounded, dim=0)) > 0.95


def _half(process, count):
    engine = make_search(torch.float64)
    for module in engine.joint.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    x, y = batch(count, torch.float64)
    own = slice(process.rank, None, process.world_size) if process else slice(None)
    for update in (engine.evaluation_update, engine.train_update):
        update(x[own], y[own])
    engine.val_update(x[own], y[own], epoch=1)
    engine.space.after_alphas(engine.joint)
    parameters = {name: p.detach().numpy() for name, p in engine.joint.named_parameters()}  # by value through a pipe
    return parameters, float(engine.space.aim.constraint.multiplier)


def test_two_processes_with_half_the_images_make_the_updates_of_one():
    one, multiplier = _half(None, 8)
    for parameters, other in run_ranks(_half, 8):
        assert other == pytest.approx(multiplier, rel=1e-9)
        for name, value in one.items():
            near = np.abs(parameters[name] - value) <= np.maximum(1e-6 * np.abs(value), 1e-8)  # approx takes minutes
            assert near.all(), name


@pytest.mark.parametrize("update", ["train_update", "evaluation_update", "val_update"])
def test_a_search_cut_off_anywhere_ends_as_if_it_had_not(finished, tmp_path, monkeypatch, update):
    original, left = getattr(CyclicSearch, update), [2]

    def cut(self, *arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(CyclicSearch, update, cut)
        with pytest.raises(KeyboardInterrupt):
            run_search(tmp_path)
    run = run_search(tmp_path, "--resume")
    mine, theirs = (load_checkpoint(r / "search_resume.pth.tar")["search"] for r in (run, finished / "search/first"))
    assert same(mine, theirs)
    assert mine["space"]["multiplier"] == theirs["space"]["multiplier"] != 0


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        ("--target_flops 1M", "no network of this space costs 1 M: they cost"),
        ("--target_flops 294M", "no network of this space costs 294.0 M: they cost"),
        ("--target_flops many", "--target_flops is a number of operations like 294M"),
        ("--target_flops_published 4M", "are two targets: give one of them"),
        ("--target_latency 3", "--target_flops and --target_latency are two targets"),
        ("--latency_table x", "--target_latency and --latency_table belong together"),
        ("--image_size 16", "needs images of 32 pixels at least"),
        ("--use_beta", "--use_beta has no effect with --space chain: only cells"),
        ("--init_channels 16", "--init_channels has no effect with --space chain: only cells"),
        ("--layer_num 4 --regular", "--layer_num, --regular have no effect with --space chain"),
        ("--nats_table x", "--nats_table has no effect with --space chain"),
    ],
)
def test_flags_that_make_no_search_are_refused(tmp_path, flags, word):
    with pytest.raises(CydasError, match=word):
        run_search(tmp_path, *flags.split())
    assert not (tmp_path / "search").exists()


def test_flags_of_chains_are_refused_for_cells(tmp_path):
    with pytest.raises(CydasError, match="--target_flops has no effect with --space nats: only chains"):
        search(["--space", "nats", "--target_flops", "4M", "--search_iter", "9", "--output_dir", str(tmp_path)])
    with pytest.raises(CydasError, match="--aux_weight has no effect with --space chain"):
        retrain([*CHAINS, *RETRAIN, "--aux_weight", "0.4", "--cell_file", cell(tmp_path, FINE)])


FINE = "[[0], [1, 4], [2], [5, 0], [3], [0], [0]]"


def cell(folder, text):
    path = folder / "cell.json"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[0], [6], [2], [5, 0], [3], [0], [0]]", "stage 1, block 0: 6 is no operation"),
        ("[[0], [1, true], [2], [5, 0], [3], [0], [0]]", "stage 1, block 1: True is no operation"),
        ("[[0], [], [2], [5, 0], [3], [0], [0]]", "stage 1 is empty"),
        ("[[0], [1, 1, 1, 1, 1, 1, 1], [2], [5, 0], [3], [0], [0]]", "stage 1 has 7 blocks"),
        ("[[0], [-1, 1], [2], [5, 0], [3], [0], [0]]", "stage 1, block 0: a stage's first block"),
        ("[[0], [1], [2], [5, 0], [3], [0]]", "7 stages are expected"),
    ],
)
def test_lists_that_are_no_chain_are_refused(tmp_path, text, word):
    with pytest.raises(CydasError, match=word):
        retrain([*CHAINS, *RETRAIN, "--output_dir", str(tmp_path), "--cell_file", cell(tmp_path, text)])


def test_a_window_without_any_chain_is_refused_before_the_search():
    table = CostTable.counted(LAYOUT)
    lowest = table.range[0]
    with pytest.raises(CydasError, match="no network of this space was found that costs"):
        CostAim(table, lowest + 10, tolerance=1e-7)
    assert CostAim(table, lowest).choose([torch.zeros(2, 7)] * 5).blocks == 1 + len(SEARCHED)


def test_a_table_that_was_made_anew_does_not_go_on(tmp_path):
    path = tmp_path / "latency.json"
    blocks = {str(stage): [[1.0 * (i + 1) for i in range(6)]] * 2 for stage in SEARCHED}
    write_latency_table(path, LAYOUT, 1.0, blocks, {})
    config = SearchConfig(latency_table=path, target_latency=15.0)
    state = make_aim(config, LAYOUT).state_dict()
    make_aim(config, LAYOUT).load_state_dict(state)
    blocks["3"] = [[9.0] * 6] * 2
    write_latency_table(path, LAYOUT, 1.0, blocks, {})
    with pytest.raises(CydasError, match="not those that the search began with"):
        make_aim(config, LAYOUT).load_state_dict(state)


def test_synchronised_batch_norms_keep_their_activations():
    network = ChainSpace(LAYOUT).retrain_network(parse_architecture(FINE), False).eval()
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    x = torch.randn(2, 3, 32, 32)
    expected = network(x).logits
    converted = synchronised(network)
    assert sum(isinstance(module, torch.nn.SyncBatchNorm) for module in converted.modules()) == norms > 0
    torch.testing.assert_close(converted.eval()(x).logits, expected)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[0], [9], [2], [5, 0], [3], [0], [0]]", "stage 1, block 0: 9 is no operation"),
        ("[[0], [1]]", "7 stages are expected"),
        ('{"a": [[0], [1]], "b": [[0], [2]]}', "one architecture is expected; there are a, b"),
    ],
)
def test_what_is_meant_for_a_chain_is_judged_as_one(tmp_path, text, word):
    with pytest.raises(CydasError, match=word):
        identify_architecture(Path(cell(tmp_path, text)))


def test_a_chain_of_other_classes_is_named_as_such(finished, tmp_path):
    checkpoint = torch.load(finished / "retrain/first/last.pth.tar", weights_only=True)["state_dict"]
    checkpoint["classifier.weight"], checkpoint["classifier.bias"] = torch.zeros(7, 1280), torch.zeros(7)
    torch.save(checkpoint, tmp_path / "seven.pth")
    flags = [*CHAINS[:-2], "--cell_file", str(finished / "search/first/genotype.json")]
    with pytest.raises(CydasError, match="is of a network for 7 classes, but .* has 10"):
        evaluate([*flags, "--resume_name", str(tmp_path / "seven.pth"), "--output_dir", str(tmp_path)])


# -- the programs beside search, retrain and test ----------------------------------------------------------------------


def test_a_table_of_milliseconds_is_measured_and_a_search_aims_at_it(tmp_path, capsys):
    table = tmp_path / "latency.json"
    shape = "--image_size 32 --n_classes 10 --c_last 32 --rounds 1 --networks 2".split()
    latency(["--table", str(table), *shape])
    assert "sums of the table against 2 whole networks: off by" in capsys.readouterr().out
    content = json.loads(table.read_text())
    assert len(content["errors"]) == 2 and content["batch_size"] == 1 and content["threads"] >= 1
    for stage in content["blocks"].values():
        for row in stage:
            row[:] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]  # the same on every machine
    content["fixed"] = 10.0
    table.write_text(json.dumps(content))
    flags = [flag for flag in SEARCH if flag not in ("--target_flops", "4M")]
    with pytest.raises(CydasError, match="costs 9 ms: they cost 15 ms to 70 ms"):
        search([*CHAINS, *flags, "--output_dir", str(tmp_path), "--latency_table", str(table), "--target_latency", "9"])
    aim = make_aim(SearchConfig(latency_table=table, target_latency=30.0, target_tolerance=0.01), LAYOUT)
    found = aim.choose([torch.full((2, 7), 1 / 7)] * 5)
    assert 29.7 <= aim.table.of(found) <= 30.3
    assert aim.table.of(parse_architecture(FINE)) == 10 + 2 + 5 + 3 + 6 + 1 + 4 + 1
    assert CostAim.from_state(aim.state_dict()).choose([torch.full((2, 7), 1 / 7)] * 5) == found


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "other"}, "is none: python -m CyDAS.latency"),
        ({"image_size": 64}, "is of other networks: image_size 64, here 32"),
        ({"fixed": "1"}, "milliseconds of 6 operations in stages 1 to 5"),
        ({"fixed": float("nan")}, "milliseconds of 6 operations"),
        ({"blocks": {}}, "milliseconds of 6 operations"),
        ({"fixed": 10**400}, "milliseconds of 6 operations"),
        ({"blocks": {str(stage): [[1.0] * 6, [1.0] * 5] for stage in SEARCHED}}, "milliseconds of 6 operations"),
        ({"blocks": {str(stage): [[1.0] * 6, [-1.0] * 6] for stage in SEARCHED}}, "milliseconds of 6 operations"),
    ],
)
def test_other_files_are_no_latency_tables(tmp_path, change, word):
    path = tmp_path / "latency.json"
    blocks = {str(stage): [[1.0] * 6, [1.0] * 6] for stage in SEARCHED}
    write_latency_table(path, LAYOUT, 1.0, blocks, {})
    assert read_latency_table(path, LAYOUT).range == (6.0, 11.0)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CydasError, match=word):
        read_latency_table(path, LAYOUT)


def test_random_chains_cost_what_they_shall_and_follow_their_seed(tmp_path):
    shape = "--space chain --blocks_per_stage 2 --image_size 32 --n_classes 10 --c_last 32".split()
    for seed, name in ((0, "a"), (0, "b"), (1, "c")):
        draw_random([str(seed), str(tmp_path / name), *shape, "--target_flops", "4M"])
    a, b, c = (load_architecture(tmp_path / name, 3, "chain") for name in "abc")
    assert a == b != c
    assert all(abs(CostTable.counted(LAYOUT).of(each) / TARGET - 1) <= 0.02 for each in (a, c))
    with pytest.raises(CydasError, match="no network of this space costs 1 M"):
        draw_random(["0", str(tmp_path / "d"), *shape, "--target_flops", "1M"])
    with pytest.raises(CydasError, match="a stage has 1 to 6 blocks, not 7"):
        draw_random(["0", str(tmp_path / "d"), "--space", "chain", "--blocks_per_stage", "7"])
    with pytest.raises(CydasError, match="--target_flops, --image_size: only chains have such a choice"):
        draw_random(["0", str(tmp_path / "d"), "--target_flops", "4M", "--image_size", "32"])
    with pytest.raises(CydasError, match="--target_tolerance is a share"):
        draw_random(["0", str(tmp_path / "d"), *shape, "--target_flops", "4M", "--target_tolerance", "nan"])
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("name", ["cdarts_a", "cdarts_b"])
def test_the_published_chains_are_files(name):
    path = ROOT / f"CyDAS/cells/{name}.json"
    assert load_architecture(path, 3, "chain") == PUBLISHED[name].architecture
