"""Every flag has the effect that its help promises, each observed where it must show."""

import os
import random
import sys
import types
from contextlib import contextmanager
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from CyDAS.config import EvaluationConfig, RetrainConfig, SearchConfig
from CyDAS.data import load_data
from CyDAS.engine.evaluation import make_fast
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.local_jobs import run_all
from CyDAS.engine.optim import Precision, scale_learning_rates
from CyDAS.models.cells.nasnet import EvaluationCell
from CyDAS.models.cells.supernet import SearchCell
from CyDAS.models.nats.networks import ResidualBlock
from CyDAS.models.nats.networks import SearchCell as NatsSearchCell
from CyDAS.runs import start as runs
from CyDAS.runs.keeper import Keeper
from CyDAS.spaces import DartsSpace, NatsSpace, make_space
from CyDAS.test import main as evaluate
from CyDAS.utils import distributed
from CyDAS.utils.distributed import Process, place, start_process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse, plain, to_arguments
from tests.spies import (
    CPU,
    ONE,
    Lines,
    SpyBatches,
    first_step,
    make_search,
    run,
    run_retrain,
    run_search,
    steps_of_optimisers,
)

CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """PyTorch's global settings, put back after each test."""
    monkeypatch.setenv(CUBLAS, "")
    monkeypatch.delenv(CUBLAS)
    precision = torch.get_float32_matmul_precision()
    deterministic, benchmark = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    yield
    torch.set_float32_matmul_precision(precision)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = benchmark


# -- where and how it computes ---------------------------------------------------------------------------------------

PROGRAMS = {"search": run_search, "retrain": lambda *a: run_retrain(*a, "--epochs", "1")}


def settings():
    return SimpleNamespace(
        precision=torch.get_float32_matmul_precision(),
        deterministic=torch.are_deterministic_algorithms_enabled(),
        workspace=os.environ.get(CUBLAS),
    )


@pytest.fixture(params=["search", "retrain", "test"])
def program(request, tmp_path, monkeypatch):
    """A program to be run with flags up to its first step; returns the global settings at that time."""
    if request.param == "test":
        run_retrain(tmp_path, "--epochs", "1", "--batch_size", "1400")

    def start(*flags):
        if request.param == "test":
            seen = []

            def look(*_):
                seen.append(settings())
                raise KeyboardInterrupt

            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr("CyDAS.test.evaluate", look)
                evaluate(["--output_dir", str(tmp_path), "--name", "run", *flags])
            return seen[0]
        with first_step():
            PROGRAMS[request.param](tmp_path / "a", "--overwrite", *flags)
        return settings()

    return start


def test_tf32_deterministic_and_threads_reach_pytorch(program, monkeypatch):
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    torch.backends.cudnn.benchmark = True
    without = program()
    assert (without.precision, without.deterministic, without.workspace) == ("highest", False, None)
    assert torch.backends.cudnn.benchmark and threads == []
    having = program("--tf32", "--deterministic", "--threads", "3")
    assert (having.precision, having.deterministic, threads) == ("high", True, [3])
    assert having.workspace == ":4096:8" and not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("flags", [{}, {"tf32": True}, {"deterministic": True}])
def test_on_a_gpu_kernels_are_tried_and_float32_is_float32_unless_a_flag_says_otherwise(monkeypatch, flags):
    monkeypatch.setattr(runs, "start_process", lambda *_: Process(0, 1, torch.device("cuda", 0)))
    torch.backends.cudnn.benchmark = "deterministic" in flags
    runs.start(SearchConfig(**flags))
    assert torch.backends.cudnn.benchmark == ("deterministic" not in flags)
    assert torch.backends.cudnn.allow_tf32 == ("tf32" in flags)
    assert torch.get_float32_matmul_precision() == ("high" if "tf32" in flags else "highest")


def test_the_seed_reaches_every_generator():
    draws = []
    for seed in (3, 3, 4):
        runs.start(SearchConfig(seed=seed, device="cpu"))
        draws.append((random.random(), np.random.rand(), torch.rand(1).item()))
    assert draws[0] == draws[1] and all(a != b for a, b in zip(draws[1], draws[2], strict=True))
    runs.seed_everything(2**63 - 1)  # NumPy takes 32 bits only


@pytest.mark.parametrize("program", ["search", "retrain"])
def test_the_seed_reaches_weights_and_data(tmp_path, program):
    gradients, weights = [], []
    for number, seed in enumerate("001"):
        with first_step() as step:
            PROGRAMS[program](tmp_path / str(number), "--seed", seed)
        gradients.append(step.gradients[0])
        weights.append(step.parameters[0].detach())
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(weights[0], weights[1])
    assert not torch.equal(gradients[0], gradients[2]) and not torch.equal(weights[0], weights[2])


def test_each_processs_random_choices_in_a_search_are_its_own(tmp_path, monkeypatch):
    seeds = []
    for rank in (0, 3):
        monkeypatch.setattr(runs, "start_process", lambda *_, rank=rank: Process(rank, 4, CPU))
        with first_step() as step:
            run_search(tmp_path / str(rank), "--seed", "5")
        seeds.append(step.seed)
    assert seeds == [5, 8]


@pytest.mark.parametrize("gpu", [False, True])
def test_the_device_is_that_of_the_flag(monkeypatch, gpu):
    taken = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert start_process("cpu", 1.0).device == CPU and taken == []
    assert start_process("auto", 1.0).device == (torch.device("cuda", 1) if gpu else CPU)
    if gpu:
        assert start_process("cuda", 1.0).device == torch.device("cuda", 1) and taken == [1, 1]
        monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(CydasError, match="has no GPU: there are 2" if gpu else "--device cuda: no GPU"):
        start_process("cuda", 1.0)


@pytest.mark.parametrize(("gpu", "backend"), [(False, "gloo"), (True, "cpu:gloo,cuda:nccl")])
def test_processes_wait_for_each_other_as_long_as_the_flag_says(monkeypatch, gpu, backend):
    joined = {}
    environment = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "7", "LOCAL_RANK": "0"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)

    class Store(torch.distributed.HashStore):
        def __init__(self, *arguments):
            super().__init__()
            self.arguments = arguments

    monkeypatch.setattr(torch.distributed, "TCPStore", Store)
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda *a, **k: joined.update(k, backend=a[0] if a else k["backend"])
    )
    met = []
    monkeypatch.setattr("CyDAS.utils.distributed.meet", lambda *place: met.append(place))
    config, _ = parse(RetrainConfig, "", ["--process_timeout", "7.5", "--device", "auto"])
    process = runs.start(config)
    assert met == [(joined["store"], 1, 2)]
    assert (process.rank, process.world_size, process.is_main) == (1, 2, False)
    assert joined["timeout"] == timedelta(seconds=7.5) and joined["backend"] == backend
    assert (joined["rank"], joined["world_size"]) == (1, 2)
    assert joined["store"].arguments == ("here", 7, 2, False, timedelta(seconds=7.5))


@contextmanager
def autocast_seen():
    """A list of (whether the module trains, autocast's type or None) of every convolution that runs on the CPU."""
    seen = []

    def look(module, inputs):
        if isinstance(module, nn.Conv2d) and inputs[0].device == CPU:
            on = torch.is_autocast_enabled("cpu")
            seen.append((module.training, torch.get_autocast_dtype("cpu") if on else None))

    handle = register_module_forward_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [([], None), (["--use_amp"], torch.bfloat16), (["--use_amp", "--amp_dtype", "fp16"], torch.float16)],
)
def test_mixed_precision_in_training_and_test(tmp_path, flags, dtype):
    with autocast_seen() as seen:
        run_retrain(tmp_path, "--epochs", "1", "--batch_size", "1400", *flags)
        assert set(seen) == {(True, dtype), (False, dtype)}
        seen.clear()
        evaluate(["--output_dir", str(tmp_path), "--name", "run", *flags])
        assert set(seen) == {(False, dtype)}


@pytest.mark.parametrize("dtype", [None, "bf16"])
def test_mixed_precision_in_every_update_of_a_search(dtype):
    flags = {"use_amp": True, "amp_dtype": dtype} if dtype else {}
    with autocast_seen() as seen:
        run(make_search(**flags), SpyBatches(1.0, 1), SpyBatches(2.0, 1))
    assert set(seen) == {(True, torch.bfloat16 if dtype else None)}


def test_only_float16_is_scaled():
    for enabled, dtype, scaled in ((False, "fp16", False), (True, "bf16", False), (True, "fp16", True)):
        assert Precision(CPU, enabled, dtype).scaler.is_enabled() == scaled


def nhwc(parameters):
    """Which of the real convolutions' weights lie with their channels last."""
    return {
        p.is_contiguous(memory_format=torch.channels_last)
        for p in parameters
        if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1
    }


@pytest.mark.parametrize("last", [False, True])
def test_weights_lie_with_their_channels_last(tmp_path, monkeypatch, last):
    flags = ["--channels_last"] * last
    with first_step() as step:
        run_search(tmp_path, *flags)
    assert nhwc(step.parameters) == {last}
    with first_step() as step:
        run_retrain(tmp_path, "--epochs", "1", *flags)
    assert nhwc(step.parameters) == {last}
    search = make_search(channels_last=last)
    with torch.no_grad():
        search.joint.super_layers_arch.alpha[:, 3] = 1  # 3x3 convolutions
    search.start_cycle(Lines())
    assert nhwc(search.joint.nas_layers.parameters()) == {last}


@pytest.mark.parametrize("apex", [False, True])
def test_statistics_over_all_gpus(monkeypatch, apex):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    monkeypatch.setattr(nn.Module, "to", lambda self, *a, **k: self)
    cuda = torch.device("cuda", 0)
    config = SearchConfig(sync_bn=True, use_apex=apex)
    assert type(place(network, config, cuda)[1]) is nn.BatchNorm2d  # one process
    monkeypatch.setattr(distributed, "is_distributed", lambda: True)
    assert type(place(network, SearchConfig(), cuda)[1]) is nn.BatchNorm2d
    assert type(place(network, config, CPU)[1]) is nn.BatchNorm2d
    if apex:
        assert type(place(network, config, cuda)[1]) is nn.SyncBatchNorm  # it is not installed
        parallel = types.ModuleType("apex.parallel")
        parallel.convert_syncbn_model = lambda module: "apex's"
        monkeypatch.setitem(sys.modules, "apex", types.ModuleType("apex"))
        monkeypatch.setitem(sys.modules, "apex.parallel", parallel)
        monkeypatch.setattr(distributed, "has_apex", lambda: True)
        assert place(network, config, cuda) == "apex's"
    else:
        assert type(place(network, config, cuda)[1]) is nn.SyncBatchNorm


@pytest.mark.parametrize("again", [False, True])
def test_cells_are_computed_again_where_the_flag_says_so(tmp_path, again):
    counts = []

    def count(module, inputs):
        if isinstance(module, NatsSearchCell | ResidualBlock) and inputs[0][0].device == CPU:
            counts.append(module)

    handle = register_module_forward_pre_hook(count)
    try:
        for start in PROGRAMS.values():
            counts.clear()
            with first_step():
                start(tmp_path, *["--grad_checkpointing"] * again)
            assert counts and all(counts.count(module) == 1 + again for module in counts)
    finally:
        handle.remove()


@pytest.mark.parametrize("mode", [None, "default", "max-autotune"])
def test_networks_are_compiled_where_the_flag_says_so(tmp_path, monkeypatch, mode):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, *a, **k: compiled.append(k.get("mode", "default")))
    flags = ["--compile", "--compile_mode", mode] if mode else []
    with first_step():
        run_retrain(tmp_path, "--epochs", "1", *flags)
    assert compiled == [mode] * bool(mode)
    config = EvaluationConfig(compile=bool(mode), compile_mode=mode or "default")
    make_fast(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), config, torch.zeros(1, 3, 8, 8))
    assert compiled == [mode] * 2 * bool(mode)


# -- the run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "indices"), [(2, [2, 4, 5]), (3, [3, 5]), (50, [5])])
def test_a_search_says_something_every_so_many_steps(every, indices):
    search, log = make_search(print_freq=every, pretrain_epochs=1, search_iter=2), Lines()
    search.run(SpyBatches(1.0, 5), SpyBatches(2.0, 5), log, SimpleNamespace(
        end_step=lambda s: None, end_phase=lambda s: None, end_round=lambda s: None
    ))  # fmt: skip
    names = ("warm-up 1/1", "cycle 1/1, evaluation warm-up 1/1", "cycle 1/1, joint 1/1")
    expected = [f"{name} [{index}/5]" for name in names for index in indices]
    assert [line.split("  ")[0] for line in log.lines if "[" in line] == expected
    assert log.total == log.advanced == 15
    assert log.lines[0] == "search: 1 warm-up rounds and 1 cycles left, 5 steps an epoch"
    assert [step for step, _ in log.figures] == [5 * phase + index for phase in range(3) for index in indices]
    assert log.figures[0][1]["lr/w"] == 0.05 and log.figures[0][1]["lr/nas"] == 0.1
    assert log.figures[0][1]["lr/alpha"] == 6e-4
    assert {"val/loss_search", "train/loss_search", "val/gradient_norm", "train/gradient_norm"} <= set(
        log.figures[-1][1]
    )
    assert {"warmup/loss_evaluation", "warmup/top1_evaluation"} <= set(log.figures[len(indices)][1])


@pytest.mark.parametrize(("minutes", "due"), [(0.0, []), (2.0, [120, 240]), (0.5, [60, 120, 180, 240])])
def test_a_checkpoint_is_due_every_so_many_minutes(tmp_path, monkeypatch, minutes, due):
    now = [1000.0]
    monkeypatch.setattr("CyDAS.runs.keeper.time.monotonic", lambda: now[0])
    keeper = Keeper(tmp_path / "checkpoint", minutes, ONE, Lines(), keep=False, again=[])
    saved = []
    for second in range(60, 300, 60):
        now[0] = 1000.0 + second
        save, stop = keeper.wants()
        assert not stop
        if save:
            keeper.save({"second": second})
            saved.append(second)
    assert saved == due and (tmp_path / "checkpoint").exists() == bool(due)


@pytest.mark.parametrize("program", ["search", "retrain"])
def test_the_programs_keep_checkpoints_by_the_flag(tmp_path, monkeypatch, program):
    given = []
    original = Keeper.__init__

    def noted(self, path, minutes, *rest, **options):
        given.append(minutes)
        original(self, path, minutes, *rest, **options)

    monkeypatch.setattr(Keeper, "__init__", noted)
    with first_step():
        PROGRAMS[program](tmp_path, "--checkpoint_minutes", "3.5")
    assert given == [3.5]


def test_what_is_not_finite_stops_the_run_unless_the_flag_says_otherwise(tmp_path):
    assert not StepGuard(SearchConfig().on_nan).skips and StepGuard("skip").skips
    assert make_search(on_nan="skip").guard.skips and not make_search().guard.skips
    with pytest.raises(CydasError, match="not finite at step"):
        run_retrain(tmp_path / "stop", "--epochs", "1", "--lr", "1e30", "--grad_clip", "0", "--warmup_epochs", "0")


def test_an_update_of_a_search_goes_through_the_networks_in_parts():
    for parts, sizes in ((1, [6]), (2, [3, 3]), (5, [2, 2, 2])):
        search, seen = make_search(accum_steps=parts), []
        search.joint.feature_extractor.register_forward_pre_hook(lambda m, x, seen=seen: seen.append(len(x[0])))
        with steps_of_optimisers() as steps:
            search.train_update(*next(SpyBatches(1.0, 1, batch_size=6).epoch()))
        assert seen == sizes and len(steps) == 1


def test_scaled_rates_are_those_of_sgd():
    config = SearchConfig(scale_lr=True, reference_batch=32, batch_size=8, accum_steps=2, w_lr=0.1, nasnet_lr=0.2)
    assert config.global_batch(3) == 48
    lines = scale_learning_rates(config, 6)
    assert (config.w_lr, config.nasnet_lr, config.w_lr_min, config.alpha_lr) == pytest.approx((0.3, 0.6, 0.003, 6e-4))
    assert len(lines) == 3 and "--w_lr 0.3: 0.1 times 3" in lines[0]
    config = RetrainConfig(lr=0.1, reference_batch=64)
    scale_learning_rates(config, 4)
    assert config.lr == 0.1


def test_so_many_searches_run_at_a_time(tmp_path, capfd):
    """Each says by its exit code how many there are, and by its output how many threads they may have."""
    code = (
        "import os, sys, time, pathlib; p = pathlib.Path(sys.argv[1]); (p / sys.argv[2]).touch(); time.sleep(0.3); "
        "print('threads', os.environ['OMP_NUM_THREADS'], flush=True); n = len(list(p.iterdir())); time.sleep(0.1); "
        "(p / sys.argv[2]).unlink(); os._exit(n)"
    )
    for jobs in (1, 3):
        (tmp_path / str(jobs)).mkdir()
        commands = {n: [sys.executable, "-S", "-c", code, str(tmp_path / str(jobs)), str(n)] for n in range(3)}
        codes = run_all(commands, jobs, threads=5)
        assert set(codes) == {0, 1, 2} and max(codes.values()) == jobs
        shown = capfd.readouterr().out
        assert shown.count("threads 5") == (3 if jobs == 1 else 0)  # lines of several would mix
        assert shown.count("started") == shown.count("ended with code") == 3


# -- the networks ----------------------------------------------------------------------------------------------------


def build(*flags, kind=SearchConfig):
    """The space and the joint network of a command line."""
    needed = ["--search_iter", "9", "--init_channels", "2", "--image_size", "16"] if kind is SearchConfig else []
    config, _ = parse(kind, "", [*needed, *flags])
    torch.manual_seed(0)
    space = make_space(config, load_data(config, ONE))
    joint = space.build()
    space.set_evaluation(joint, space.discretise(joint))
    return space, joint


def norms(module):
    return {m.affine for m in module.modules() if isinstance(m, nn.BatchNorm2d)}


def test_widths_and_stages_are_the_flags():
    _, joint = build("--init_channels", "6", "--stem_multiplier", "2", "--layer_num", "4", "--image_size", "24")
    assert joint.feature_extractor[0][0].out_channels == 12
    assert joint.super_layers[0][0].preproc1.net[1].out_channels == 6
    assert [len(stage) for stage in joint.super_layers] == [3, 3, 3, 2]
    assert [len(stage) for stage in joint.nas_layers] == [7, 7, 7, 6]
    assert joint.fc_super.in_features == joint.fc_nas.in_features == 4 * 6 * 8


def test_the_macro_structure_is_the_flags():
    _, joint = build("--model_type", "imagenet", "--image_size", "64", "--stem_multiplier", "1")
    assert len(joint.feature_extractor) == 2 and [len(stage) for stage in joint.nas_layers] == [5, 5, 4]
    _, joint = build("--model_type", "imagenet", "--image_size", "64", "--res_stem", "--layer_num", "4")
    assert len(joint.feature_extractor) == 1 and joint.feature_extractor[0][0].kernel_size == (7, 7)
    assert [len(stage) for stage in joint.super_layers] == [2] * 4
    assert [len(stage) for stage in joint.nas_layers] == [3, 4, 3, 4]
    _, joint = build()
    assert [len(stage) for stage in joint.super_layers] == [3, 3, 2]
    assert joint.feature_extractor[0][0].kernel_size == (3, 3)


def test_cells_of_the_nats_networks_are_the_flags():
    space, joint = build("--space", "nats", "--cells_per_stage", "2")
    assert isinstance(space, NatsSpace) and isinstance(build()[0], DartsSpace)
    for stages in (joint.super_layers, joint.nas_layers):
        assert [len(stage) for stage in stages] == [3, 3, 2]


def test_affine_batch_norms_of_the_evaluation_network_are_the_flags():
    for flags, affine in (([], False), (["--bn_affine"], True)):
        _, joint = build(*flags)
        assert norms(joint.nas_layers) == {affine}
        assert norms(joint.super_layers) == norms(joint.distill_aux_head1) == {False}
        assert norms(joint.feature_extractor) == {True}
        space, joint = build("--space", "nats", *flags)
        assert norms(joint.nas_layers) == {True} and norms(joint.distill_aux_head2) == {affine}
        cells = [cell for stage in joint.super_layers for cell in stage]
        assert {True} in [norms(c) for c in cells if isinstance(c, ResidualBlock)]
        assert norms(nn.ModuleList(c for c in cells if isinstance(c, NatsSearchCell))) == {affine}
    network = build()[0].retrain_network(build()[0].discretise(build()[1]), True)
    assert norms(network) == {True}


def test_batch_norms_are_pytorchs_and_convolutions_have_no_bias():
    for space in ("darts", "nats"):
        space, joint = build("--space", space)
        auxiliary = isinstance(space, DartsSpace)
        for network in (joint, space.retrain_network(space.discretise(joint), auxiliary)):
            for module in network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    assert (module.eps, module.momentum, module.track_running_stats) == (1e-5, 0.1, True)
                assert not isinstance(module, nn.Conv2d) or module.bias is None


def test_betas_and_repeated_cells_are_the_flags():
    def trained(joint, part):
        return {p.requires_grad for stage in joint.super_layers_arch for p in stage[part]}

    _, joint = build()
    assert len(joint.super_layers_arch) == 3 and trained(joint, 2) == trained(joint, 3) == {False}
    assert trained(joint, 0) == {True} and trained(joint, 1) == {True, False}
    assert [p.requires_grad for p in (stage[1][0] for stage in joint.super_layers_arch)] == [True, True, False]
    assert {float(b.detach().std()) for stage in joint.super_layers_arch for b in stage[2]} == {0.0}
    _, joint = build("--use_beta")
    assert trained(joint, 2) == {True} and trained(joint, 3) == {True, False}
    assert float(joint.super_layers_arch[0][2][3].detach().std()) > 0
    space, joint = build("--repeat_cell")
    assert len(joint.super_layers_arch) == 1 and trained(joint, 1) == {True}
    architecture = space.discretise(joint)
    assert len(architecture) == 3 and architecture[0] == architecture[2]


def test_alphas_start_small():
    for joint in (build("--use_beta")[1], build("--space", "nats")[1]):
        values = torch.cat([p.detach().flatten() for p in joint.super_layers_arch.parameters()])
        assert float(values.std()) == pytest.approx(1e-3, rel=0.4) and float(values.mean().abs()) < 1e-3


def test_options_of_the_joint_network_are_the_flags():
    for space in ("darts", "nats"):
        _, joint = build("--space", space)
        assert joint.fc_nas is not joint.fc_super and not joint.ensemble_sum and not joint.grad_checkpointing
        assert not joint.ensemble_param.requires_grad
        heads = joint.distill_aux_head1, joint.distill_aux_head2
        assert all(p.requires_grad for head in heads for p in head.parameters())
        flags = "--share_fc --ensemble_sum --grad_checkpointing --ensemble_param --fix_head".split()
        _, joint = build("--space", space, *flags)
        assert joint.fc_nas is joint.fc_super and joint.ensemble_sum and joint.grad_checkpointing
        assert joint.ensemble_param.requires_grad
        heads = joint.distill_aux_head1, joint.distill_aux_head2
        assert not any(p.requires_grad for head in heads for p in head.parameters())


def test_each_stage_has_the_cells_of_its_own_genotype():
    space, joint = build()
    with torch.no_grad():
        for stage, arch in enumerate(joint.super_layers_arch):
            for reduction in (False, True):
                for alpha in arch.cell(reduction)[0]:
                    alpha[:, 3 + stage + 1 * reduction] += 1
    architecture = space.discretise(joint)
    space.set_evaluation(joint, architecture)
    names = ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"]
    for stage, cells in enumerate(joint.nas_layers):
        for index, cell in enumerate(cells):
            reduction = index == len(cells) - 1 and stage < 2
            assert {op for node in cell.genotype for op, _ in node} == {names[stage + reduction]}
    assert isinstance(joint.nas_layers[0][0], EvaluationCell) and isinstance(joint.super_layers[0][0], SearchCell)


def test_entropy_is_1_for_alphas_that_are_alike_and_0_for_decided_ones():
    for space in ("darts", "nats"):
        space, joint = build("--space", space)
        with torch.no_grad():
            for alpha in joint.super_layers_arch.parameters():
                alpha.zero_()
        assert space.alpha_entropy(joint) == pytest.approx(1)
        with torch.no_grad():
            for alpha in joint.super_layers_arch.parameters():
                alpha[..., 1] = 100
        assert space.alpha_entropy(joint) == pytest.approx(0, abs=1e-6)
        assert sum(space.describe(space.discretise(joint)).values()) == (6 if isinstance(space, NatsSpace) else 16)


# -- the flags themselves --------------------------------------------------------------------------------------------


def test_flags_round_trip_through_a_command_line():
    line = "--w_lr 0.3 --no-regular --repeat_cell --name x --train_dir here --seeds 1 2 --search_iter 9".split()
    config, given = parse(SearchConfig, "", line)
    again, same = parse(SearchConfig, "", to_arguments(config, given))
    assert plain(again) == plain(config) and same == given
    assert given == {"w_lr", "regular", "repeat_cell", "name", "train_dir", "seeds", "search_iter"}


@pytest.mark.parametrize(
    ("flag", "refused", "taken"),
    [
        ("w_momentum", "1", "0.99"), ("w_momentum", "-0.1", "0"), ("sample_ratio", "0", "1"), ("threads", "0", "1"),
        ("sample_ratio", "1.01", "0.001"), ("search_iter_epochs", "0", "1"), ("batch_size", "1", "2"),
        ("regular_ratio", "0", "0.1"), ("loss_alpha", "0", "0.1"), ("process_timeout", "0", "1"), ("w_lr", "0", "1e-9"),
        ("w_grad_clip", "0", "0.1"), ("print_freq", "0", "1"), ("accum_steps", "0", "1"), ("workers", "-1", "0"),
        ("nasnet_warmup", "-1", "0"), ("checkpoint_minutes", "-1", "0"), ("seed", "-1", "0"), ("jobs", "0", "1"),
    ],
)  # fmt: skip
def test_bounds_of_flags(flag, refused, taken):
    parse(SearchConfig, "", ["--search_iter", "9", f"--{flag}", taken])
    with pytest.raises(CydasError, match=f"--{flag} must be "):
        parse(SearchConfig, "", ["--search_iter", "9", f"--{flag}={refused}"])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (SearchConfig, {
            "name": "default", "seed": 0, "device": "auto", "threads": None, "workers": 4, "print_freq": 50,
            "use_amp": False, "amp_dtype": "bf16", "channels_last": False, "tf32": False, "deterministic": False,
            "max_bad_images": 0, "sync_bn": False, "use_apex": False, "process_timeout": 60.0, "dataset": "digits",
            "image_size": None, "use_aa": False, "space": "darts", "cells_per_stage": 5, "init_channels": 16,
            "stem_multiplier": 3, "layer_num": 3, "res_stem": False, "checkpoint_minutes": 10.0, "on_nan": "stop",
            "accum_steps": 1, "scale_lr": False, "grad_checkpointing": False, "resume_or_start": False,
            "dry_run": False, "lr_schedule": "constant", "clip_apart": False, "use_beta": False, "repeat_cell": False,
            "bn_affine": False, "share_fc": False, "method": "cdarts", "split": "index", "ensemble_param": False,
            "ensemble_sum": False, "fix_head": False, "regular": False, "seeds": None, "jobs": 1, "overwrite": False,
            "resume": False, "nats_table": None,
        }),
        (RetrainConfig, {
            "nesterov": False, "on_nan": "stop", "accum_steps": 1, "scale_lr": False, "compile": False,
            "compile_mode": "default", "checkpoint_minutes": 10.0, "cell_file": None, "use_aa": False,
        }),
        (EvaluationConfig, {
            "batch_size": 128, "fuse": True, "resume": True, "resume_name": "last.pth.tar", "init_channels": 36,
            "compile": False, "cell_file": None,
        }),
    ],
    ids=["search", "retrain", "test"],
)  # fmt: skip
def test_defaults(kind, expected):
    """Those that ``test_programs.py`` does not hold."""
    config, given = parse(kind, "", ["--search_iter", "6"] if kind is SearchConfig else [])
    assert {name: getattr(config, name) for name in expected} == expected
    assert given == ({"search_iter"} if kind is SearchConfig else set())
