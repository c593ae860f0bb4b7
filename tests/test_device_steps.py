"""A step neither waits for its device nor makes the device wait: no number is read back, every copy is asynchronous.

Steps are taken on the device ``meta``, which has shapes but no numbers. Whoever asks it for one fails, and whoever
mixes it with main memory; copies to it are watched. On a GPU ``benchmarks/gpu.py`` asks CUDA itself.
"""

import re
from contextlib import contextmanager, nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from CyDAS.config import SearchConfig
from CyDAS.data.augment import BatchAugmentation
from CyDAS.data.loaders import TensorBatches
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision, learn, make_optimiser
from CyDAS.models.cells.genotype import parse_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import DropPath, EvaluationCell
from CyDAS.models.cells.supernet import ArchitectureParameters, SearchCell
from CyDAS.models.chain.architecture import parse_architecture as read_chain
from CyDAS.models.chain.cost_table import CostTable
from CyDAS.models.chain.layout import ChainLayout
from CyDAS.models.heads import AuxiliaryHead, DistillationHead
from CyDAS.models.native.watch import Parts
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.runs.meters import Averages
from CyDAS.spaces import ChainSpace, DartsSpace, NatsSpace
from CyDAS.spaces.chain_cost import CostAim
from CyDAS.tasks.classification import mixup, retrain_loss, top1
from CyDAS.utils.distributed import Process

META = torch.device("meta")
NATS_CELL = "|nor_conv_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
EDGES = "[('max_pool_3x3', 0), ('sep_conv_3x3', 1)], [('skip_connect', 0), ('dil_conv_5x5', 2)], "
EDGES += "[('avg_pool_3x3', 1), ('sep_conv_5x5', 3)], [('dil_conv_3x3', 0), ('skip_connect', 1)]"
DARTS_CELL = f"Genotype(normal=[{EDGES}], normal_concat=range(2, 6), reduce=[{EDGES}], reduce_concat=range(2, 6))"
HEADS = ((DistillationHead, ()), (AuxiliaryHead, ("cifar",)))


class _Copies(TorchDispatchMode):
    def __torch_dispatch__(self, operation, types, arguments=(), options=None):
        options = options or {}
        name = operation._schema.name.removeprefix("aten::")
        if NOT_DETERMINISTIC.fullmatch(name) and any(x.is_meta for x in arguments if isinstance(x, torch.Tensor)):
            raise AssertionError(f"{name} is not deterministic on GPUs")
        result = operation(*arguments, **options)
        if operation in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            devices = {leaf.device for leaf in tree_leaves((arguments, result)) if isinstance(leaf, torch.Tensor)}
            if len(devices) > 1 and not options.get("non_blocking") and True not in arguments[2:]:
                raise AssertionError(f"{operation} between {devices} is waited for")
        return result


def _is_list(value):
    return isinstance(value, list)


class _NewTensors(TorchFunctionMode):
    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        if function in (torch.tensor, torch.as_tensor) and options.get("device", None) == META:
            raise AssertionError(f"{function.__name__} makes numbers in main memory, and their copy is waited for")
        if function in (torch.Tensor.__getitem__, torch.Tensor.__setitem__) and arguments[0].is_meta:
            if any(isinstance(leaf, list) for leaf in [arguments[1], *tree_leaves(arguments[1], is_leaf=_is_list)]):
                raise AssertionError("a list of indices goes to the device, and is waited for")
        return function(*arguments, **options)


@contextmanager
def watch():
    """Fails where a tensor goes to the device by a copy that is waited for."""
    with _NewTensors(), _Copies():
        yield


#: What CUDA has no deterministic kernel for, as far as it could be met here (torch.use_deterministic_algorithms).
NOT_DETERMINISTIC = re.compile(
    r"_?adaptive_(avg|max)_pool\w*_backward|(reflection|replication)_pad\w*_backward|upsample\w*_backward|nll_loss2d\w*|"
    r"grid_sampler\w*_backward|put_?|histc|bincount|kthvalue|median|scatter_reduce\w*|(avg|max)_pool3d\w*|cumsum"
)


@pytest.fixture(autouse=True)
def a_device_that_is_not_the_cpu(monkeypatch):
    """There is no autocast on ``meta``. What the native cells need of their modules is asked on CPUs only."""
    monkeypatch.setattr(Precision, "autocast", lambda self: nullcontext())

    def trap(self, *arguments):
        raise AssertionError("all of a cell's modules were looked at for a tensor that is not on the CPU")

    monkeypatch.setattr(Parts, "hold", trap)


def precision():
    found = Precision(torch.device("cpu"), False, "bf16")
    found.device = META
    return found


def batch():
    return torch.randn(4, 3, 8, 8, device=META), torch.randint(0, 10, (4,), device=META)


def nats():
    return NatsSpace(NatsLayout(4, 1, image_size=8), ensemble_param=True), parse_architecture(NATS_CELL)


def chains():
    """With a target: the cost's table and multiplier are on the device, too."""
    layout = ChainLayout(depth=2, c_last=8, n_classes=10, image_size=32)
    aim = CostAim(CostTable.counted(layout), 4e6)
    return ChainSpace(layout, aim), read_chain("[[0], [1, 4], [2], [5, 0], [3], [0], [0]]")


@pytest.mark.parametrize(
    ("make", "size", "flags"),
    [
        (nats, 8, {"regular": True}),
        (nats, 8, {"accum_steps": 2, "clip_apart": True, "interactive_type": 1}),
        (chains, 32, {}),
    ],
)
def test_a_search_step_does_not_wait(make, size, flags):
    config = SearchConfig(search_iter=4, pretrain_epochs=1, **flags)
    space, architecture = make()
    constraint = getattr(space, "aim", None) and space.aim.constraint
    if constraint:  # which reads numbers, once, before the search
        constraint.start_from = lambda alphas: None
    with META:
        joint = space.build().train()
        space.set_evaluation(joint, architecture)
    search = CyclicSearch(space, joint, config, precision())
    x, y = torch.randn(4, 3, size, size, device=META), torch.randint(0, 10, (4,), device=META)
    if constraint:
        search.regularisation(0)  # the table and the multiplier go to the device once
    with watch():
        for update in (search.train_update, search.evaluation_update, partial(search.alpha_update, epoch=0)):
            search.averages.add(search._guarded("any", update, (x, y)), 4)
        for _ in range(2):
            search.averages.add(search._joint_step([(x, y), (x, y)], 1), 4)


@pytest.mark.parametrize("reduction", [False, True])
def test_darts_cells_and_heads_do_not_wait(reduction):
    """One of each, since a whole network takes minutes on this device."""
    layout = Layout(init_channels=4, image_size=16)
    shape = next(s for stage in layout.shapes(layout.search_cells) for s in stage if s.reduction == reduction)
    genotype, size = parse_genotype(DARTS_CELL), 8 if reduction else 16
    with META:
        alphas = ArchitectureParameters(layout, repeat_cell=True, use_beta=True)
        search = SearchCell(shape, affine=False)
        evaluation = EvaluationCell(shape, genotype.reduce if reduction else genotype.normal, affine=True)
        heads = [Head(4 * shape.channels, size, 10, *more) for Head, more in HEADS]
    for module in evaluation.modules():
        if isinstance(module, DropPath):
            module.p = 0.3
    state = [torch.randn(4, c, 16, 16, device=META) for c in (shape.c_pp, shape.c_p)]
    if shape.halve_input0:
        state[0] = torch.randn(4, shape.c_pp, 32, 32, device=META)
    with watch():
        outputs = [search(state, alphas.mixtures()[0])[-1], evaluation(state)[-1]]
        loss = sum(head(output).sum() for head in heads for output in outputs)
        loss = loss + DartsSpace(layout, repeat_cell=True).regulariser(SimpleNamespace(super_layers_arch=alphas))
        torch.autograd.grad(loss, [p for p in [*search.parameters(), *evaluation.parameters()] if p.requires_grad])


def test_a_retraining_step_does_not_wait():
    with META:
        space = NatsSpace(NatsLayout(4, 1, image_size=8))
        network = space.retrain_network(parse_architecture(NATS_CELL), auxiliary=False).train()
    optimiser = make_optimiser(list(network.parameters()), 0.1, 0.9, 1e-4, True)
    scaler, averages, guard = torch.amp.GradScaler("cpu", enabled=False), Averages(META), StepGuard("stop")

    def loss_of(batch):
        images, labels = batch
        images, targets = mixup(images, labels, 10, 0.2)
        output = network(images)
        return retrain_loss(output, targets, 0.1, 0.4), {"top1": top1(output.logits, labels)}

    x, y = batch()
    with watch():
        for _ in range(2):
            figures = guard.step(network, lambda: learn(loss_of, (x, y), 2, [optimiser], 5.0, scaler)[0], scaler)
            averages.add(figures, len(y))


def test_augmentation_does_not_wait():
    augmentation = BatchAugmentation((0.5,) * 3, (0.2,) * 3, cutout_length=4)
    images, labels = torch.zeros(24, 3, 16, 16, dtype=torch.uint8), torch.zeros(24, dtype=torch.int64)
    process = Process(0, 1, META)
    batches = TensorBatches(images, labels, augmentation, batch_size=8, process=process, seed=0, stream=0, train=True)
    augmentation.normalise(torch.zeros(1, 3, 4, 4, dtype=torch.uint8, device=META))
    with watch():
        for epoch in range(2):
            for x, y in batches.epoch(epoch):
                assert x.device == y.device == META and x.shape == (8, 3, 16, 16)


def test_who_waits_is_noticed():
    """The tests above can fail."""
    value, image = torch.zeros(3, device=META), torch.zeros(1, 2, 4, 4, device=META, requires_grad=True)
    with pytest.raises(RuntimeError):
        value.sum().item()
    with pytest.raises((RuntimeError, NotImplementedError)):
        value.cpu()
    with pytest.raises((RuntimeError, NotImplementedError)):
        value[value > 0]
    with pytest.raises(RuntimeError):
        value + torch.zeros(3)
    with watch():
        torch.zeros(3).to(META, non_blocking=True)
        for blocking in (lambda: torch.zeros(3).to(META), lambda: torch.tensor([1.0, 2.0], device=META),
                         lambda: value.copy_(torch.zeros(3)),
            lambda: image[:, [1, 0]]):  # fmt: skip
            with pytest.raises(AssertionError, match="is waited for"):
                blocking()
        pooled = torch.nn.functional.adaptive_avg_pool2d(image, 2).sum()
        with pytest.raises(AssertionError, match="_adaptive_avg_pool2d_backward is not deterministic"):
            torch.autograd.grad(pooled, image)
