"""The search network of the chain space: where its fast mixture is exact, what it costs, what it prefers."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain_chain import PlainMixedBlock, tie
from CyDAS.models.chain.alphas import COLUMNS, ArchitectureParameters, one_hot, preferred
from CyDAS.models.chain.architecture import OPERATIONS, SEARCHED, parse_architecture
from CyDAS.models.chain.blocks import HEAD_STAGES, Classifier, Stem, make_evaluation_stages, make_heads
from CyDAS.models.chain.choice import preferred_within, random_architecture
from CyDAS.models.chain.cost import count_published_flops
from CyDAS.models.chain.cost_constraint import CostConstraint
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.chain.network import chain_network
from CyDAS.models.chain.published import PUBLISHED
from CyDAS.models.chain.supernet import KERNELS, MixedBlock, make_search_stages
from CyDAS.models.weight_pool import WeightPool
from CyDAS.spaces.chain import ChainSpace
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_macs

#: (stage, index): a block that halves, one that widens only, one that may be left out.
PLACES = [(2, 0), (4, 0), (1, 1)]
SMALL = ChainLayout(depth=2, c_last=32, n_classes=5, image_size=32)


def make_block(stage, index, seed=0, affine=False):
    """A fast block in float64 with statistics that are not those of a new one, and an input for it."""
    torch.manual_seed(seed)
    shape = ChainLayout.block(stage, index)
    block = MixedBlock(shape, index, affine).double()
    for name, buffer in block.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return block, torch.randn(3, shape.c_in, 9, 8, dtype=torch.float64)


def mixture_of(weights, index):
    """A stage's mixture in which block ``index`` has these seven weights."""
    mixture = torch.zeros(index + 1, COLUMNS, dtype=torch.float64)
    mixture[index] = torch.as_tensor(weights, dtype=torch.float64)
    return mixture


def random_weights(with_identity):
    """Seven weights with sum 1, without order."""
    weights = torch.rand(COLUMNS, dtype=torch.float64) + 0.1
    weights[-1] *= with_identity
    return weights / weights.sum()


# -- the mixture -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("operation", range(len(OPERATIONS)))
@pytest.mark.parametrize("train", [False, True])
def test_one_operation_alone_is_exactly_that_operation(place, operation, train):
    """Also where the identity has the rest of the weight: in plain six modules with the same shared weights."""
    block, x = make_block(*place)
    plain = PlainMixedBlock(ChainLayout.block(*place), place[1]).double()
    tie(plain, block)
    weights = [0.0] * COLUMNS
    weights[operation], weights[-1] = (0.7, 0.3) if block.has_skip else (1.0, 0.0)
    results = []
    for network in (block, plain):
        inputs = x.clone().requires_grad_()
        (output,) = network.train(train)((inputs,), mixture_of(weights, place[1]))
        (gradient,) = torch.autograd.grad(output.square().sum(), inputs)
        results.append((output, gradient))
    for fast, expected in zip(*results, strict=True):
        torch.testing.assert_close(fast, expected, rtol=1e-9, atol=1e-9)


def six_branches(block, x, weights):
    """The mixture of all six branches with the block's weights: over k before the second, e before the third norm."""
    p = (weights[:-1] / weights[:-1].sum()).view(3, 2)

    def norm(bn, y, width):
        return F.batch_norm(y, bn.running_mean[:width].clone(), bn.running_var[:width].clone(), training=block.training)

    projected = 0
    for column, expansion in enumerate((4, 6)):
        width = expansion * x.shape[1]
        of_kernel = p[:, column] / p[:, column].sum()
        h = F.silu(norm(block.bn1, F.conv2d(x, block.conv_pw.weight[:width]), width))
        h = sum(
            share * F.conv2d(h, kernel[:width], stride=block.stride, padding=size // 2, groups=width)
            for share, size, kernel in zip(of_kernel, KERNELS, block.kernels, strict=True)
        )
        h = block.se[column](F.silu(norm(block.bn2, h, width)))
        projected = projected + p[:, column].sum() * F.conv2d(h, block.conv_pwl.weight[:, :width])
    y = norm(block.bn3, projected, len(projected[0]))
    return x + weights[:-1].sum() * y if block.has_skip else y


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("train", [False, True])
def test_weights_of_kernel_times_expansion_are_exactly_the_six_branches(place, train):
    """Outputs, and gradients by the logits of kernels, of expansions and of the identity."""
    block, x = make_block(*place)
    torch.manual_seed(1)
    logits = [torch.randn(n, dtype=torch.float64, requires_grad=True) for n in (3, 2, 1)]
    used = 1 - logits[2].sigmoid() if block.has_skip else torch.ones(1, dtype=torch.float64)
    weights = torch.cat([used * torch.outer(logits[0].softmax(0), logits[1].softmax(0)).flatten(), 1 - used])
    outputs = (
        block.train(train)((x,), weights.expand(place[1] + 1, -1))[0],
        six_branches(block, x, weights),
    )
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    leaves = logits if block.has_skip else logits[:2]
    gradients = [torch.autograd.grad(y.pow(3).sum(), leaves, retain_graph=True) for y in outputs]
    for fast, expected in zip(*gradients, strict=True):
        assert expected.abs().max() > 1e-3
        torch.testing.assert_close(fast, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("place", PLACES)
def test_other_weights_are_an_approximation(place):
    """The shared channels have one kernel for both expansions: near the six branches, not equal to them."""
    block, x = make_block(*place)
    weights = random_weights(block.has_skip)
    (output,) = block.train()((x,), mixture_of(weights, place[1]))
    expected = six_branches(block, x, weights)
    error = float(((output - expected).norm() / expected.norm()).detach())
    assert 1e-3 < error < 0.5


def test_kernels_are_superposed_exactly():
    block, x = make_block(1, 1)
    p = torch.rand(3, 2, dtype=torch.float64)
    p /= p.sum()
    h = torch.randn(2, 6 * x.shape[1], 9, 8, dtype=torch.float64)
    output = F.conv2d(h, block.superposed(p), padding=3, groups=h.shape[1])
    for channels, shares in (
        (slice(0, block.narrow), p.sum(dim=1)),
        (slice(block.narrow, None), p[:, 1] / p[:, 1].sum()),
    ):
        expected = sum(
            share * F.conv2d(h, kernel, padding=size // 2, groups=h.shape[1])[:, channels]
            for share, size, kernel in zip(shares, KERNELS, block.kernels, strict=True)
        )
        torch.testing.assert_close(output[:, channels], expected, rtol=1e-10, atol=1e-10)


def test_a_blocks_identity_is_its_input():
    block, x = make_block(1, 1)
    assert torch.equal(block((x,), mixture_of([0.0] * 6 + [1.0], 1))[0], x)


def test_alphas_move_and_a_first_block_cannot_be_left_out():
    torch.manual_seed(0)
    stem, stages, alphas = Stem(3), make_search_stages(SMALL), ArchitectureParameters(SMALL.depth)
    state = stem(torch.randn(4, 3, 32, 32))
    for blocks, mixture in zip(stages, alphas.mixtures(), strict=True):
        torch.testing.assert_close(mixture.sum(dim=1), torch.ones(2))
        assert mixture[0, -1] == 0 < mixture[1, -1]
        for block in blocks:
            state = block(state, mixture)
    Classifier(SMALL)(state[0]).square().sum().backward()
    for alpha in alphas:
        moved = alpha.grad != 0
        assert not moved[0, -1] and moved.sum() == alpha.numel() - 1 and alpha.grad.isfinite().all()


def test_search_blocks_have_no_affine_norms_unless_asked():
    for affine in (False, True):
        norms = [m for m in make_search_stages(SMALL, affine).modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert {norm.affine for norm in norms} == {affine}


# -- the evaluation network --------------------------------------------------------------------------------------------


def test_the_parts_of_an_evaluation_network_are_the_found_network():
    """Stem, stages and classifier compute what timm's network does with the same weights."""
    architecture = parse_architecture("[[0], [1, 4], [2], [5, 0], [3], [0, 1], [0]]")
    stem, classifier = Stem(3).double(), Classifier(SMALL).double()
    stages = make_evaluation_stages(SMALL, architecture).double()
    network = chain_network(architecture, c_last=SMALL.c_last, num_classes=SMALL.n_classes).double()
    parts = [(network.conv_stem, stem.conv_stem), (network.bn1, stem.bn1), (network.blocks[0][0], stem.block)]
    parts += [
        (theirs, ours.block)
        for stage, blocks in zip(SEARCHED, stages, strict=True)
        for theirs, ours in zip(network.blocks[stage], blocks, strict=True)
    ]
    parts += [(network.blocks[6][0], classifier.last), (network.conv_head, classifier.conv_head)]
    parts += [(network.classifier, classifier.classifier)]
    for theirs, ours in parts:
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for train in (True, False):
        for module in (stem, stages, classifier, network):
            module.train(train)
        state = stem(x)
        for block in itertools.chain.from_iterable(stages):
            state = block(state)
        torch.testing.assert_close(classifier(state[0]), network(x), rtol=1e-10, atol=1e-10)


def test_the_pool_keeps_operations_by_stage_block_and_operation():
    first = make_evaluation_stages(SMALL, parse_architecture("[[0], [1, 4], [2], [5, 0], [3], [0, 1], [0]]"))
    second = make_evaluation_stages(SMALL, parse_architecture("[[0], [1], [2, 2], [4, 0], [3], [1, 0], [0]]"))
    pool = WeightPool()
    pool.store(first)
    assert sorted(pool.state_dict()) == [
        "0.0.k3_e6", "0.1.k7_e4", "1.0.k5_e4", "2.0.k7_e6", "2.1.k3_e4", "3.0.k5_e6", "4.0.k3_e4", "4.1.k3_e6",
    ]  # fmt: skip
    assert pool.fill(second) == 4
    for stage, index, known in ((0, 0, True), (1, 0, True), (2, 1, True), (3, 0, True), (4, 0, False)):
        pair = (stages[stage][index].block.conv_pw.weight for stages in (first, second))
        assert torch.equal(*pair) is known


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"image_size": 0}, "image_size"),
        ({"depth": 7}, "1 to 6 blocks"),
        ({"depth": 0}, "1 to 6 blocks"),
        ({"n_classes": 0}, "n_classes"),
    ],
)
def test_impossible_layouts_are_refused(options, word):
    with pytest.raises(ValueError, match=word):
        ChainLayout(**options)


@pytest.mark.parametrize("size", [32, 48, 64, 75])
def test_stages_have_the_sizes_that_the_layout_says(size):
    layout = ChainLayout(depth=1, image_size=size)
    state = Stem(3)(torch.zeros(2, 3, size, size))
    assert tuple(state[0].shape[1:]) == (*layout.stage_output(0), layout.resolution(0))
    heads = make_heads(layout)
    for stage, blocks in zip(SEARCHED, make_evaluation_stages(layout, parse_architecture(ONE_BLOCK)), strict=True):
        state = blocks[0](state)
        assert tuple(state[0].shape[1:]) == (*layout.stage_output(stage), layout.resolution(stage))
        if stage in HEAD_STAGES:
            assert heads.pop(stage - 1)(state[0]).shape == (2, layout.n_classes)
    assert not heads


ONE_BLOCK = "[[0], [0], [0], [0], [0], [0], [0]]"


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    return CostTable.counted(ChainLayout())


@pytest.fixture(scope="module")
def small_table():
    return CostTable.counted(ChainLayout(depth=1, c_last=32, n_classes=5, image_size=32))


@pytest.mark.parametrize(("count", "key"), [(count_macs, "macs"), (count_published_flops, "published_style_flops")])
def test_the_table_has_the_reference_cost_of_every_block(chain_golden, count, key):
    table = CostTable.counted(ChainLayout(), count)
    for row in chain_golden["blocks_at_224"]:
        for index in [0] if row["position"] == "first" else [1, 2, 3]:
            assert table.stages[row["stage"] - 1][index, row["op"]] == row[key]
    for name in ("cdarts_a", "cdarts_b"):
        expected = chain_golden["networks"][f"{name}_c960"]["as_run"][key]
        assert table.of(PUBLISHED[name].architecture) == expected
        assert table.expected(one_hot(PUBLISHED[name].architecture, 4)).item() == expected


@pytest.mark.parametrize("size", [48, 75])
def test_the_table_is_exact_at_any_resolution_and_width(size):
    layout = ChainLayout(depth=3, c_last=320, n_classes=7, input_channels=1, image_size=size)
    table = CostTable.counted(layout)
    for seed in range(3):
        architecture = random_architecture(table, table.range, torch.Generator().manual_seed(seed))
        network = chain_network(architecture, c_last=320, num_classes=7, in_chans=1)
        assert table.of(architecture) == count_macs(network, (1, size, size))
    with pytest.raises(ValueError, match="stage 1 has 4 blocks"):
        table.of(PUBLISHED["cdarts_b"].architecture)


def test_the_expected_cost_is_the_mean_over_architectures(small_table):
    """By its definition, over all 6^5 networks of one block a stage."""
    torch.manual_seed(0)
    mixtures = [F.pad(torch.randn(1, 6).softmax(-1), (0, 1)) for _ in SEARCHED]
    costs, probabilities = all_costs(small_table, mixtures)
    assert float((costs * probabilities).sum()) == pytest.approx(float(small_table.expected(mixtures)), rel=1e-7)


def all_costs(table, mixtures):
    """Cost and probability of every network of one block a stage, in the order of ``itertools.product``."""
    costs, probabilities = torch.tensor([float(table.fixed)], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    for of_stage, mixture in zip(table.stages, mixtures, strict=True):
        costs = (costs[:, None] + of_stage[0, :6]).flatten()
        probabilities = (probabilities[:, None] * mixture[0, :6].double()).flatten()
    return costs, probabilities


def test_the_range_is_what_the_smallest_and_the_largest_network_cost(table):
    assert table.range[0] == table.of(parse_architecture(ONE_BLOCK))
    assert table.range[1] == table.of(parse_architecture([[0], *[[5] * 4] * 5, [0]]))
    table.check_target(300e6)
    for target in (50e6, 900e6):
        with pytest.raises(CydasError, match=r"they cost 82\.9 M to 558\.0 M at this image size"):
            table.check_target(target)
        with pytest.raises(CydasError, match="no network of this space costs"):
            CostConstraint(table, target)


# -- choice ------------------------------------------------------------------------------------------------------------


def test_the_preferred_architecture_has_each_blocks_best(table):
    architecture = parse_architecture("[[0], [0], [3, 1, 5], [2, 4], [3, 3, 3, 3], [1], [0]]")
    assert preferred(one_hot(architecture, 4)) == architecture
    assert ChainSpace.preferred({str(s): 9 * m for s, m in enumerate(one_hot(architecture, 4))}) == architecture
    with pytest.raises(RuntimeError):
        ChainSpace.preferred({"alpha": torch.zeros(6, 5)})
    alphas = ArchitectureParameters(4)
    with torch.no_grad():
        for alpha in alphas:
            alpha[:, -1] = 9.0  # all that may be left out is
    assert preferred(alphas.mixtures()).blocks == 6
    with torch.no_grad():
        for alpha in alphas:
            alpha.copy_(torch.tensor([[0.0, 0.0, 0.1, 0.0, 0.0, 0.0, 1.7]] * 4))  # likelier than each of them, not all
    assert str(preferred(alphas.mixtures())) == f"[[0], {', '.join(['[2, 2, 2, 2]'] * 5)}, [0]]"


def test_at_the_start_a_block_is_as_open_as_its_operation():
    for mixture in ArchitectureParameters(4).mixtures():
        expected = torch.tensor([1 / 12] * 6 + [1 / 2]).expand(3, -1)
        torch.testing.assert_close(mixture[1:], expected, rtol=0.01, atol=0)
        torch.testing.assert_close(mixture[0], torch.tensor([1 / 6] * 6 + [0.0]), rtol=0.01, atol=0)


def test_within_a_window_the_most_probable_architecture_is_found(small_table):
    """Compared with all 6^5 networks of one block a stage."""
    for seed in range(5):
        torch.manual_seed(seed)
        mixtures = [F.pad(torch.randn(1, 6).softmax(-1), (0, 1)) for _ in SEARCHED]
        costs, probabilities = all_costs(small_table, mixtures)
        low, high = (float(costs.quantile(q)) for q in (0.1 * seed, 0.1 * seed + 0.1))
        inside = (costs >= low) & (costs <= high)
        best = list(itertools.product(range(6), repeat=5))[int((probabilities * inside).argmax())]
        found = preferred_within(mixtures, small_table, (low, high))
        assert [operations[0] for operations in found.stages[1:-1]] == list(best)
        cost = small_table.of(found)  # to the last MAC
        assert small_table.of(preferred_within(mixtures, small_table, (low - 2e5, cost - 1))) < cost
        assert small_table.of(preferred_within(mixtures, small_table, (cost + 1, high + 2e5))) > cost


def test_a_window_is_kept_at_any_depth_and_an_empty_one_is_refused(table):
    torch.manual_seed(0)
    mixtures = ArchitectureParameters(4).mixtures()
    for target in (120e6, 300e6, 520e6):
        found = preferred_within(mixtures, table, (0.98 * target, 1.02 * target))
        assert 0.98 * target <= table.of(found) <= 1.02 * target
    for choose in (
        lambda window: preferred_within(mixtures, table, window),
        lambda window: random_architecture(table, window, torch.Generator()),
    ):
        with pytest.raises(CydasError, match=r"costs 900\.0 M to 901\.0 M; they cost 82\.9 M to 558\.0 M"):
            choose((900e6, 901e6))


def test_random_architectures_are_in_the_window_and_follow_the_generator(table):
    def draw(seed):
        return random_architecture(table, (290e6, 300e6), torch.Generator().manual_seed(seed))

    found = [draw(seed) for seed in range(20)]
    assert all(290e6 <= table.of(architecture) <= 300e6 for architecture in found)
    assert draw(3) == found[3] and len(set(found)) == 20


def test_the_cost_comes_to_the_target_whatever_the_loss_pulls_at(table):
    """A loss that wants the largest network, and one that wants the smallest: both end within 2 percent."""
    target = 250e6
    for sign in (-1, 1):
        torch.manual_seed(0)
        alphas, constraint = ArchitectureParameters(4), CostConstraint(table, target)
        optimiser = torch.optim.Adam(alphas.parameters(), lr=0.02)
        for _ in range(600):
            mixtures = alphas.mixtures()
            loss = sign * table.expected(mixtures) / target + constraint.penalty(mixtures)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            constraint.adapt(alphas.mixtures())
        assert abs(constraint.excess(alphas.mixtures()).item()) < 0.02
        assert float(constraint.multiplier) == pytest.approx(-sign, abs=0.3)  # what the loss pulls with
