"""The loops know no task: batches of any targets, results of any figures, spaces with a penalty and a state."""

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

from CyDAS.data.batch import images_in, split
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Precision, learn
from CyDAS.engine.training import Extent, Training
from CyDAS.models.heads import MeanClassifier
from CyDAS.models.weight_pool import WeightPool
from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.runs.keeper import Keeper
from CyDAS.spaces.base import SearchSpace
from CyDAS.utils.profile import count_macs
from tests.spies import CPU, ONE, Lines, make_search

SCALER = Precision(CPU, False, "bf16").scaler


# -- batches ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_cut_by_its_images_whatever_its_targets_are():
    images, boxes = torch.arange(5.0), [{"boxes": torch.zeros(n, 4)} for n in range(5)]
    parts = split((images, boxes), 3)
    assert [images_in(part) for part in parts] == [2, 2, 1]
    assert [part[0].tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [entry for part in parts for entry in part[1]] == boxes
    assert split((list(images), boxes), 1) == [(list(images), boxes)]  # images of unlike sizes are a list


def test_an_update_takes_targets_that_are_no_tensor():
    weight = nn.Parameter(torch.zeros(()))
    batch = torch.ones(6), [{"distance": float(n)} for n in range(6)]

    def loss_of(part):
        far = torch.tensor([target["distance"] for target in part[1]])
        return (weight * far).mean(), {"far": far.mean()}

    figures, norm = learn(loss_of, batch, 3, [torch.optim.SGD([weight], lr=1.0)], 100.0, SCALER)
    assert figures["far"].item() == pytest.approx(2.5) and norm.item() == pytest.approx(2.5)


# -- a task that is no classification --------------------------------------------------------------------------------


class Distance(NamedTuple):
    """Less is better."""

    error: float = float("inf")
    images: int = 0

    def is_better_than(self, other):
        return self.error < other.error

    def words(self, between=", "):
        return f"error {self.error:.3f} m"

    brief = headline = words

    def table(self):
        return []

    def scalars(self):
        return {"test/error": self.error}

    def record(self):
        return {"best_error": self.error}


class Length:
    """Guess the number in a dict."""

    result = Distance

    def prepare(self, images, targets):
        return images, torch.tensor([target["length"] for target in targets])

    def loss(self, output, targets):
        return (output - targets).square().mean()

    def figures(self, output, targets):
        return {"train/first": torch.tensor(targets[0]["length"])}

    def training_words(self, means):
        return f"first {means['train/first']:.1f}"

    def metrics(self, device):
        sums = []

        def add(output, targets):
            sums.extend((output - torch.tensor([t["length"] for t in targets])).abs().tolist())

        return SimpleNamespace(add=add, result=lambda: Distance(sum(sums) / len(sums), len(sums)))


class Lengths:
    def __len__(self):
        return 3

    def epoch(self, epoch=0, steps=None, start=0):
        for step in range(start, 3):
            yield torch.ones(4, 1), [{"length": float(step + 1)} for _ in range(4)]


class Guess(nn.Linear):
    def __init__(self):
        super().__init__(1, 1, bias=False)
        nn.init.zeros_(self.weight)

    def forward(self, x):
        return super().forward(x)[:, 0]


def train(folder, schedule, epochs=2):
    begun, rates = [], []
    network = Guess()
    optimiser = torch.optim.SGD(network.parameters(), lr=9.0)
    optimiser.register_step_pre_hook(lambda *_: rates.append(optimiser.param_groups[0]["lr"]))
    extent = Extent(epochs, accum_steps=2, print_freq=2)
    parts = optimiser, schedule, extent, Precision(CPU, False, "bf16"), StepGuard("stop"), begun.append
    training, log = Training(network, Length(), *parts), Lines()
    training.run(Lengths(), Lengths(), Keeper(folder / "c.pth.tar", 1.0, ONE, log, keep=False, again=[]), {"x": 1})
    return training, log, begun, rates


def test_the_loop_trains_and_compares_by_what_the_task_says(tmp_path):
    training, log, begun, _ = train(tmp_path, lambda step: 0.1)
    assert begun == [0, 1] and training.epoch == 2
    assert training.best.error == min(training.best.error, training.last.error) and training.last.images == 12
    assert (
        f"epoch 2/2: test {training.last.words()} (best {training.best.words()}); train first 2.0, lr 0.1" in log.lines
    )
    saved = load_checkpoint(tmp_path / "c.pth.tar")
    assert saved["best_error"] == training.best.error and saved["last"] == list(training.last) and saved["x"] == 1
    assert log.figures[-1][1]["test/error"] == training.last.error
    best = training.best
    training.finish_epoch(Distance(9.0), Distance(9.0))
    assert training.best is best and training.last == Distance(9.0)


def test_a_schedule_is_of_the_step(tmp_path):
    *_, rates = train(tmp_path, lambda step: 0.1 / (1 + step))
    assert rates == pytest.approx([0.1 / (1 + step) for step in range(6)])


# -- what a space says ------------------------------------------------------------------------------------------------


class Holder(nn.Module):
    def __init__(self, slot, value):
        super().__init__()
        self.slot = slot
        self.operation = nn.Linear(1, 1)
        nn.init.constant_(self.operation.weight, value)

    def named_operations(self):
        yield "op", self.operation


def stages(*cells):
    return nn.ModuleList([nn.ModuleList(cells)])


def test_a_block_that_is_left_out_shifts_no_weights():
    pool = WeightPool()
    pool.store(stages(Holder(0, 10.0), Holder(1, 11.0), Holder(2, 12.0)))
    assert list(pool.state_dict()) == ["0.0.op", "0.1.op", "0.2.op"]
    less = stages(Holder(0, 0.0), Holder(2, 0.0))
    assert pool.fill(less) == 2
    assert [cell.operation.weight.item() for cell in less[0]] == [10.0, 12.0]


def test_the_state_of_a_space_is_in_the_searchs_checkpoint_and_older_ones_have_none():
    search, other = make_search(), make_search()
    assert search.state_dict()["space"] == {}
    search.space.state_dict = lambda: {"budget": 3}
    seen = []
    other.space.load_state_dict = seen.append
    state = search.state_dict()
    other.load_state_dict(state)
    del state["space"]
    other.load_state_dict(state)
    assert seen == [{"budget": 3}, {}] and SearchSpace().state_dict() == {}


def test_the_penalty_is_the_spaces_and_knows_how_far_the_search_is():
    search = make_search()
    search.space.penalty = lambda joint, progress: torch.tensor(float(progress.epoch * progress.config.search_iter))
    assert search.regularisation(5).item() == 15.0


def test_a_classifier_of_the_mean_is_counted_as_the_linear_layer_that_it_is():
    classifier, x = MeanClassifier(8, 3), torch.randn(2, 8, 4, 4)
    assert set(classifier.state_dict()) == {"weight", "bias"}
    plain = nn.functional.linear(x.mean(dim=(2, 3)), classifier.weight, classifier.bias)
    assert torch.equal(classifier(x), plain) and count_macs(classifier, (8, 4, 4)) == 24
