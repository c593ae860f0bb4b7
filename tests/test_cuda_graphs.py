"""Recording and replaying a search's updates, with a recorder on the CPU that behaves as CUDA's does."""

import copy
from functools import partial

import pytest
import torch

from CyDAS.config import SearchConfig
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.estimate import estimate_search
from CyDAS.engine.graphs import WARM_UP, UpdateGraphs
from CyDAS.engine.optim import SearchOptimisers
from CyDAS.utils.errors import CydasError
from tests.spies import Lines, Nobody, SpyBatches, make_search


class Recorder:
    """What is recorded is not done by it. A replay knows the networks, optimisers and rates of that time only, and
    writes its result into the same memory again.
    """

    def __init__(self, search: CyclicSearch):
        self.search = search
        self.recorded, self.replayed, self.aside_done = 0, 0, 0

    def aside(self, action):
        self.aside_done += 1
        return action()

    def record(self, action):
        search = self.search
        self.recorded += 1
        frozen = search.optimisers, search.joint.nas_layers, search.optimisers.learning_rates()
        joint, optimisers = copy.deepcopy(search.joint.state_dict()), copy.deepcopy(search.optimisers.state_dict())
        place = action()
        search.joint.load_state_dict(joint)
        search.optimisers.load_state_dict(optimisers)
        place.fill_(torch.nan)

        def replay():
            self.replayed += 1
            assert search.optimisers is frozen[0], "these optimisers are no longer used"
            assert search.joint.nas_layers is frozen[1], "this evaluation network is no longer used"
            assert search.optimisers.learning_rates() == frozen[2], "these rates are no longer used"
            place.copy_(action())

        return replay, place


def with_graphs(search):
    recorder = Recorder(search)
    search.graphs = UpdateGraphs(recorder)
    return recorder


def result_of(search, steps=8):
    log = Lines()
    search.run(SpyBatches(1.0, steps), SpyBatches(2.0, steps), log, Nobody())
    return search.state_dict(), log


@pytest.mark.parametrize(
    "flags",
    [
        {"nasnet_warmup": 2, "search_iter_epochs": 2, "regular": True},
        {"lr_schedule": "cosine", "search_iter": 4, "accum_steps": 2, "clip_apart": True},
        {"method": "darts", "pretrain_epochs": 2},
    ],
)
def test_a_search_with_recorded_updates_is_the_same_search(flags):
    plain, plain_log = result_of(make_search(print_freq=3, **flags))
    search = make_search(print_freq=3, **flags)
    recorder = with_graphs(search)
    state, log = result_of(search)
    assert state.pop("architecture") == plain.pop("architecture")
    torch.testing.assert_close(state, plain, rtol=0, atol=0)
    assert log.figures == plain_log.figures and len(log.figures) > 4
    assert recorder.replayed > recorder.aside_done and recorder.recorded > 1


def test_a_cycle_is_recorded_once_for_each_kind_of_update():
    """Constant rates, no regulariser: the epochs of a cycle share their recordings."""
    search = make_search(pretrain_epochs=0, search_iter=2, nasnet_warmup=3, search_iter_epochs=3)
    recorder = with_graphs(search)
    result_of(search)
    assert recorder.recorded == 2 * 3  # evaluation warm-up, val and train, in two cycles
    assert recorder.aside_done == 2 * 3 * WARM_UP
    assert recorder.replayed == 2 * 3 * (3 * 8 - WARM_UP)


def test_the_regularisers_factor_and_the_rates_have_a_recording_for_each_of_their_values():
    search = make_search(pretrain_epochs=0, search_iter=1, nasnet_warmup=0, search_iter_epochs=3, regular=True,
                         regular_ratio=2.0)  # fmt: skip
    recorder = with_graphs(search)
    result_of(search)
    assert recorder.recorded == 3 + 1  # val in each epoch, train once
    search = make_search(pretrain_epochs=2, search_iter=3, nasnet_warmup=0, lr_schedule="cosine")
    recorder = with_graphs(search)
    result_of(search)
    assert recorder.recorded == 2 + 2


def test_another_shape_or_memory_format_is_recorded_anew():
    search = make_search()
    recorder = with_graphs(search)
    x, y = torch.randn(8, 3, 8, 8), torch.arange(8)
    batches = [(x, y), (x[:6], y[:6]), (x.to(memory_format=torch.channels_last), y), (x, y)]
    for count, batch in enumerate(batches):
        for _ in range(WARM_UP):
            search._guarded("train", search.train_update, batch)
            assert recorder.recorded == count
        figures = [search._guarded("train", search.train_update, batch)["train/loss_search"] for _ in range(3)]
        assert recorder.recorded == count + 1
        assert len(set(map(float, figures))) == 3  # none of them is the memory that the next one is written into


def test_a_continued_search_records_anew():
    search = make_search()
    recorder = with_graphs(search)
    batch = torch.randn(8, 3, 8, 8), torch.arange(8)
    for _ in range(WARM_UP + 1):
        search._guarded("train", search.train_update, batch)
    search.load_state_dict(search.state_dict())
    search._guarded("train", search.train_update, batch)
    assert (recorder.recorded, recorder.replayed, recorder.aside_done) == (1, 1, WARM_UP + 1)


def test_an_estimate_times_replays():
    search = make_search(sample_ratio=1.0)
    recorder = with_graphs(search)
    train, val = SpyBatches(1.0, 20), SpyBatches(2.0, 20)
    lines = estimate_search(search, train, val, lambda: (train, val))
    assert any(line.startswith("step, joint") for line in lines) and recorder.replayed >= 2 * 4


def test_without_the_flag_or_a_gpu_nothing_is_recorded():
    assert make_search().graphs is None and make_search(cuda_graphs=True).graphs is None


def test_optimisers_go_over_between_runs_with_and_without_graphs():
    search = make_search()
    search._guarded("alpha", partial(search.alpha_update, epoch=0), (torch.randn(8, 3, 8, 8), torch.arange(8)))
    states = search.optimisers.state_dict()
    states["alpha"]["param_groups"][0]["capturable"] = True  # as one with graphs has saved it
    again = SearchOptimisers(search.joint, search.config)
    again.load_state_dict(states)
    assert again.alpha.param_groups[0]["capturable"] is False
    (state,) = again.alpha.state.values()
    assert state["step"].device.type == "cpu" and int(state["step"]) == 1
    again.alpha.param_groups[0]["capturable"] = True
    states["alpha"]["param_groups"][0]["capturable"] = False
    again.load_state_dict(states)
    assert again.alpha.param_groups[0]["capturable"] is True


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"use_amp": True, "amp_dtype": "fp16"}, "--use_amp --amp_dtype fp16"),
        ({"on_nan": "skip"}, "--on_nan skip"),
        ({"grad_checkpointing": True}, "--grad_checkpointing"),
    ],
)
def test_what_cannot_be_recorded_is_refused(flags, named):
    with pytest.raises(CydasError, match=f"--cuda_graphs {named}: such steps cannot be recorded"):
        SearchConfig(cuda_graphs=True, search_iter=9, **flags).check()
    SearchConfig(cuda_graphs=True, search_iter=9, use_amp=True).check()
    SearchConfig(search_iter=9, **flags).check()
