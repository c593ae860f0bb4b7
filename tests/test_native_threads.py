"""Native steps beside other programs: fewer threads where cores are busy, the same bits with any number of them."""

import copy
import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from CyDAS.data.augment import BatchAugmentation
from CyDAS.models.cells.genotype import random_genotype
from CyDAS.models.cells.layout import Layout
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.native import threads
from CyDAS.models.native.threads import EVERY, Neighbours, computing_elsewhere, shares
from CyDAS.models.nats.architecture import parse_architecture
from CyDAS.models.nats.networks import NatsLayout
from CyDAS.spaces import NatsSpace
from tests.test_native import needs_compiler

BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_1x1~1|avg_pool_3x3~2|"


@pytest.fixture
def of_four():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def knows():
    try:
        return computing_elsewhere() >= 0
    except OSError:
        return False


class Told:
    """Neighbours whose number is given."""

    def __init__(self, count):
        self.count = count

    def on_our_cores(self, wanted):
        return self.count


def of_darts_cells():
    cells = [random_genotype(torch.Generator().manual_seed(3))] * 3
    return RetrainNetwork(Layout(init_channels=8, image_size=16), cells, False)


def of_nats_cells():
    return NatsSpace(NatsLayout(8, image_size=16)).retrain_network(parse_architecture(BEST), False)


@needs_compiler
@pytest.mark.parametrize("make", [of_darts_cells, of_nats_cells])
def test_gradients_and_outputs_are_the_same_bits_with_fewer_threads(of_four, monkeypatch, make):
    torch.manual_seed(0)
    before = make()
    images, labels = torch.randn(7, 3, 16, 16), torch.arange(7)
    pixels = torch.randint(0, 256, (7, 3, 16, 16), dtype=torch.uint8)
    augmentation = BatchAugmentation((0.5,) * 3, (0.2,) * 3, cutout_length=4)
    outcomes = []
    for others in (0, 1, 2, 3, 9):
        monkeypatch.setattr(threads, "NEIGHBOURS", Told(others))
        assert shares(7) == (4, max(1, 4 - others))
        network, x = copy.deepcopy(before), images.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(network(x).logits, labels)
        found = [loss, *torch.autograd.grad(loss, [x, *network.parameters()]), *network.buffers()]
        found.append(network.eval()(images).logits)
        with torch.no_grad():
            found.append(network(images).logits)
        outcomes.append([*found, augmentation.train(pixels, torch.Generator().manual_seed(1))])
    for other in outcomes[1:]:
        assert all(torch.equal(*each) for each in zip(outcomes[0], other, strict=True))


def test_there_are_no_more_parts_than_images_and_one_thread_asks_nobody(of_four, monkeypatch):
    monkeypatch.setattr(threads, "NEIGHBOURS", Told(0))
    assert shares(3) == (3, 3) and shares(100) == (4, 4)
    monkeypatch.setattr(threads, "NEIGHBOURS", Told(2))
    assert shares(2) == (2, 2) and shares(3) == (3, 2) and shares(100) == (4, 2)  # two cores are left
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


@pytest.mark.parametrize("text", ["", "0.1 0.2", "0.1 0.2 0.3 none 5"])
def test_an_unknown_form_of_the_systems_figures_tells_nothing(monkeypatch, text):
    monkeypatch.setattr(threads.Path, "read_text", lambda self: text)
    with pytest.raises(OSError):
        computing_elsewhere()
    assert Neighbours(computing_elsewhere, 2).on_our_cores(2) == 0


def test_a_process_with_a_part_of_the_machine_does_not_know_whose_cores_are_busy(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    with pytest.raises(OSError, match="a part of the machine"):
        computing_elsewhere()


@pytest.mark.skipif(not knows(), reason="this system does not tell which threads compute")
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
    stop = threading.Event()
    own = [threading.Thread(target=multiply_until, args=(stop,)) for _ in range(3)]
    try:
        for thread in own:
            thread.start()
        assert middle() <= before + 1
    finally:
        stop.set()
        for thread in own:
            thread.join()


def multiply_until(stop):
    x = torch.randn(300, 300)
    while not stop.is_set():
        x @ x
