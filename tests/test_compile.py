"""torch.compile: one graph for every drop path probability, the same numbers as without, and what is refused."""

import copy
import json

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from CyDAS import retrain
from CyDAS import test as evaluation
from CyDAS.config import RetrainConfig
from CyDAS.models.cells.genotype import make_genotype
from CyDAS.models.cells.layout import NODES, Layout
from CyDAS.models.cells.nasnet import DropPath, RetrainNetwork
from CyDAS.models.native import tensors
from CyDAS.utils.errors import CydasError

#: Cheap operations, all of which may be dropped but the skip.
NODE = [("avg_pool_3x3", 0), ("max_pool_3x3", 1)]
GENOTYPE = make_genotype(*[[NODE, NODE, NODE, [("skip_connect", 2), ("dil_conv_3x3", 3)]]] * 2)


def make_network():
    """One cell of a network: the others are compiled in the same way, and 20 of them take long."""
    torch.manual_seed(0)
    network = RetrainNetwork(Layout(init_channels=2, stem_multiplier=1, image_size=16), [GENOTYPE] * 3, auxiliary=False)
    network.nas_layers = nn.ModuleList([network.nas_layers[0][:1]])
    network.fc = nn.Linear(2 * NODES, 10)
    return network.train()


def images(n):
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(n))


@pytest.fixture
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def test_drop_path_is_no_reason_to_compile_again(fresh, monkeypatch):
    """12 probabilities, two sizes of batches, evaluation in between: one graph without drop path, one with it, one for
    evaluation, and one more for batches of any size."""
    network, plain = make_network(), make_network()
    counter = CompileCounterWithBackend("eager")
    network.compile(backend=counter, fullgraph=True)
    monkeypatch.setattr(tensors, "library", lambda: None)  # the other one computes its formula, too
    for epoch in range(12):
        for each in (network, plain):
            each.set_drop_path(0.3 * epoch / 12)
        for n in (6, 3):
            outputs = []
            for each in (network, plain):
                torch.manual_seed(epoch)
                outputs.append(each.train()(images(n)).logits)
            assert torch.equal(*outputs)
        with torch.no_grad():
            assert torch.equal(network.eval()(images(6)).logits, plain.eval()(images(6)).logits)
    assert counter.frame_count <= 5


def test_without_drop_path_nothing_is_drawn_and_with_it_the_state_dict_is_the_same():
    network = make_network()
    names = list(network.state_dict())
    random = torch.get_rng_state()
    network(images(4))
    assert torch.equal(torch.get_rng_state(), random)
    network.set_drop_path(0.5)
    network(images(4))
    assert not torch.equal(torch.get_rng_state(), random)
    assert list(network.state_dict()) == names and len(list(network.buffers())) == len(list(make_network().buffers()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_factors_are_those_of_a_plain_number(dtype):
    """The draws of earlier versions, bit for bit, whatever the type of the network."""
    layer, x = DropPath(), torch.zeros(7, 1, 1, 1, dtype=dtype)
    for p in (0.1, 0.15 + 0.05, 0.3):
        layer.p = p
        moved = copy.deepcopy(layer).to(dtype)
        assert layer.p == moved.p == p
        torch.manual_seed(1)
        expected = torch.empty(7, dtype=dtype).bernoulli_(1.0 - p) / (1.0 - p)
        torch.manual_seed(1)
        assert torch.equal(moved.factors(x), expected)
    assert torch.equal(layer.to("meta").to_empty(device="cpu").eval()(x), x)
    layer.p = 0.0
    assert layer.train()(x) is x


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ("--compile --grad_checkpointing", "--grad_checkpointing"),
        ("--compile --compile_mode reduce-overhead --accum_steps 2", "--accum_steps"),
        ("--compile --compile_mode max-autotune --accum_steps 2", "--accum_steps"),
    ],
)
def test_what_compilation_cannot_do_is_refused(tmp_path, flags, named):
    with pytest.raises(CydasError, match=named):
        retrain.main([*flags.split(), "--output_dir", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_what_it_can_do_is_not():
    RetrainConfig(compile=True, accum_steps=2).check()
    RetrainConfig(compile=True, compile_mode="reduce-overhead").check()
    RetrainConfig(compile_mode="reduce-overhead", accum_steps=2, grad_checkpointing=True).check()


def test_a_compiled_run_is_recorded_and_tested(fresh, tmp_path, monkeypatch):
    """Its checkpoints are those of any run. (With a compiler that only traces; the real one takes minutes.)"""
    compile_network = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode: compile_network(self, backend="eager"))
    cell = tmp_path / "cell.json"
    cell.write_text('{"0": "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"}')
    flags = f"--space nats --cells_per_stage 1 --init_channels 2 --output_dir {tmp_path} --name c --workers 0 --compile"
    retrain.main(f"{flags} --cell_file {cell} --aux_weight 0 --batch_size 600 --epochs 1".split())
    weights = torch.load(tmp_path / "retrain/c/last.pth.tar", weights_only=True)["model_main"]
    assert not any("_orig_mod" in name for name in weights)
    made = json.loads((tmp_path / "retrain/c/config.json").read_text())
    assert made["native"] == {"used": False, "reason": "--compile"}
    evaluation.main(flags.split())
