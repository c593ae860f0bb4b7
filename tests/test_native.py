"""The native cells compute what the modules' formulas say: outputs, gradients, batch norm buffers."""

import copy
import logging
import shutil
import subprocess
import sys

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from CyDAS.models import native
from CyDAS.models.cells import mixed
from CyDAS.models.cells.layout import CellShape
from CyDAS.models.cells.mixed import CellPlan, Operation, run_cell
from CyDAS.models.cells.nasnet import EvaluationCell
from CyDAS.models.cells.operations import CHOOSABLE, make_operation, make_preprocessing
from CyDAS.models.cells.supernet import Mixture, SearchCell
from CyDAS.models.native import tensors
from CyDAS.models.nats import networks as nats
from CyDAS.models.nats.architecture import parse_architecture

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("g++", "c++"))), reason="no C++ compiler: there is nothing native to compare"
)
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-4}
GENOTYPE = [
    [("sep_conv_3x3", 0), ("avg_pool_3x3", 1)],
    [("sep_conv_5x5", 1), ("max_pool_3x3", 2)],
    [("dil_conv_3x3", 0), ("dil_conv_5x5", 1)],
    [("skip_connect", 0), ("skip_connect", 2)],
]


@pytest.fixture
def plain(monkeypatch):
    """A context in which there is no library: the same modules then run as PyTorch."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(tensors, "library", lambda: None)
            return function()

    return run


def perturb(module, dtype):
    """Weights, affine parameters and running statistics that are not those of a fresh module."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand_like(buffer))
    return module.to(dtype)


def outcome(module, forward, inputs):
    """Output, gradients of inputs and parameters, buffers, of one forward and backward."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    output = forward(module, *inputs)
    parameters = list(module.parameters())
    torch.manual_seed(2)
    gradients = torch.autograd.grad(
        (output * torch.randn(output.shape, dtype=output.dtype)).sum(), inputs + parameters, allow_unused=True
    )
    return {"output": [output.detach()], "gradients": gradients, "buffers": list(module.buffers())}


def assert_same(actual, expected, dtype):
    for part, values in expected.items():
        for mine, value in zip(actual[part], values, strict=True):
            assert (mine is None) == (value is None), part
            if value is not None:
                scale = max(1.0, float(value.abs().max()))
                torch.testing.assert_close(
                    mine, value, rtol=0, atol=TOLERANCE[dtype] * scale, msg=lambda m, part=part: f"{part}: {m}"
                )


def compare(plain, module, forward, inputs, dtype):
    other = copy.deepcopy(module)
    torch.manual_seed(3)
    expected = plain(lambda: outcome(other, forward, inputs))
    torch.manual_seed(3)
    assert_same(outcome(module, forward, inputs), expected, dtype)


class OneOperation(torch.nn.Module):
    """A cell of one node and two operations, one on each input, as the native step runs it and as PyTorch does."""

    def __init__(self, name, channels, stride, affine):
        super().__init__()
        self.ops = torch.nn.ModuleList(make_operation(name, channels, stride, affine) for _ in range(2))
        self.plan = CellPlan([Operation(i, 0, op) for i, op in enumerate(self.ops)], channels, stride == 2)

    def forward(self, x0, x1, weights):
        if self.plan.applies(x0, self.training):
            return run_cell(self.plan, [x0, x1], weights, self.training)
        return weights[0] * self.ops[0](x0) + weights[1] * self.ops[1](x1)


@needs_compiler
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", CHOOSABLE)
def test_operation_equals_pytorch(plain, name, stride):
    odd = [] if name == "skip_connect" and stride == 2 else [3, 5]
    for channels in [*odd, 20]:
        for dtype, training, affine in (
            (torch.float64, True, True),
            (torch.float32, True, False),
            (torch.float64, False, True),
        ):
            torch.manual_seed(channels)
            module = perturb(OneOperation(name, channels, stride, affine), dtype).train(training)
            inputs = [torch.randn(3, channels, 10, 12, dtype=dtype) for _ in range(2)]
            inputs[1] = inputs[1].to(memory_format=torch.channels_last)
            compare(plain, module, lambda m, *x: m(*x), [*inputs, torch.rand(2, dtype=dtype)], dtype)


@needs_compiler
@pytest.mark.parametrize("halve", [False, True])
def test_preprocessing_equals_pytorch(plain, halve):
    for c_in, c_out in ((5, 6), (16, 8), (12, 20)):
        for dtype, training in ((torch.float64, True), (torch.float64, False), (torch.float32, True)):
            module = perturb(make_preprocessing(c_in, c_out, halve, affine=training), dtype).train(training)
            strided = torch.randn(3, 2 * c_in, 8, 12, dtype=dtype)[:, ::2]
            compare(plain, module, lambda m, x: m(x), [strided], dtype)


@needs_compiler
@pytest.mark.parametrize("channels, reduction, size", [(4, False, 8), (6, True, 8), (16, True, 8), (16, False, 16)])
def test_search_cell_equals_pytorch(plain, channels, reduction, size):
    """The largest one keeps more than a cache holds, and so is computed node by node."""
    for dtype, training in ((torch.float64, True), (torch.float32, False)):
        torch.manual_seed(channels)
        cell = perturb(SearchCell(CellShape(6, 8, channels, False, reduction), affine=False), dtype).train(training)

        def forward(cell, x0, x1, *weights):
            return cell((x0, x1), Mixture(list(weights), list(weights)))[1]

        inputs = [torch.randn(3, c, size, size, dtype=dtype) for c in (6, 8)]
        weights = [torch.rand(i + 2, 8, dtype=dtype) for i in range(4)]
        compare(plain, cell, forward, [*inputs, *weights], dtype)


@needs_compiler
@pytest.mark.parametrize("drop_path", [0.0, 0.4])
@pytest.mark.parametrize("reduction", [False, True])
def test_evaluation_cell_equals_pytorch(plain, reduction, drop_path):
    for training in (True, False):
        cell = perturb(EvaluationCell(CellShape(8, 8, 8, False, reduction), GENOTYPE, affine=True), torch.float64)
        for edge in (edge for edges in cell.dag for edge in edges if len(edge) > 1):
            edge[1].p = drop_path
        inputs = [torch.randn(5, 8, 8, 8, dtype=torch.float64) for _ in range(2)]
        compare(plain, cell.train(training), lambda m, *x: m(x)[1], inputs, torch.float64)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels, reduction", [(4, True), (12, False), (20, True), (40, False)])
def test_inference_equals_pytorch(plain, channels, reduction, dtype):
    """Without gradients nothing is kept and batch norms are folded on the way: the search cell has every operation."""
    torch.manual_seed(channels)
    cell = perturb(SearchCell(CellShape(6, 8, channels, reduction, reduction), affine=True), dtype).eval()
    weights = [torch.rand(i + 2, 8, dtype=dtype) for i in range(4)]
    inputs = torch.randn(3, 6, *(2 * [16 if reduction else 8]), dtype=dtype), torch.randn(3, 8, 8, 8, dtype=dtype)

    def infer():
        with torch.no_grad():
            return cell(inputs, Mixture(weights, weights))[1]

    expected = plain(infer)
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(infer(), expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@needs_compiler
@pytest.mark.parametrize(
    "channels, size, dtype", [(6, 5, torch.float64), (20, 8, torch.float64), (16, 12, torch.float32)]
)
def test_nats_cells_equal_pytorch(plain, channels, size, dtype):
    """Dense convolutions, one input, only the last node given out; with and without keeping anything for backward."""
    x = torch.randn(3, channels, size, size, dtype=dtype)
    for training in (True, False):
        torch.manual_seed(channels)
        cell = perturb(nats.SearchCell(channels, affine=training), dtype).train(training)
        weights = torch.rand(6, 5, dtype=dtype)
        compare(plain, cell, lambda m, x, weights: m((x,), weights)[0], [x, weights], dtype)
        for text in (
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
            "|none~0|+|none~0|none~1|+|none~0|nor_conv_1x1~1|skip_connect~2|",  # nodes that nothing reaches
        ):
            evaluation = nats.EvaluationCell(channels, parse_architecture(text), affine=True)
            compare(plain, perturb(evaluation, dtype).train(training), lambda m, x: m((x,))[0], [x], dtype)
    with torch.no_grad():
        expected = plain(lambda: cell((x,), weights)[0])
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(cell((x,), weights)[0], expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@needs_compiler
def test_gradients_are_those_of_finite_differences():
    for name, stride in (("sep_conv_3x3", 2), ("dil_conv_5x5", 1), ("skip_connect", 2), ("max_pool_3x3", 1)):
        module = perturb(OneOperation(name, 2, stride, affine=True), torch.float64)
        inputs = [torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
        weights = torch.rand(2, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda *x, m=module: m(*x), (*inputs, weights), fast_mode=True)


@needs_compiler
def test_only_wanted_gradients_are_computed():
    """The val update needs no weight gradients of the search network, the train update none of the mixture."""
    torch.manual_seed(0)
    module = OneOperation("sep_conv_3x3", 8, 1, affine=False)
    x, weights = torch.randn(2, 8, 6, 6, requires_grad=True), torch.rand(2, requires_grad=True)
    everything = torch.autograd.grad(module(x, x, weights).square().sum(), [x, weights, *module.parameters()])
    (mixture,) = torch.autograd.grad(module(x, x, weights).square().sum(), [weights])
    fewer = torch.autograd.grad(
        module(x.detach(), x.detach(), weights.detach()).square().sum(), list(module.parameters())
    )
    torch.testing.assert_close([mixture, *fewer], list(everything[1:]))


@needs_compiler
@pytest.mark.parametrize("frozen", ["conv1.weight", "conv2.weight", "bn.weight", "bn.bias"])
def test_any_parameter_may_be_frozen(plain, frozen):
    torch.manual_seed(0)
    module = perturb(make_preprocessing(8, 8, True, affine=True), torch.float64)
    module.get_parameter(frozen).requires_grad_(False)
    others = [p for p in module.parameters() if p.requires_grad]
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64)
    gradients = torch.autograd.grad(module(x).square().sum(), others)
    reference = copy.deepcopy(module).requires_grad_()
    wanted = plain(lambda: torch.autograd.grad(reference(x).square().sum(), list(reference.parameters())))
    names = [name for name, _ in module.named_parameters() if name != frozen]
    by_name = dict(zip([name for name, _ in reference.named_parameters()], wanted, strict=True))
    torch.testing.assert_close(list(gradients), [by_name[name] for name in names])


@needs_compiler
def test_what_does_not_fit_is_left_to_pytorch_to_refuse():
    halve = make_preprocessing(8, 8, True, affine=False)
    for x in (torch.randn(2, 8, 5, 5), torch.randn(2, 8, 4, 4, dtype=torch.float64), torch.randn(2, 4, 4, 4)):
        with pytest.raises(RuntimeError):
            halve(x)


@needs_compiler
def test_checkpointing_gives_the_same_gradients():
    torch.manual_seed(0)
    module = OneOperation("dil_conv_3x3", 8, 1, affine=False)
    x, weights = torch.randn(2, 8, 6, 6, requires_grad=True), torch.rand(2)
    kept = torch.autograd.grad(module(x, x, weights).square().sum(), [x, *module.parameters()])
    again = checkpoint(module, x, x, weights, use_reentrant=False).square().sum()
    torch.testing.assert_close(torch.autograd.grad(again, [x, *module.parameters()]), kept)


@needs_compiler
def test_a_kept_graph_is_not_overwritten_by_a_later_step():
    """Buffers are used again only when nobody holds them."""
    torch.manual_seed(0)
    module = OneOperation("sep_conv_3x3", 32, 1, affine=False)
    x, weights = torch.randn(8, 32, 32, 32, requires_grad=True), torch.rand(2)
    loss = module(x, x, weights).square().sum()
    first = torch.autograd.grad(loss, [x], retain_graph=True)
    module(torch.randn_like(x), x, weights).square().sum().backward()
    torch.testing.assert_close(torch.autograd.grad(loss, [x]), first, rtol=0, atol=0)


@needs_compiler
@pytest.mark.parametrize("units", [1, 3])
def test_pointwise_outputs_may_lie_in_pieces(monkeypatch, units):
    """Large ones do, each below what glibc gives back to the kernel: nothing of a step is computed otherwise."""
    torch.manual_seed(0)
    module = OneOperation("sep_conv_3x3", 8, 1, affine=False).double()
    inputs = [torch.randn(2, 8, 6, 6, dtype=torch.float64), torch.randn(2, 8, 6, 6, dtype=torch.float64)]

    def step():
        return outcome(copy.deepcopy(module), lambda m, *x: m(*x), [*inputs, torch.tensor([0.4, 0.7]).double()])

    whole = step()
    made, pieces = [], mixed._pieces
    monkeypatch.setattr(mixed, "PIECE_BYTES", units * 2 * 6 * 6 * 8 * 8)
    monkeypatch.setattr(mixed, "_pieces", lambda *arguments: made.append(pieces(*arguments)) or made[-1])
    cut = step()
    assert [len(piece) for piece in made[0]] == {1: [1] * 4, 3: [3, 1]}[units]
    for part, values in whole.items():
        assert all(torch.equal(mine, value) for mine, value in zip(cut[part], values, strict=True)), part


@needs_compiler
def test_the_number_of_threads_does_not_change_the_output():
    torch.manual_seed(0)
    module = OneOperation("sep_conv_5x5", 8, 1, affine=False)
    x, weights = torch.randn(5, 8, 8, 8), torch.rand(2)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = module(x, x, weights)
        torch.set_num_threads(2)
        assert torch.equal(module(x, x, weights), one)
    finally:
        torch.set_num_threads(threads)


def test_autocast_takes_the_plain_path():
    module = OneOperation("sep_conv_3x3", 4, 1, affine=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert not module.plan.applies(torch.randn(2, 4, 6, 6), training=True)


@pytest.mark.parametrize("reason", ["switched off", "no native kernels"])
def test_without_a_library_there_is_one_line_in_the_log(monkeypatch, caplog, reason):
    if reason == "switched off":
        monkeypatch.setenv("CYDAS_NATIVE", "0")
    else:
        monkeypatch.delenv("CYDAS_NATIVE", raising=False)
        monkeypatch.setenv("CXX", "/does/not/exist")
    native.library.cache_clear()
    try:
        with caplog.at_level(logging.INFO, logger="CyDAS"):
            assert native.library() is None and native.library() is None
        assert [reason in record.getMessage() for record in caplog.records] == [True]
    finally:
        native.library.cache_clear()


@needs_compiler
def test_processes_may_compile_at_once(monkeypatch, tmp_path):
    """Each finds a whole library, and nothing half-written stays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = "import torch; from CyDAS.models import native; native.FLAGS = ('-O0', *native.FLAGS[2:])"
    code += "; assert native.library().cydas_cell_float32"
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert len(list((tmp_path / "cydas").iterdir())) == 1
