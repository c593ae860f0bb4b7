"""Native steps beside other programs: fewer threads where cores are busy, the same bits with any number of them."""

import os
import subprocess
import sys
import time

import pytest
import torch

from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.native import threads
from CyDAS.models.native.threads import EVERY, Neighbours, computing_elsewhere, shares
from tests.test_native import needs_compiler


@pytest.fixture
def of_four():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Told:
    """Neighbours whose number is given."""

    def __init__(self, count):
        self.count = count

    def on_our_cores(self, wanted):
        return self.count


@needs_compiler
def test_gradients_and_outputs_are_the_same_bits_with_fewer_threads(of_four, monkeypatch):
    cells = [random_genotype(torch.Generator().manual_seed(3))] * 3
    torch.manual_seed(0)
    network = RetrainNetwork(Layout(init_channels=8, image_size=16), cells, False)
    x, labels = torch.randn(7, 3, 16, 16), torch.arange(7)
    outcomes = []
    for others in (0, 1, 2, 3, 9):
        monkeypatch.setattr(threads, "NEIGHBOURS", Told(others))
        assert shares(7) == (4, max(1, 4 - others))
        logits = network(x).logits
        gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, labels), [*network.parameters()])
        outcomes.append([logits, *gradients])
    for other in outcomes[1:]:
        assert all(torch.equal(*each) for each in zip(outcomes[0], other, strict=True))


def test_there_are_no_more_parts_than_images_and_one_thread_asks_nobody(of_four, monkeypatch):
    monkeypatch.setattr(threads, "NEIGHBOURS", Told(0))
    assert shares(3) == (3, 3) and shares(100) == (4, 4)
    monkeypatch.setattr(threads, "NEIGHBOURS", None)
    assert shares(1) == (1, 1)
    torch.set_num_threads(1)
    assert shares(8) == (1, 1)


def neighbours(looks, cores):
    """With a clock that goes on by as much as passes between two looks."""
    times, looks = iter(range(100)), iter(looks)
    return Neighbours(lambda: next(looks), cores, lambda: EVERY * next(times))


def test_a_program_that_stays_busy_takes_a_core_and_one_that_comes_by_does_not():
    passing = neighbours([0, 1, 0, 0, 1, 1, 0, 0], cores=2)
    assert [passing.on_our_cores(2) for _ in range(8)] == [0] * 8
    staying = neighbours([1] * 10 + [0] * 10, cores=2)
    found = [staying.on_our_cores(2) for _ in range(20)]
    assert found[:3] == [0] * 3 and found[5:10] == [1] * 5 and found[-5:] == [0] * 5


def test_cores_that_nobody_uses_are_theirs_first():
    busy = neighbours([3] * 80, cores=8)
    for _ in range(20):
        busy.on_our_cores(8)
    assert [busy.on_our_cores(wanted) for wanted in (8, 6, 5, 4)] == [3, 1, 0, 0]


def test_it_is_looked_at_ten_times_a_second_and_not_at_all_where_nobody_knows_or_it_is_switched_off(monkeypatch):
    asked = []

    def look():
        asked.append(1)
        raise FileNotFoundError("/proc/loadavg")

    now = [0.0]
    nobody = Neighbours(look, 2, lambda: now[0])
    assert nobody.on_our_cores(2) == 0
    now[0] = 1000.0
    assert nobody.on_our_cores(2) == 0 and len(asked) == 1
    now[0], counted = 5.0, Neighbours(lambda: asked.append(1) or 0, 2, lambda: now[0])
    for now[0] in (5.0, 5.05, 5.09, 5.11, 5.2, 5.25):
        counted.on_our_cores(2)
    assert len(asked) == 1 + 3
    monkeypatch.setenv("CYDAS_SHARE_CORES", "0")
    assert Neighbours(look, 2, lambda: now[0]).on_our_cores(2) == 0 and len(asked) == 1 + 3


@pytest.mark.skipif(not os.path.exists("/proc/loadavg"), reason="only Linux counts the threads that compute")
def test_a_busy_process_is_counted_and_this_one_is_not():
    def middle():
        looks = []
        for _ in range(15):
            time.sleep(0.02)
            looks.append(computing_elsewhere())
        return sorted(looks)[7]

    before = middle()
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        time.sleep(0.3)
        assert middle() >= before + 2  # something else may have ended
    finally:
        for process in processes:
            process.kill()
            process.wait()
