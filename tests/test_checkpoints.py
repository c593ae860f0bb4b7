"""Checkpoints that people have: wrapped, prefixed, of older PyTorch; weights, logits and alphas that are no numbers."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import CyDAS.test
from CyDAS.config import RetrainConfig, SearchConfig
from CyDAS.engine.continuing import check_search, check_training
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.optim import Precision
from CyDAS.models.cells.genotype import make_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.heads import RetrainOutput
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.models.nats.networks import NatsLayout, NatsNetwork
from CyDAS.runs.checkpoint import load_newest, save_checkpoint
from CyDAS.runs.weights import check_finite, find_weights, load_weights
from CyDAS.spaces import DartsSpace
from CyDAS.spaces.nats import NatsSpace
from CyDAS.tasks.classification import Classification, top1
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import previous, write_json
from CyDAS.utils.flags import plain

#: A cell with few tensors.
LIGHT = [
    make_genotype([[("max_pool_3x3", 0), ("skip_connect", 1)]] * 4, [[("sep_conv_3x3", 0), ("skip_connect", 1)]] * 4)
] * 3
CPU = torch.device("cpu")
FILE = Path("net.pth.tar")


def make_network(auxiliary=False, seed=0):
    torch.manual_seed(seed)
    return RetrainNetwork(Layout("cifar", 2, 1, image_size=12), LIGHT, auxiliary)


@pytest.fixture(scope="module")
def weights():
    return dict(make_network(seed=1).state_dict())


def flags_for(folder):
    """The flags of a test of ``net.pth`` in the folder."""
    write_json(folder / "cell.json", DartsSpace.to_strings(LIGHT))
    network = "--init_channels 2 --stem_multiplier 1 --image_size 12"
    return f"--resume_name {folder}/net.pth --cell_file {folder}/cell.json {network}".split()


def prefixed(weights, prefix):
    return {prefix + key: value for key, value in weights.items()}


def within(weights, part):
    """The part's name put in behind the first one."""
    return {key.replace(".", f".{part}.", 1): value for key, value in weights.items()}


WRAPPED = {
    "bare": lambda w: w,
    "published": lambda w: {"model_main": w},
    **{name: lambda w, name=name: {name: w, "epoch": 3, "optimizer": {"state": {0: {"x.y": torch.ones(1)}}}}
       for name in ("state_dict", "model", "net", "network", "module", "ema", "model_ema", "model_state_dict", "params",
                    "state_dict_ema", "weights")},
    "state_dict in model": lambda w: {"model": {"state_dict": w}},
    "model in checkpoint": lambda w: {"checkpoint": {"model": w, "epoch": torch.tensor(3)}},
    "module in ema": lambda w: {"ema": {"module": w, "decay": 0.9}},
    "a model that is a description": lambda w: {"model": {"name": "darts"}, "net": w},
    "a tensor beside it": lambda w: {"rng": torch.zeros(8), "state_dict": w},
    "averaged by torch": lambda w: {"n_averaged": torch.tensor(4), **prefixed(w, "module.")},
    **{f"prefix {prefix}": lambda w, prefix=prefix: {"state_dict": prefixed(w, prefix)}
       for prefix in ("module.", "_orig_mod.", "model.", "network.", "module.module.", "module._orig_mod.",
                      "_orig_mod.module.model.", "model.network._orig_mod.", "student.")},
    "a part compiled": lambda w: within(w, "_orig_mod"),
    "a part in parallel": lambda w: prefixed(within(w, "module"), "net."),
    "some keys prefixed": lambda w: {("module." if i % 2 else "") + key: v for i, (key, v) in enumerate(w.items())},
    "counters of batches missing": lambda w: {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")},
    "half precision": lambda w: {k: v.half() if v.is_floating_point() else v for k, v in w.items()},
}  # fmt: skip


@pytest.mark.parametrize("how", WRAPPED)
def test_weights_load_however_they_are_wrapped(weights, how):
    network = make_network()
    found = find_weights(WRAPPED[how](weights), FILE)
    load_weights(network, found.weights, FILE)
    own = network.state_dict()
    for key, value in weights.items():
        assert key.endswith("num_batches_tracked") or torch.allclose(own[key], value, atol=1e-3), key
    assert found.others == []


@pytest.mark.parametrize("prefix", ["", "module.", "model._orig_mod."])
def test_wrapped_weights_are_tested_and_say_whether_there_is_an_auxiliary_head(tmp_path, monkeypatch, capsys, prefix):
    monkeypatch.setattr(CyDAS.test, "count_macs", lambda *a: 0)
    for auxiliary in (False, True):
        content = {"model": {"state_dict": prefixed(make_network(auxiliary).state_dict(), prefix)}}
        torch.save(content, tmp_path / "net.pth")
        CyDAS.test.main(flags_for(tmp_path))
        assert "on 359 test images of digits" in capsys.readouterr().out


def test_the_space_of_nats_bench_knows_its_wrapped_weights_too():
    architecture = parse_architecture("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|nor_conv_1x1~1|none~2|")
    network, other = (NatsNetwork(NatsLayout(4, 1, image_size=8), architecture) for _ in range(2))
    load_weights(network, find_weights({"net": prefixed(other.state_dict(), "module.")}, FILE).weights, FILE)
    assert torch.equal(network.fc.weight, other.fc.weight)


def test_of_plain_and_averaged_weights_the_plain_ones_are_taken_unless_others_are_asked_for(weights):
    averaged = {key: value + 1 if value.is_floating_point() else value for key, value in weights.items()}
    content = {"model_ema": averaged, "model": weights}
    found = find_weights(content, FILE)
    assert found.weights["fc.bias"] is weights["fc.bias"] and (found.where, found.others) == ("model", ["model_ema"])
    assert find_weights(content, FILE, "model_ema").weights["fc.bias"] is averaged["fc.bias"]
    assert find_weights({"mine": {"module": averaged}, "model": weights}, FILE, "mine").where == "mine.module"
    with pytest.raises(CydasError, match="no weights under --weights_key other; .*keys are model_ema, model"):
        find_weights(content, FILE, "other")


def test_what_stands_around_the_weights_is_kept(weights):
    inner = {"model_main": weights, "genotype": {"0": "inner"}, "config": {}}
    assert find_weights({"model": inner, "genotype": "outer", "epoch": 3}, FILE).about["genotype"] == {"0": "inner"}


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"mine": {"fc.weight": torch.ones(1)}, "epoch": 3}, "top-level keys are mine, epoch"),
        ({f"k{i}": i for i in range(14)}, "k8, k9 and 4 more"),
        ({}, "top-level keys are none"),
        ({"state_dict": {"model": {"net": {"module": {"params": {"a.b": torch.ones(1)}}}}}}, "holds no weights"),
        ({"model_main": torch.ones(1)}, "top-level keys are model_main"),
        ({"search": {"joint": {"fc.weight": torch.ones(1)}}, "about": {}}, "where a search goes on from.*retrain.py"),
        ({"fc.bias": torch.ones(1), "module.fc.bias": torch.ones(1)}, "holds fc.bias twice"),
    ],
)
def test_anything_else_is_an_error_that_says_what_the_file_holds(content, word):
    with pytest.raises(CydasError, match=f"checkpoint net.pth.tar .*{word}"):
        find_weights(content, FILE)


def test_settings_of_other_programs_are_not_taken_for_ours(tmp_path, weights, monkeypatch, capsys):
    monkeypatch.setattr(CyDAS.test, "count_macs", lambda *a: 0)
    torch.save({"state_dict": weights, "config": {"dataset": "ImageNet", "init_channels": "x"}}, tmp_path / "net.pth")
    CyDAS.test.main(flags_for(tmp_path))
    assert "on 359 test images" in capsys.readouterr().out


# -- what is not finite ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("fc.weight", float("nan"), "1 of the 320 values of fc.weight are not finite"),
        ("fc.bias", float("-inf"), "1 of the 10 values of fc.bias are not finite"),
        ("feature_extractor.0.1.running_mean", float("inf"), "running_mean are not finite"),
        ("feature_extractor.0.1.running_var", float("nan"), "running_var are not finite"),
        ("feature_extractor.0.1.running_var", -0.5, "running_var, a variance, has values below 0"),
    ],
)
def test_weights_that_are_no_numbers_are_refused_by_name(weights, key, value, word):
    network = make_network()
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    changed[key].view(-1)[0] = value
    before = network.fc.weight.clone()
    with pytest.raises(CydasError, match=f"checkpoint net.pth.tar: .*{word}"):
        load_weights(network, changed, FILE)
    assert torch.equal(network.fc.weight, before)


def test_weights_of_another_kind_of_number_are_refused(weights):
    with pytest.raises(CydasError, match="fc.bias holds torch.int64, here torch.float32"):
        load_weights(make_network(), weights | {"fc.bias": torch.ones(10, dtype=torch.int64)}, FILE)


def test_a_resumed_run_passes_over_a_checkpoint_with_weights_that_are_not_finite(tmp_path, weights):
    config, architecture = RetrainConfig(model_type="cifar"), LIGHT
    content = {
        "model_main": weights, "genotype": DartsSpace.to_strings(architecture), "config": plain(config),
        "optimizer": {"state": {}, "param_groups": []}, "processes": [{"buffers": {}}], "number": 1,
    }  # fmt: skip
    path, accept = tmp_path / "resume", partial(check_training, config, architecture, {})
    nan = torch.tensor([float("nan")])
    for bad, name in (
        ({"optimizer": {"state": {3: {"momentum_buffer": nan}}}}, "optimizer.state.3.momentum_buffer"),
        ({"processes": [{"buffers": {"x.running_var": -torch.ones(2)}}]}, "buffers.0.x.running_var"),
        ({"model_main": weights | {"fc.bias": weights["fc.bias"] / 0}}, "model_main.fc.bias"),
    ):
        with pytest.raises(CydasError, match=f"checkpoint resume: .*{name}"):
            accept(content | bad, Path("resume"))
    save_checkpoint(previous(path), content, keep=False)
    save_checkpoint(path, content | bad | {"number": 2}, keep=False)
    said = []
    assert load_newest(path, accept, said.append)["number"] == 1
    assert len(said) == 1 and name in said[0]


def test_fewer_epochs_are_refused_and_no_older_checkpoint_is_taken(tmp_path, weights):
    config, path = RetrainConfig(model_type="cifar", epochs=2), tmp_path / "resume"
    content = {
        "model_main": weights, "genotype": DartsSpace.to_strings(LIGHT), "config": plain(config),
        "optimizer": {"state": {}, "param_groups": []}, "processes": [{"buffers": {}}],
    }  # fmt: skip
    save_checkpoint(previous(path), content, keep=False)
    save_checkpoint(path, content | {"config": plain(config) | {"epochs": 3}}, keep=False)
    with pytest.raises(CydasError, match="is of 3 epochs: --epochs may only grow"):
        load_newest(path, partial(check_training, config, LIGHT, {}), [].append)


def test_a_resumed_search_refuses_weights_that_are_not_finite():
    config = SearchConfig()
    content = {"about": {"config": plain(config)}, "search": {"round": 1, "joint": {"a": torch.ones(2)}}}
    content["processes"] = []
    check_search(config, {}, content, FILE)
    content["search"]["joint"]["a"][1] = float("inf")
    with pytest.raises(CydasError, match="1 of the 2 values of joint.a are not finite"):
        check_search(config, {}, content, FILE)


class Answers(torch.nn.Module):
    """Gives the images as logits."""

    def forward(self, x):
        return RetrainOutput(x, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_answers_that_are_not_finite_are_no_class(value):
    logits = torch.eye(10)
    batches = SimpleNamespace(epoch=lambda: iter([(logits, torch.arange(10)), (logits[:2], torch.zeros(2).long())]))
    assert evaluate(Answers(), Classification(10), batches, Precision(CPU, False, "bf16")).images == 12
    logits[:3, 4] = value
    with pytest.raises(CydasError, match="answers to 5 of 12 test images are not finite"):
        evaluate(Answers(), Classification(10), batches, Precision(CPU, False, "bf16"))
    shares = top1(logits, torch.arange(10)), top1(logits[3:], torch.arange(3, 10))
    assert bool(torch.isnan(shares[0])) == (value != float("-inf")) and float(shares[1]) == 100


def test_a_test_of_a_network_that_has_diverged_is_an_error(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(CyDAS.test, "count_macs", lambda *a: 0)
    large = {"fc.weight": 3e38, "feature_extractor.0.1.weight": 1e30}
    torch.save(weights | {key: torch.full_like(weights[key], large[key]) for key in large}, tmp_path / "net.pth")
    with pytest.raises(CydasError, match="of 359 test images are not finite"):
        CyDAS.test.main(flags_for(tmp_path))


@pytest.mark.parametrize("space", [DartsSpace(Layout("cifar", 2, 1, image_size=12)), NatsSpace(NatsLayout(4, 1))])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_cell_is_read_off_alphas_that_are_not_finite(space, value):
    joint = space.build()
    space.discretise(joint)
    with torch.no_grad():
        next(joint.super_layers_arch.parameters())[0, 0] = value
    with pytest.raises(CydasError, match="architecture parameters: 1 of the .* are not finite"):
        space.discretise(joint)
    with pytest.raises(CydasError, match="round 3: the architecture parameters: 1 of the"):
        CyclicSearch._check_alphas(SimpleNamespace(joint=joint, round=3))


def test_counters_and_other_whole_numbers_are_not_looked_at():
    check_finite({"a": torch.tensor(3), "b": [torch.tensor([True])], "c": "text", "d": None}, "x")
