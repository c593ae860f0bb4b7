"""The native step of a cell applies to what it was made for; all else PyTorch computes, or says what is wrong."""

import copy
import math
import pickle
import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize, prune
from torch.utils._python_dispatch import TorchDispatchMode

from CyDAS.models.cells import nasnet, supernet
from CyDAS.models.cells.cell_plan import CellPlan, Operation
from CyDAS.models.cells.layout import CellShape
from CyDAS.models.cells.mixed import run_cell
from CyDAS.models.cells.operations import DilConv, SepConv, make_operation, make_preprocessing
from CyDAS.models.native import library, tensors
from CyDAS.models.nats import networks as nats

pytestmark = pytest.mark.skipif(library() is None, reason="there are no native kernels")

GENOTYPE = [
    [("sep_conv_3x3", 0), ("avg_pool_3x3", 1)],
    [("dil_conv_5x5", 1), ("max_pool_3x3", 2)],
    [("skip_connect", 0), ("skip_connect", 2)],
    [("dil_conv_3x3", 3), ("sep_conv_5x5", 1)],
]


class Net(nn.Module):
    """An evaluation cell with its preprocessings, on one image tensor [N, 8, H, W]."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nasnet.EvaluationCell(CellShape(8, 8, 4, False, False), GENOTYPE, affine=True)

    def forward(self, x, y=None):
        return self.cell((x, x if y is None else y))[1]

    @property
    def convolutions(self):
        """ReLU, depthwise, pointwise, batch norm of the first separable convolution."""
        return self.cell.dag[0][0][0].net[0].net


def images(n=3, size=6, **options):
    torch.manual_seed(1)
    return torch.randn(n, 8, size, size, **options)


@pytest.fixture
def native_calls(monkeypatch):
    """One entry for each cell that ran as a native step."""
    calls = []
    for module in (supernet, nasnet, nats):

        def spy(*arguments, original=module.run_cell, **options):
            calls.append(arguments)
            return original(*arguments, **options)

        monkeypatch.setattr(module, "run_cell", spy)
    return calls


@pytest.fixture
def plain(monkeypatch):
    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(tensors, "library", lambda: None)
            return function()

    return run


def assert_equal(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * max(1.0, float(expected.detach().abs().max())))


def test_ordinary_cells_are_native(native_calls, plain):
    net = Net()
    assert_equal(net(images()), plain(lambda: copy.deepcopy(net)(images())))
    nats_cell = nats.SearchCell(8, affine=True)
    nats_cell((images(),), torch.rand(6, 5))
    assert len(native_calls) == 2
    nats_cell.edges["1<-0"][3].op[1].register_forward_hook(lambda module, inputs, output: 2 * output)
    nats_cell((images(),), torch.rand(6, 5))
    assert len(native_calls) == 2


@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_goes_forward_and_back(native_calls, training):
    net, x = Net().train(training), images(0).requires_grad_()
    output = net(x)
    output.sum().backward()
    assert output.shape == (0, 16, 6, 6) and x.grad.shape == x.shape and not native_calls


@pytest.mark.parametrize(
    "change",
    [
        lambda x: (x[:, :6], None),
        lambda x: (x, x[:2]),
        lambda x: (x, x[:, :, :4]),
        lambda x: (x, x.double()),
        lambda x: (x.half(), None),
        lambda x: (x.int(), None),
        lambda x: (x[0], None),
        lambda x: (x[:, :, :0], None),
        lambda x: (x.to("meta"), None),
        lambda x: (x.to_mkldnn(), None),
        lambda x: (x.to(torch.complex64), None),
    ],
    ids="channels batch size double half int unbatched no-height meta mkldnn complex".split(),
)
def test_images_that_do_not_fit_get_pytorchs_error(native_calls, change):
    with pytest.raises((RuntimeError, ValueError)):
        Net()(*change(images()))
    assert not native_calls


def test_states_that_are_unlike_never_reach_the_kernels():
    """Also where only the first of them was asked about."""
    plan = CellPlan([Operation(source, 0, make_operation("avg_pool_3x3", 8, 1, True)) for source in (0, 1)], 8, False)
    x, weights = images(), torch.ones(2)
    assert plan.applies(x, True)
    for inputs, mix in (([x, x[:2]], weights), ([x], weights), ([x, x.double()], weights), ([x, x], weights[:1])):
        with pytest.raises(RuntimeError, match="must be alike"):
            run_cell(plan, inputs, mix, True)
    with pytest.raises(RuntimeError, match="must be alike"):
        run_cell(plan, [x, x], weights, True, drop=torch.ones(2, 2))


def test_a_mixture_of_another_shape_is_left_to_the_formula(native_calls, plain):
    cell, x = supernet.SearchCell(CellShape(8, 8, 4, False, False), affine=False), images()

    def run(shapes):
        mixture = [torch.linspace(0.1, 0.9, math.prod(shape)).view(shape) for shape in shapes]
        return cell((x, x), supernet.Mixture(mixture, mixture))[1]

    nodes = range(4)
    with torch.no_grad():
        assert_equal(run([(i + 2, 8) for i in nodes]), plain(lambda: run([(i + 2, 8) for i in nodes])))
        assert len(native_calls) == 1
        assert_equal(run([(i + 2, 7) for i in nodes]), plain(lambda: run([(i + 2, 7) for i in nodes])))
        for shapes in ([(i + 2, 1) for i in nodes], [(5 - i, 8) for i in nodes], [(i + 2, 8) for i in range(3)]):
            with pytest.raises((IndexError, ValueError)):
                run(shapes)
        nats_cell, weights = nats.SearchCell(4, True), torch.rand(6, 5)
        for mixture in (weights[:, :2], weights[:3], weights.to("meta"), weights.flatten()):
            with pytest.raises((IndexError, RuntimeError)):
                nats_cell((torch.randn(2, 4, 4, 4),), mixture)
    assert len(native_calls) == 1


class Double(nn.Module):
    def forward(self, weight):
        return 2 * weight


def set_norms(net, **settings):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for name, value in settings.items():
                setattr(module, name, value)


CHANGES = {
    "convolution replaced": lambda net: net.convolutions.__setitem__(2, nn.Conv2d(4, 4, 1)),
    "operation replaced": lambda net: net.cell.dag[1][1].__setitem__(0, nn.AvgPool2d(3, 1, 1)),
    "all replaced": lambda net: setattr(net.cell, "dag", copy.deepcopy(Net().double().float().cell.dag)),
    "preprocessing replaced": lambda net: net.cell.preproc0.net.__setitem__(0, nn.Tanh()),
    "bias added": lambda net: setattr(net.convolutions[2], "bias", nn.Parameter(torch.ones(4))),
    "circular padding": lambda net: (
        setattr(net.convolutions[1], "padding_mode", "circular")
        or setattr(net.convolutions[1], "_reversed_padding_repeated_twice", [1, 1, 1, 1])
    ),
    "padding counted": lambda net: setattr(net.cell.dag[0][1][0], "count_include_pad", True),
    "one eps": lambda net: setattr(net.convolutions[3], "eps", 1.0),
    "one norm in eval mode": lambda net: net.convolutions[3].eval(),
    "average of all batches": lambda net: set_norms(net, momentum=None),
    "no gamma": lambda net: setattr(net.convolutions[3], "weight", None),
    "no counter": lambda net: setattr(net.convolutions[3], "num_batches_tracked", None),
    "statistics not tracked": lambda net: setattr(net.convolutions[3], "track_running_stats", False),
    "parametrized": lambda net: parametrize.register_parametrization(net.convolutions[2], "weight", Double()),
    "spectral norm": lambda net: nn.utils.parametrizations.spectral_norm(net.convolutions[2]),
    "pruned": lambda net: prune.l1_unstructured(net.convolutions[2], "weight", 0.5),
    "own forward": lambda net: setattr(net.convolutions[0], "forward", torch.tanh),
    "forward hook": lambda net: net.convolutions[2].register_forward_hook(lambda module, inputs, output: 2 * output),
    "hook before": lambda net: net.convolutions[2].register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],)),
    "backward hook": lambda net: net.convolutions[3].register_full_backward_hook(lambda module, inputs, outputs: None),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_modules_compute_their_formula(native_calls, plain, change):
    torch.manual_seed(2)
    net, reference = Net(), Net()
    for each in (net, reference):
        torch.manual_seed(3)
        change(each)
    x, y = (images().requires_grad_() for _ in range(2))
    output, expected = net(x), plain(lambda: reference(y))
    assert_equal(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    assert_equal(x.grad, y.grad)
    for mine, theirs in zip(net.buffers(), reference.buffers(), strict=True):
        assert_equal(mine.double(), theirs.double())


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.convolutions[2].weight.data.copy_(torch.ones(4, 4, 1, 1)),
        lambda net: setattr(net.convolutions[2], "weight", nn.Parameter(torch.randn(4, 4, 1, 1).transpose(0, 1))),
        lambda net: setattr(net.convolutions[2].weight, "data", torch.randn(4, 1, 1, 1).expand(4, 4, 1, 1)),
        lambda net: set_norms(net, eps=0.5, momentum=0.7),
        lambda net: net.load_state_dict({k: 2 * v for k, v in net.state_dict().items()}, assign=True),
        lambda net: net.convolutions[1].requires_grad_(False),
    ],
    ids="value transposed expanded norms assigned frozen".split(),
)
def test_what_may_change_is_seen(native_calls, plain, change):
    nets = [Net(), Net()]
    for net in nets:
        torch.manual_seed(3)
        change(net)
    assert_equal(nets[0](images()), plain(lambda: nets[1](images())))
    for mine, theirs in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        assert_equal(mine.double(), theirs.double())
    assert len(native_calls) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda net: net.half(),
        lambda net: setattr(net.convolutions[2].weight, "data", torch.randn(4, 4, 1, 1).double()),
        lambda net: setattr(net.convolutions[1], "weight", nn.Parameter(torch.randn(4, 1, 1, 3))),
        lambda net: setattr(net.convolutions[1], "padding", (0, 0)),
        lambda net: setattr(net.convolutions[3], "running_mean", torch.zeros(4).double()),
        lambda net: setattr(net.convolutions[3], "running_mean", torch.zeros(3)),
        lambda net: setattr(net.convolutions[3], "running_mean", None),
        lambda net: net.to("meta"),
    ],
    ids="half double-weight kernel padding double-mean short-mean no-mean meta".split(),
)
def test_weights_that_do_not_fit_get_pytorchs_error(native_calls, plain, change):
    net = Net()
    net(images())
    change(net)
    native_calls.clear()
    try:
        expected = plain(lambda: copy.deepcopy(net)(images()))
    except (RuntimeError, ValueError) as error:
        with pytest.raises(type(error)):
            net(images())
    else:
        assert net.convolutions[3].running_mean is None  # PyTorch 2.6 does without
        assert_equal(net(images()), expected)
    assert not native_calls


def test_strided_statistics_are_not_written_through():
    net, wide = Net(), torch.zeros(8)
    net.convolutions[3].running_mean = wide[::2]
    net(images())
    assert not wide[1::2].any() and wide[::2].any()


def test_a_change_of_type_is_followed(native_calls, plain):
    net = Net()
    net(images())
    assert_equal(net.double()(images().double()), plain(lambda: copy.deepcopy(net)(images().double())))
    assert net.bfloat16()(images().bfloat16()).dtype == torch.bfloat16
    assert len(native_calls) == 2


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))])
def test_a_copy_computes_with_its_own_weights_and_modes(native_calls, plain, make_copy):
    original = Net()
    before = original(images())
    other = make_copy(original)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-2)
    for training in (True, False):
        other.train(training)
        assert_equal(other(images()), plain(lambda: copy.deepcopy(other)(images())))
    assert len(native_calls) == 3
    assert torch.equal(original(images()), before)
    other.train().convolutions[2].register_forward_hook(lambda module, inputs, output: 2 * output)
    other(images())
    assert len(native_calls) == 4  # the copy's hook is not the original's


def test_given_parameters_are_taken(native_calls, plain):
    net = Net()
    given = {name: -2 * parameter for name, parameter in net.named_parameters()}
    assert_equal(functional_call(net, given, images()), plain(lambda: functional_call(net, given, images())))


@pytest.mark.parametrize(
    "run",
    [
        lambda net, x: torch.jit.trace(net, x, check_trace=False)(2 * x),
        lambda net, x: torch.export.export(net, (x,)).module()(2 * x),
        lambda net, x: make_fx(net)(x)(2 * x),
        lambda net, x: make_fx(net, pre_dispatch=True)(x)(2 * x),
        lambda net, x: make_fx(net, tracing_mode="symbolic", pre_dispatch=True, _allow_non_fake_inputs=True)(x)(2 * x),
        lambda net, x: torch.fx.symbolic_trace(net, concrete_args={"y": None})(2 * x, None),
        lambda net, x: vmap(net)((2 * x)[None])[0],
        lambda net, x: net(2 * x),
    ],
    ids="jit export make_fx make_fx-pre make_fx-symbolic fx vmap none".split(),
)
def test_traces_and_transforms_see_the_formula(plain, run):
    net, x = Net().eval(), images()
    for with_gradients in (False, True):  # other functions run the native step
        with torch.set_grad_enabled(with_gradients):
            assert_equal(run(net, x), plain(lambda: net(2 * x)))


def test_derivatives_of_function_transforms_and_forward_mode(plain, native_calls):
    net, x, tangent = Net().eval(), images(), images().flip(0)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(leaf).square().sum(), leaf)
    native_calls.clear()
    assert_equal(grad(lambda x: net(x).square().sum())(x), expected)
    parameters = {name: parameter.detach() for name, parameter in net.named_parameters()}
    of_weights = plain(lambda: torch.autograd.grad(net(x).square().sum(), net.convolutions[2].weight)[0])
    gradients = grad(lambda parameters: functional_call(net, parameters, x).square().sum())(parameters)
    assert_equal(gradients["cell.dag.0.0.0.net.0.net.2.weight"], of_weights)
    along = plain(lambda: jvp(net, (x,), (tangent,))[1])
    assert_equal(jvp(net, (x,), (tangent,))[1], along)
    with forward_ad.dual_level():
        assert_equal(forward_ad.unpack_dual(net(forward_ad.make_dual(x, tangent))).tangent, along)
    assert not native_calls


def test_fake_tensors_have_shapes_only(native_calls):
    with FakeTensorMode():
        output = Net()(torch.empty(3, 8, 6, 6))
    assert output.shape == (3, 16, 6, 6)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert Net()(mode.from_tensor(images())).shape == (3, 16, 6, 6)
    assert not native_calls
    output = Net()(images().requires_grad_())
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.raises(RuntimeError):
        output.sum().backward()


class Counting(TorchDispatchMode):
    convolutions = 0

    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        self.convolutions += operation is torch.ops.aten.convolution.default
        return operation(*arguments, **(options or {}))


def test_those_who_watch_see_every_operation(native_calls):
    class Marked(torch.Tensor):
        pass

    net, x = Net(), images()
    assert type(net(x.as_subclass(Marked))) is Marked
    with Counting() as counter:
        net(x)
    assert counter.convolutions == 14
    seen = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: seen.append(type(module)))
    try:
        net(x)
    finally:
        handle.remove()
    assert seen.count(nn.MaxPool2d) == 1 and not native_calls
    net(x)
    assert len(native_calls) == 1


def test_inference_mode(native_calls, plain):
    net = Net().eval()
    with torch.inference_mode():
        assert_equal(net(images()), plain(lambda: net(images())))
        inside, made_inside = images(), Net()
    assert len(native_calls) == 1
    leaf = net(inside)  # from outside, with gradients
    leaf.sum().backward()
    with pytest.raises(RuntimeError, match="nference"):
        made_inside(images())


def test_negated_views_and_zero_tensors_are_numbers(plain):
    net = Net()
    for x in (torch.randn(3, 8, 6, 6, dtype=torch.complex64).conj().imag, torch._efficientzerotensor((3, 8, 6, 6))):
        assert_equal(net(x), plain(lambda x=x: copy.deepcopy(net)(x)))
    for module in (net, make_preprocessing(8, 4, False, True)):
        gradient = torch.randn(module(images()).shape).to(memory_format=torch.channels_last)
        output, parameters = module(images()), list(module.parameters())
        negated = torch.autograd.grad(output, parameters, torch._neg_view(gradient), retain_graph=True)
        for mine, theirs in zip(negated, torch.autograd.grad(output, parameters, -gradient), strict=True):
            assert_equal(mine, theirs)


def test_a_second_derivative_is_refused_not_left_out():
    """Also of a preprocessing, and where the incoming gradient is a constant."""
    for module in (Net(), make_preprocessing(8, 4, True, True)):
        x = images().requires_grad_()
        output = module(x).sum()
        (gradient,) = torch.autograd.grad(output, x, create_graph=True)
        with pytest.raises(RuntimeError, match="once only"):
            (output + gradient.square().sum()).backward()


def test_gradients_of_many_vectors_at_once_are_refused():
    x = images().requires_grad_()
    output = Net()(x)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(output, x, torch.randn(2, *output.shape), is_grads_batched=True)


def test_what_was_changed_in_between_is_noticed():
    net = Net()
    output = net(images())
    with torch.no_grad():
        net.convolutions[2].weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_a_kept_graph_gives_the_same_gradients_again():
    net, x = Net(), images().requires_grad_()
    loss = net(x).square().sum()
    wanted = [x, *net.parameters()]
    once, again = (torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True) for _ in range(2))
    assert all(a is b or torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert torch.equal(torch.autograd.grad(loss, x)[0], once[0])


def test_several_python_threads_and_more_threads_than_images():
    net, threads, outputs = Net().eval(), torch.get_num_threads(), [None] * 4
    leaves = [images().requires_grad_() for _ in outputs]  # drawn here: threads share PyTorch's generator
    expected = net(images()).detach()

    def work(index):
        outputs[index] = net(leaves[index])
        outputs[index].sum().backward()

    workers = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    try:
        torch.set_num_threads(32)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(output, expected) for output in outputs)


def single(name, stride, training):
    torch.manual_seed(0)
    operation = make_operation(name, 4, stride, True).train(training)
    return operation, CellPlan([Operation(0, 0, operation)], 4, stride == 2)


def run_alone(plan, x, training=True):
    return run_cell(plan, [x], torch.ones(plan.n_operations), training)


def derive(compute, module, x):
    """Output and gradients of the input and all parameters."""
    x = x.clone().requires_grad_()
    output = compute(x)
    torch.manual_seed(5)
    return output.detach(), *torch.autograd.grad(output, [x, *module.parameters()], torch.randn(output.shape))


SPECIAL = {
    "NaN": [((0, 1, 3, 3), math.nan), ((1, 2, 0, 0), math.nan), ((1, 2, 1, 1), math.nan)],
    "infinity": [((0, 1, 3, 3), math.inf), ((1, 2, 0, 0), -math.inf)],
    "nothing but -infinity": [((0, 0), -math.inf)],
    "zeros of both signs": [(slice(None), -0.0), ((slice(None), slice(None), 1), 0.0)],
    "denormal": [(0, 1e-41)],
}


@pytest.mark.parametrize("values", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("name", ["max_pool_3x3", "avg_pool_3x3", "dil_conv_3x3", "sep_conv_5x5"])
def test_special_numbers_are_pytorchs(name, values):
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for place, value in values:
        x[place] = value
    for stride, training in ((1, True), (2, True), (1, False), (2, False)):
        operation, plan = single(name, stride, training)
        native = derive(partial(run_alone, plan, training=training), operation, x)
        operation, _ = single(name, stride, training)
        for mine, theirs in zip(native, derive(operation, operation, x), strict=True):
            scale = max(1.0, float(theirs[theirs.isfinite()].abs().max())) if theirs.isfinite().any() else 1.0
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4 * scale, equal_nan=True)


def test_large_numbers_keep_their_variance():
    """Squares that float32 cannot hold: PyTorch's float32 kernel loses the variance, its float64 one does not."""
    operation, plan = single("dil_conv_3x3", 1, True)
    x = 1e19 * torch.randn(2, 4, 6, 6)
    expected = copy.deepcopy(operation).double()(x.double())
    torch.testing.assert_close(run_cell(plan, [x], torch.ones(1), True).double(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 5, 8])
@pytest.mark.parametrize("height, width", [(1, 1), (1, 5), (2, 1), (3, 33)])
def test_images_smaller_than_the_kernels_reach(plain, channels, height, width):
    names = [name for name in supernet.OPERATIONS if name != "none"]
    for stride in (1, 2):
        torch.manual_seed(0)
        chosen = [n for n in names if n != "skip_connect" or channels % 2 == 0 or stride == 1]
        operations = nn.ModuleList(make_operation(name, channels, stride, True) for name in chosen)
        plan = CellPlan([Operation(0, 0, op) for op in operations], channels, stride == 2)
        x = torch.randn(3, channels, stride * height, stride * width)
        other = copy.deepcopy(operations)
        native = derive(partial(run_alone, plan), operations, x)
        expected = derive(lambda x, other=other: sum(op(x) for op in other), other, x)
        for mine, theirs in zip(native, expected, strict=True):
            assert_equal(mine, theirs)


@pytest.mark.parametrize(
    "module",
    [
        nn.MaxPool2d(3, 1, 1, ceil_mode=True),
        nn.MaxPool2d(5, 1, 2),
        nn.AvgPool2d(3, 1, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        SepConv(8, 7, 1, True),
        SepConv(8, 3, 2, True),
        DilConv(8, 3, 1, 3, True),
        SepConv(4, 3, 1, True),
        nats.ConvUnit(8, 8, 3, 2, True),
        nats.ConvUnit(8, 4, 1, 1, True),
        make_operation("skip_connect", 8, 2, True),
        nn.ReLU(),
        nn.Sequential(),
    ],
)
def test_a_plan_of_what_the_kernels_do_not_know_is_refused(module):
    with pytest.raises(TypeError):
        CellPlan([Operation(0, 0, module)], 8, reduction=False)


def test_a_plan_that_reads_the_future_or_shares_a_norm_is_refused():
    with pytest.raises(ValueError, match="cannot read"):
        CellPlan([Operation(2, 0, nn.Identity())], 8, False)
    shared = make_operation("dil_conv_3x3", 8, 1, True)
    with pytest.raises(TypeError, match="twice"):
        CellPlan([Operation(0, 0, shared), Operation(1, 0, shared)], 8, False)
