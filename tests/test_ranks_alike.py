"""Several processes stay alike: in what they learn, in what they leave out, and in how they end."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision, learn
from CyDAS.models.heads import RetrainOutput
from CyDAS.runs.logs import RunLog
from CyDAS.runs.meters import Averages
from CyDAS.runs.start import started
from CyDAS.tasks.classification import Classification
from CyDAS.test import main as evaluate_program
from CyDAS.utils import lost
from CyDAS.utils.distributed import Process, alike, all_sum
from CyDAS.utils.errors import CydasError
from CyDAS.utils.lost import LostProcess
from tests.test_bad_batches import damage, folder, make_folder
from tests.two_ranks import run_ranks

CPU = torch.device("cpu")
SCALER = Precision(CPU, False, "bf16").scaler


# -- gradients -------------------------------------------------------------------------------------------------------


def slope(process, sizes, parts):
    """One SGD step from 0 along the mean of x, this process holding its share of the images 0, 1, 2, ..."""
    x = torch.arange(float(sum(sizes))).split(sizes)[process.rank]
    weight = torch.nn.Parameter(torch.zeros(()))

    def loss_of(batch):
        return (weight * batch[0]).mean(), {}

    _, norm = learn(
        loss_of, (x, torch.zeros(len(x))), parts, [torch.optim.SGD([weight], lr=1.0)], 1e9, SCALER
    )  # fmt: skip
    return weight.item(), norm.item()


@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_count_by_their_images(parts):
    for moved, norm in run_ranks(slope, (6, 2), parts):
        assert (moved, norm) == pytest.approx((-3.5, 3.5))  # of 0 to 7, not of the processes' means 2.5 and 6.5


# -- damaged images --------------------------------------------------------------------------------------------------


def epoch_of(process, root, limit, train):
    data = folder(root, process, batch_size=4, max_bad_images=limit)
    batches = data.train_batches(range(data.train_size)) if train else data.test_batches()
    return [len(y) for _ in range(2) for _, y in batches.epoch(0)]


def test_damaged_images_leave_equal_batches_or_the_same_error_in_all_processes(tmp_path):
    make_folder(tmp_path, images=8)
    order = folder(tmp_path, Process(1, 2, CPU), batch_size=4).train_batches(range(16)).order(0)
    bad = [damage(tmp_path, "train", index) for index in order[:3]]  # all of them in rank 1's first batch
    assert run_ranks(epoch_of, tmp_path, 3, True) == [[4] * 4] * 2
    errors = run_ranks(epoch_of, tmp_path, 2, True)
    assert all(isinstance(error, CydasError) for error in errors), errors
    assert str(errors[0]) == str(errors[1]) and str(bad[2]) in str(errors[0])
    for index in range(16):
        damage(tmp_path, "train", index)
    errors = run_ranks(epoch_of, tmp_path, 100, True)
    assert str(errors[0]) == str(errors[1]) and "none of the 16 images" in str(errors[0])


class Knows(torch.nn.Module):
    """Answers class 0 always."""

    def forward(self, x):
        return RetrainOutput(torch.tensor([[1.0, 0.0]]).repeat(len(x), 1), None)


def accuracy(process, root, limit):
    batches = folder(root, process, batch_size=2, max_bad_images=limit).test_batches()
    return tuple(evaluate(Knows(), Classification(2), batches, Precision(CPU, False, "bf16")))


def test_a_test_counts_the_whole_images_of_all_processes(tmp_path):
    make_folder(tmp_path, images=3)  # rank 0 has 0, 2, 4 and rank 1 has 1, 3, 5 of cat, cat, cat, dog, dog, dog
    for index in (1, 3, 5):
        damage(tmp_path, "val", index)
    for top1, _, _, images in run_ranks(accuracy, tmp_path, 3):
        assert (top1, images) == (pytest.approx(200 / 3), 3)
    errors = run_ranks(accuracy, tmp_path, 2)
    assert str(errors[0]) == str(errors[1]) and "cannot read the image" in str(errors[0])
    for index in (0, 2, 4):
        damage(tmp_path, "val", index)
    errors = run_ranks(accuracy, tmp_path, 6)
    assert str(errors[0]) == str(errors[1]) and "no test image" in str(errors[0])


# -- errors ----------------------------------------------------------------------------------------------------------


def report(process):
    averages = Averages(CPU)
    for step in range(4):
        bad = process.rank == 1 and step == 2
        averages.add({"loss": torch.tensor(float("nan") if bad else 1.0)})
    averages.report(RunLog(None), "epoch 1", 14)


def left_out(process):
    """A gradient of NaN in one process alone, in float16."""
    weight = torch.nn.Parameter(torch.ones(()))
    precision, guard = Precision(CPU, True, "fp16"), StepGuard("stop")
    factor = torch.tensor(float("nan") if process.rank else 1.0)

    def loss_of(batch):
        return weight.detach() + factor * (weight - weight.detach()).nan_to_num(), {"loss": torch.ones(())}

    optimiser = torch.optim.SGD([weight], lr=1.0)
    for _ in range(11):
        guard.step(
            torch.nn.Linear(1, 1),
            lambda: learn(loss_of, (torch.ones(2), torch.ones(2)), 1, [optimiser], 5.0, precision.scaler)[0],
            precision.scaler,
        )
        assert weight.item() == 1.0


def in_one(process):
    with alike():
        if process.rank:
            raise CydasError("there is no folder here")


@pytest.mark.parametrize(
    ("work", "arguments", "words"),
    [
        (report, (), "not finite at step 13, epoch 1: loss nan"),
        (left_out, (), "more than 10 steps in a row were not finite"),
        (in_one, (), "there is no folder here"),
    ],
)
def test_an_error_of_one_process_is_the_error_of_all(work, arguments, words):
    errors = run_ranks(work, *arguments)
    assert [type(error) for error in errors] == [CydasError] * 2, errors
    assert str(errors[0]) == str(errors[1]) and words in str(errors[0])


CONFIG = SimpleNamespace(threads=1, device="cpu", process_timeout=30.0, deterministic=False, tf32=False, seed=0)


def ends_with_words(rank, error):
    with started(CONFIG):
        if rank == 1:
            raise error
        all_sum(torch.ones(1))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CydasError("the disk of this host is gone"), "the disk of this host is gone"),
        (KeyError("an error\nof ours"), "KeyError 'an error"),
        (RuntimeError("the sizes do not fit"), "RuntimeError the sizes do not fit"),
    ],
)
def test_who_has_ended_by_an_error_is_named_with_it(error, words):
    (first, joined), (second, still_joined) = run_ranks(ends_with_words, error, join=False)
    assert type(second) is type(error) and not joined and not still_joined
    assert type(first) is LostProcess and str(first).startswith(words)
    assert str(first).endswith(" (in process 1, which has ended this run)")


def dies(process):
    if process.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    all_sum(torch.ones(1))


def test_who_has_been_killed_is_named():
    first, dead = run_ranks(dies)
    assert dead is None and type(first) is LostProcess
    assert "process 0 has lost another process of this run: process 1 has ended or does not answer" in str(first)


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[third_party/gloo/gloo/transport/tcp/pair.cc:561] Connection closed by peer [::1]:6"), True),
        (RuntimeError("[gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 3000ms for recv"), True),
        (RuntimeError("[.../gloo/transport/tcp/pair.cc:545] Read error: Connection reset by peer"), True),
        (dist.DistNetworkError("The client socket has failed to connect"), True),
        (dist.DistBackendError("NCCL error: ncclRemoteError: A call failed possibly due to a network error"), True),
        (dist.DistBackendError("ncclInvalidUsage: Duplicate GPU detected"), False),
        (RuntimeError("[enforce fail at gloo/transport/tcp/pair.cc:464] op.length <= op.nbytes. 8 vs 4"), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (RuntimeError("Invalid scalar type"), False),
        (torch.OutOfMemoryError("CUDA out of memory"), False),
    ],
)  # fmt: skip
def test_only_a_connection_that_is_gone_is_a_lost_process(monkeypatch, error, is_lost):
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    with pytest.raises(LostProcess if is_lost else type(error)) as raised, lost.together():
        raise error
    assert ("lost another process" in str(raised.value)) is is_lost


def run_test_program(rank, root):
    """``test.py`` on a folder that only the first process can see."""
    flags = ["--resume_name", str(root / "checkpoint"), "--cell_file", str(root / "cell.json"), "--test_dir"]
    where = str(root / ("val" if rank == 0 else "elsewhere"))
    common = "--space nats --dataset folder --image_size 32 --workers 0 --device cpu".split()
    evaluate_program([*flags, where, *common])


def test_a_test_that_fails_leaves_the_others_alike(tmp_path):
    make_folder(tmp_path, images=1)
    torch.save({"model_main": {"fc.weight": torch.ones(2, 64)}}, tmp_path / "checkpoint")
    cell = "|none~0|+|none~0|none~1|+|skip_connect~0|none~1|none~2|"
    (tmp_path / "cell.json").write_text(json.dumps(cell))
    results = run_ranks(run_test_program, tmp_path, join=False)
    for error, still_joined in results:
        assert type(error) is CydasError and "elsewhere" in str(error) and not still_joined, results


def alone(rank):
    from CyDAS.utils.distributed import start_process

    if rank == 0:
        start_process("cpu", 1.0)


def test_a_process_that_nobody_joins_says_so(monkeypatch):
    (error, _), _ = run_ranks(alone, join=False)
    assert type(error) is CydasError and "process 0 of 2 has not found the others" in str(error)
    from CyDAS.utils.distributed import start_process

    monkeypatch.setenv("WORLD_SIZE", "two")
    with pytest.raises(CydasError, match="WORLD_SIZE must be a number, not 'two'"):
        start_process("cpu", 1.0)
