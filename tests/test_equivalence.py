"""Every entry of the fixture files of a trusted implementation, by its kind and configuration, in float64.

The files are named by the environment variables CYDAS_FIXTURES and CYDAS_CHAIN_FIXTURES. Outputs and gradients must
agree to 1e-8, parameters after two whole search steps to 1e-6. A kind of entry that no test here knows is a failure;
of the chain file, the entries of networks are tested here. The plain networks that CyDAS's speed is compared with must
agree as well.
"""

import os
import re
from typing import NamedTuple

import pytest
import torch
from conftest import CHAIN_FIXTURES, FIXTURES

from benchmarks import plain
from CyDAS.config import SearchConfig
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.losses import kd_loss
from CyDAS.engine.optim import Precision
from CyDAS.models.cells.genotype import discretise, parse_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.cells.operations import OPERATIONS, SepConv, make_operation
from CyDAS.models.chain.architecture import parse_architecture as parse_chain
from CyDAS.models.chain.network import chain_network
from CyDAS.models.heads import AuxiliaryHead, DistillationHead
from CyDAS.models.nats.architecture import EDGE_NAMES
from CyDAS.models.nats.architecture import OPERATIONS as NATS_OPERATIONS
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.models.weight_pool import WeightPool
from CyDAS.spaces import DartsSpace, NatsSpace
from CyDAS.tasks.classification import classification_loss

ENTRIES = torch.load(FIXTURES, map_location="cpu", weights_only=True) if FIXTURES.exists() else {}
#: Where everything is computed; ``benchmarks/gpu.py`` names another one.
DEVICE = torch.device(os.environ.get("CYDAS_TEST_DEVICE", "cpu"))
#: Of chains. On CUDA the first one is beyond 1e-8: presumably by a constant of PyTorch's hard sigmoid in float32.
CHAIN_TOLERANCE = 1e-8 if DEVICE.type == "cpu" else 1e-6
CHAIN_ENTRIES = torch.load(CHAIN_FIXTURES, map_location="cpu", weights_only=True) if CHAIN_FIXTURES.exists() else {}
LAYOUT_FIELDS = Layout.__dataclass_fields__
NATS_LAYOUT_FIELDS = NatsLayout.__dataclass_fields__


class Networks(NamedTuple):
    """One implementation of everything that the entries test."""

    space: type
    search: type
    retrain: type
    nats_space: type


@pytest.fixture(params=["cydas", "plain"])
def networks(request):
    if request.param == "plain":
        return Networks(plain.PlainSpace, plain.PlainSearch, plain.PlainRetrainNetwork, plain.PlainNatsSpace)
    return Networks(DartsSpace, CyclicSearch, RetrainNetwork, NatsSpace)


def entries(*kinds, of=ENTRIES, where=f"{FIXTURES} (set CYDAS_FIXTURES)"):
    """The entries of these kinds as test parameters; one that skips with a clear word where there is no file."""
    names = [name for name in of if name.split("/")[0] in kinds]
    missing = pytest.mark.skip(reason=f"no entries of kind {kinds[0]} in {where}")
    return pytest.mark.parametrize("name", names or [pytest.param(None, marks=missing)])


def double(value):
    """In float64, where it is computed."""
    if isinstance(value, torch.Tensor):
        return value.to(DEVICE, torch.float64) if value.is_floating_point() else value.to(DEVICE)
    if isinstance(value, list):
        return [double(item) for item in value]
    return {key: double(item) for key, item in value.items()} if isinstance(value, dict) else value


def assert_close(actual, expected, what, tolerance=1e-8):
    assert actual is not None, f"{what}: there is none"
    if actual.shape != expected.shape:  # the first rows are stored
        actual = actual[: len(expected)]
    torch.testing.assert_close(
        actual.detach().cpu().double(),
        expected.cpu().double(),
        rtol=tolerance,
        atol=tolerance,
        msg=lambda m: f"{what}: {m}",
    )


def make_layout(config, x):
    values = {key: value for key, value in config.items() if key in LAYOUT_FIELDS}
    return Layout(**{"init_channels": 4, "image_size": x.shape[-1], "input_channels": x.shape[1], **values})


def make_search(entry, space_type=DartsSpace):
    """The joint network of a search entry with its weights, in float64, and its space."""
    config = entry["config"]
    layout = make_layout(config, entry["x"])
    space = space_type(layout, **{key: value for key, value in config.items() if key not in LAYOUT_FIELDS})
    joint = space.build()
    space.set_evaluation(joint, [parse_genotype(entry["genotype"])] * layout.layer_num)
    joint = joint.to(DEVICE, torch.float64)
    weights = {
        key: value for key, value in double(entry["state_dict"]).items() if not key.startswith("super_layers_pool")
    }
    missing, unexpected = joint.load_state_dict(weights, strict=False)
    shared = ("fc_super.", "fc_nas.") if config.get("share_fc") else ()
    assert [key for key in missing if not key.startswith(shared)] == [] and unexpected == []
    return space, joint


def make_nats(entry, space_type):
    """The joint network of a NATS-Bench entry with its weights, in float64, and its space."""
    config = {"init_channels": 4, **entry["config"]}
    layout = NatsLayout(**{key: value for key, value in config.items() if key in NATS_LAYOUT_FIELDS})
    space = space_type(layout, **{key: value for key, value in config.items() if key not in NATS_LAYOUT_FIELDS})
    joint = space.build()
    space.set_evaluation(joint, space.parse(entry["arch"], 3, "entry"))
    joint = joint.to(DEVICE, torch.float64)
    weights = {
        our_name(key): value
        for key, value in double(entry["state_dict"]).items()
        if not key.startswith("super_layers_pool")
    }
    missing, unexpected = joint.load_state_dict(weights, strict=False)
    shared = ("fc_super.", "fc_nas.") if config.get("share_fc") else ()
    assert [key for key in missing if not key.startswith(shared)] == [] and unexpected == []
    return space, joint


def our_name(key):
    return key.replace("_arch_parameters", "super_layers_arch.alpha")


def make_any(entry, networks):
    return make_nats(entry, networks.nats_space) if "arch" in entry else make_search(entry, networks.space)


def run_network(joint, network, x):
    output = joint(x, search=network == "super", evaluation=network == "nas")
    return output.search if network == "super" else output.evaluation


def test_no_entry_is_of_an_unknown_kind():
    if not ENTRIES:
        pytest.skip(f"no fixture file at {FIXTURES} (set CYDAS_FIXTURES)")
    known = {"search", "retrain", "head", "op", "loss_interactive", "ce_label_smooth", "parse", "meta", "nb201"}
    assert {name.split("/")[0] for name in ENTRIES} <= known


@entries("op")
def test_operation(name):
    _, op, stride, affine = name.split("/")
    entry = double(ENTRIES[name])
    stride, affine = int(stride[1:]), affine == "affine1"
    channels = entry["x"].shape[1]
    if op in OPERATIONS:
        module = make_operation(op, channels, stride, affine)
    else:  # the fixtures hold a larger relative of the separable convolutions
        module = SepConv(channels, int(re.fullmatch(r"sep_conv_(\d+)x\1", op)[1]), stride, affine)
    module.to(DEVICE, torch.float64).load_state_dict(entry["state_dict"])
    assert_close(module.eval()(entry["x"]), entry["out_eval"], "eval")
    assert_close(module.train()(entry["x"]), entry["out_train"], "train")


@entries("head")
def test_head(name):
    entry = double(ENTRIES[name])
    weights, size = entry["state_dict"], entry["x"].shape[-1]
    c_in, classes = entry["x"].shape[1], len(weights["classifier.bias"])
    kernel = re.search(r"size(\d+)", name)
    if "Distill" in name:
        head = DistillationHead(c_in, size, classes, affine="features.3.weight" in weights)
        default = 6
    else:
        head = AuxiliaryHead(c_in, size, classes, "cifar" if "features.6.weight" in weights else "imagenet")
        default = 5
    assert head.features[1].kernel_size == (int(kernel[1]) if kernel else default)
    head.to(DEVICE, torch.float64).load_state_dict(weights)
    assert_close(head.eval()(entry["x"]), entry["out_eval"], "eval")
    assert_close(head.train()(entry["x"]), entry["out_train"], "train")


@entries("loss_interactive")
def test_distillation_loss(name):
    kind, temperature = re.search(r"type(\d)/T([\d.]+)", name).groups()
    entry = double(ENTRIES[name])
    student, teacher = (entry[key].requires_grad_() for key in ("student", "teacher"))
    loss = kd_loss(student, teacher, int(kind), float(temperature))
    loss.backward()
    assert_close(loss, entry["loss"], "loss")
    assert_close(student.grad, entry["grad_student"], "student gradient")
    assert_close(teacher.grad, entry["grad_teacher"], "teacher gradient")


@entries("ce_label_smooth")
def test_label_smoothing(name):
    entry = double(ENTRIES[name])
    logits = entry["logits"].requires_grad_()
    loss = classification_loss(logits, entry["y"], float(name.split("/")[1]))
    loss.backward()
    assert_close(loss, entry["loss"], "loss")
    assert_close(logits.grad, entry["grad"], "gradient")


@entries("parse")
def test_discretisation(name):
    for index, case in enumerate(ENTRIES[name]):
        cell = discretise(case["alpha"], case["beta"])
        assert cell == [[tuple(edge) for edge in node] for node in case["gene"]], f"case {index}"
        connect = [[[source, OPERATIONS.index(op)] for op, source in node] for node in cell]
        assert connect == case["connect"], f"case {index}"


@entries("search", "nb201")
@pytest.mark.parametrize("network", ["super", "nas"])
def test_search_outputs(name, network, networks):
    entry = double(ENTRIES[name])
    _, joint = make_any(entry, networks)
    for mode in ("eval", "train"):
        output = run_network(joint.train(mode == "train"), network, entry["x"])
        for part, actual in (("logits", output.logits), ("em", output.kd_input)):
            key = f"out_{network}_{mode}_{part}"
            if key in entry:
                assert_close(actual, entry[key], f"{name} {key}")
    buffers = dict(joint.named_buffers())
    for key, expected in entry.get(f"buffers_after_{network}_train_forward_some", {}).items():
        assert_close(buffers[key], expected, f"{name} {key}")


@entries("search", "nb201")
@pytest.mark.parametrize("network", ["super", "nas"])
def test_search_gradients(name, network, networks):
    entry = double(ENTRIES[name])
    _, joint = make_any(entry, networks)
    output = run_network(joint.train(), network, entry["x"])
    (classification_loss(output.logits, entry["y"]) + (output.kd_input**2).mean()).backward()
    parameters = dict(joint.named_parameters())
    if network == "super":
        gradients = {key: p.grad for key, p in parameters.items() if key.startswith("super_layers_arch.")}
        expected = entry["grad_arch"] if isinstance(entry["grad_arch"], dict) else {"alpha": entry["grad_arch"]}
        expected = {f"super_layers_arch.{key}": value for key, value in expected.items()}
        assert {key for key, value in gradients.items() if value is not None} == set(expected)
        for key, value in expected.items():
            assert_close(gradients[key], value, f"{name} {key}")
    for key, expected in entry.get(f"grad_{network}_some", {}).items():
        assert_close(parameters[key].grad, expected, f"{name} {key}")


@entries("search")
def test_search_discretisation(name):
    """The genotype of an entry is what its alphas say, stage 0's where stages have their own."""
    entry = ENTRIES[name]
    space, joint = make_search(entry)
    connects = entry["connects"]
    genotype = space.discretise(joint)[0]
    assert genotype == parse_genotype(entry["genotype"])
    for kind, cell in (("normal", genotype.normal), ("reduce", genotype.reduce)):
        assert [[[source, OPERATIONS.index(op)] for op, source in node] for node in cell] == connects[kind]


@entries("nb201")
def test_nats_architecture(name):
    """Strings are read and written as they are, and the edges' operations are the entry's."""
    entry = ENTRIES[name]
    architecture = NatsSpace.parse(entry["arch"], 3, "entry")
    assert str(architecture) == entry["arch"]
    chosen = [NATS_OPERATIONS.index(operation) for operation in architecture.operations]
    assert chosen == [entry["cell_connects"][edge] for edge in EDGE_NAMES]


@entries("search")
def test_weights_come_from_the_pool(name):
    entry = ENTRIES[name]
    if "nas_layers_params_before_copy" not in entry:
        pytest.skip("the entry holds no evaluation network from before the copy")
    _, joint = make_search(entry)
    stages = joint.nas_layers.float()
    expected = {key: value.clone() for key, value in stages.named_parameters()}
    with torch.no_grad():
        for key, parameter in stages.named_parameters():
            parameter.copy_(entry["nas_layers_params_before_copy"][key])
    pool = WeightPool()
    pool.load_state_dict(published_pool(entry["state_dict"]))
    pool.fill(stages)
    for key, parameter in stages.named_parameters():
        assert torch.equal(parameter, expected[key]), key


def published_pool(weights):
    """The published pool, a whole supernet at the evaluation network's depth, by our keys."""
    states = {}
    for key, value in weights.items():
        if not key.startswith("super_layers_pool."):
            continue
        stage, cell, rest = key.removeprefix("super_layers_pool.").split(".", 2)
        if match := re.fullmatch(r"dag\.(\d+)\.(\d+)\._ops\.(\d+)\.(.+)", rest):
            node, source, operation, rest = match.groups()
            place = f"dag.{node}.{source}.{OPERATIONS[int(operation)]}"
        else:
            place, rest = rest.split(".", 1)
        states.setdefault(f"{stage}.{cell}.{place}", {})[rest] = value
    return states


@entries("search", "nb201")
def test_search_step(name, networks):
    """Two whole search steps: val update, train update, twice."""
    entry = double(ENTRIES[name])
    if "step" not in entry:
        pytest.skip("the entry holds no steps")
    step = entry["step"]
    space, joint = make_any(entry, networks)
    joint.train()
    config = SearchConfig(**step["hyper"])
    search = networks.search(space, joint, config, Precision(DEVICE, False, "bf16"))
    batches = zip(step["val_x"], step["val_y"], step["train_x"], step["train_y"], strict=True)
    for losses, (val_x, val_y, train_x, train_y) in zip(step["losses"], batches, strict=True):
        val, figures = search.val_update(val_x, val_y, step["epoch"])
        train = search.train_update(train_x, train_y)
        actual = {
            "cls": val.cls,
            "kd": val.kd,
            "reg": val.reg,
            "val_total": val.total,
            "train_cls": train["train/loss_search"],
            "grad_norm_val": figures["val/gradient_norm"],
            "grad_norm_train": train["train/gradient_norm"],
        }
        assert set(losses) <= set(actual)
        for key, value in losses.items():
            assert actual[key].item() == pytest.approx(value, rel=1e-8, abs=1e-8), key
    parameters = dict(joint.named_parameters())
    for key, expected in step["after_2_steps"].items():
        assert_close(parameters[our_name(key)], expected, key, tolerance=1e-6)
    alphas = step["after_2_steps_arch_f64"]
    for key, expected in (alphas if isinstance(alphas, dict) else {"super_layers_arch.alpha": alphas}).items():
        assert_close(parameters[key], expected, key, tolerance=1e-8)


@entries("retrain")
def test_retrain_network(name, networks):
    entry = double(ENTRIES[name])
    layout = make_layout(entry["config"], entry["x"])
    strings = entry["genotypes"]
    strings = [strings[key] for key in sorted(strings, key=int)] if isinstance(strings, dict) else strings
    genotypes = [
        parse_genotype(text) for text in ([strings] * layout.layer_num if isinstance(strings, str) else strings)
    ]
    network = networks.retrain(layout, genotypes, auxiliary=True).to(DEVICE, torch.float64)
    network.load_state_dict(entry["state_dict"])
    x, y = entry["x"], entry["y"]
    assert_close(network.eval()(x).logits, entry["out_eval_logits"], "eval logits")
    output = network.train()(x)
    assert_close(output.logits, entry["out_train_logits"], "train logits")
    assert_close(output.auxiliary, entry["out_train_aux"], "auxiliary logits")
    loss = classification_loss(output.logits, y, 0.1) + 0.4 * classification_loss(output.auxiliary, y, 0.1)
    loss.backward()
    assert_close(loss, entry["loss_ls0.1_aux0.4"], "loss")
    norm = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None]).norm()
    assert float(norm) == pytest.approx(float(entry["grad_norm_total"]), rel=1e-8)


def make_chain(entry, features_only):
    """The network of a chain entry with its weights, in float64; its list says what was really built."""
    config = entry["config"]
    known = ("c_last", "num_classes", "num_features", "drop_rate", "drop_path_rate")
    options = {key: config[key] for key in known if key in config and not (features_only and key.startswith("num_"))}
    architecture = parse_chain(config.get("resolved", config["arch"]))
    options["in_chans"] = entry["x"].shape[1]
    network = chain_network(architecture, features_only=features_only, **options).to(DEVICE, torch.float64)
    network.load_state_dict(entry["state_dict"])
    return network


def assert_near(actual, expected, what, tolerance=CHAIN_TOLERANCE):
    """To ``tolerance``, relative to the largest expected value where that is above 1."""
    expected = torch.as_tensor(expected, dtype=torch.float64, device=DEVICE)
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(actual.detach(), expected, rtol=0, atol=tolerance * scale, msg=lambda m: f"{what}: {m}")


chain_entries = entries("net", of=CHAIN_ENTRIES, where=f"{CHAIN_FIXTURES} (set CYDAS_CHAIN_FIXTURES)")


@chain_entries
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_chain_features(name, mode):
    entry = double(CHAIN_ENTRIES[name])
    features = make_chain(entry, features_only=True).train(mode == "train").features(entry["x"])
    for stride, actual, expected in zip((4, 8, 16, 32), features, entry[f"features_{mode}"], strict=True):
        assert_near(actual, expected, f"{name} {mode} stride {stride}")


@chain_entries
def test_chain_training(name):
    """Logits, the loss's gradients and the running statistics; of a backbone alone, those of its features."""
    entry = double(CHAIN_ENTRIES[name])
    network = make_chain(entry, features_only="out_eval" not in entry)
    if "out_eval" in entry:
        assert_near(network.eval()(entry["x"]), entry["out_eval"], "eval logits")
        logits = network.train()(entry["x"])
        assert_near(logits, entry["out_train"], "train logits")
        loss = classification_loss(logits, entry["y"])
    else:
        loss = sum((feature**2).mean() for feature in network.train()(entry["x"]))
    loss.backward()
    assert_near(loss, entry["loss"], "loss")
    parameters, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    assert set(entry["grad_norm"]) == set(parameters)
    for key, expected in entry["grad_norm"].items():  # 1e-7: the backward constant of PyTorch's hard sigmoid is float32
        assert_near(parameters[key].grad.norm(), expected, key, tolerance=max(1e-7, CHAIN_TOLERANCE))
    for key, expected in entry["grad"].items():
        assert_near(parameters[key].grad, expected, key, tolerance=max(1e-7, CHAIN_TOLERANCE))
    for key, expected in entry.get("bn_after", {}).items():
        assert_near(buffers[key], expected, key)
