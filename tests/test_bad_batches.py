"""Damaged images, and workers that die: batches stay what the training needs, and the user reads one line."""

import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.loaders import BadImages, FileBatches
from CyDAS.engine.cycle import Phase
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.optim import Precision
from CyDAS.retrain import main as retrain
from CyDAS.runs.logs import RunLog
from CyDAS.search import main as search
from CyDAS.tasks.classification import Classification
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from tests.test_engine import FixedBatches, make_search

CPU = torch.device("cpu")
ONE = Process(0, 1, CPU)


def make_folder(root, images=3, size=10):
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for index in range(images):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def damage(root, part, index):
    """Damage the image of this number."""
    path = sorted((root / part).glob("*/*.png"))[index]
    path.write_bytes(b"")
    return path


def folder(root, process=ONE, **flags):
    return load_data(SearchConfig(dataset="folder", data_dir=root, image_size=8, **{"workers": 0} | flags), process)


def epoch(root, process=ONE, number=0, start=0, **flags):
    data = folder(root, process, **flags)
    return list(data.train_batches(range(data.train_size)).epoch(number, start=start))


@pytest.mark.parametrize("process", [ONE, Process(0, 2, CPU), Process(1, 2, CPU)])
def test_no_training_batch_has_a_single_image_and_those_of_several_processes_are_full(tmp_path, process):
    make_folder(tmp_path, images=6)
    for index in (0, 3, 4, 7, 8, 10, 11):
        damage(tmp_path, "train", index)
    for size in (2, 3):
        for number in range(4):
            sizes = [len(y) for _, y in epoch(tmp_path, process, number, batch_size=size, max_bad_images=7)]
            assert len(sizes) == (12 // process.world_size) // size
            assert set(sizes) == {size} if process.world_size == 2 or size == 2 else set(sizes) <= {2, 3}


def test_the_image_that_takes_a_damaged_ones_place_follows_from_seed_epoch_and_place(tmp_path):
    make_folder(tmp_path, images=6)
    for index in (0, 3, 4, 7, 8, 10):
        damage(tmp_path, "train", index)
    flags = {"process": Process(1, 2, CPU), "batch_size": 2, "max_bad_images": 6, "number": 1}
    first = epoch(tmp_path, **flags)
    again, workers = epoch(tmp_path, **flags), epoch(tmp_path, **flags, workers=2)
    resumed = epoch(tmp_path, **flags, start=1)
    for other in (again, workers, [first[0], *resumed]):
        for one, two in zip(first, other, strict=True):
            assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    seed = epoch(tmp_path, **flags, seed=1)
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, seed, strict=True))
    assert len({x.numpy().tobytes() for batch, _ in first for x in batch}) == 6  # nor the same one for all places


def test_one_whole_image_fills_all_places_and_none_is_an_error(tmp_path):
    make_folder(tmp_path, images=3)
    for index in range(5):
        damage(tmp_path, "train", index)
    batches = epoch(tmp_path, Process(0, 2, CPU), batch_size=3, max_bad_images=5)
    assert [y.tolist() for _, y in batches] == [[1, 1, 1]]
    damage(tmp_path, "train", 5)
    with pytest.raises(CydasError, match="none of the 6 images of this part of the data is whole: cannot read"):
        epoch(tmp_path, batch_size=3, max_bad_images=6)
    with pytest.raises(CydasError, match="up to N damaged ones, here 2"):
        epoch(tmp_path, batch_size=3, max_bad_images=2)


TINY = (
    "--space nats --cells_per_stage 1 --init_channels 4 --image_size 8 --device cpu --threads 1 --dataset folder "
    "--workers 0 --batch_size 2 --max_bad_images 2 --seed 1"
).split()
BEST = '"|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"'


def test_programs_train_on_pairs_of_which_one_is_damaged(tmp_path):
    """In both halves of a search, and in a retraining with several parts to an update."""
    make_folder(tmp_path / "data", images=2)
    for index in (0, 3):
        damage(tmp_path / "data", "train", index)
    (tmp_path / "cell.json").write_text(BEST)
    flags = [*TINY, "--data_dir", str(tmp_path / "data"), "--output_dir", str(tmp_path)]
    rounds = "--sample_ratio 1 --pretrain_epochs 1 --search_iter 2 --search_iter_epochs 1 --nasnet_warmup 1".split()
    search([*flags, *rounds])
    assert (tmp_path / "search/default/genotype.json").exists()
    retrain([*flags, "--epochs", "1", "--aux_weight", "0", "--cell_file", str(tmp_path / "cell.json")])
    assert (tmp_path / "retrain/default/result.json").exists()


class Numbers(torch.utils.data.Dataset):
    """Images that are their number; ``strange(index)`` may raise what it likes."""

    def __init__(self, strange, size=6):
        self.strange = strange
        self.size = size

    def __getitem__(self, index):
        self.strange(index)
        return torch.full((3, 2, 2), float(index)), index


def numbers(strange=lambda index: None, transform=lambda image: image, workers=0, limit=0, train=True, size=6):
    options = {"process": ONE, "seed": 0, "stream": 0, "train": train, "batch_size": 2}
    return FileBatches(Numbers(strange, size), range(size), transform, workers, BadImages(limit), **options)


class Odd(Exception):
    pass


@pytest.mark.parametrize("kind", [Odd, KeyError, RecursionError, MemoryError, RuntimeError, IndexError, StopIteration])
@pytest.mark.parametrize("at", ["dataset", "transform"])
def test_whatever_an_image_raises_it_is_a_damaged_image(kind, at):
    def strange(index):
        if index == 3:
            raise kind("what nobody\nexpected")

    def transform(image):
        strange(int(image.max()))
        return image

    faulty = {"strange": strange} if at == "dataset" else {"transform": transform}
    assert [len(y) for _, y in numbers(**faulty, limit=1, train=False).epoch()] == [2, 1, 2]
    with pytest.raises(CydasError, match=f"cannot read the image number 3: {kind.__name__}") as error:
        list(numbers(**faulty).epoch())
    assert "\n" not in str(error.value)


def test_an_odd_image_in_a_worker_is_a_damaged_image():
    def strange(index):
        if index == 3:
            raise Odd("what nobody\nexpected")

    with pytest.raises(CydasError, match="cannot read the image number 3: Odd what nobody"):
        list(numbers(strange, workers=1).epoch())


@pytest.fixture
def noticed_soon(monkeypatch):
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.3,))  # seconds; else 5


def test_a_worker_that_dies_is_one_line(noticed_soon):
    parent = os.getpid()

    def strange(index):
        if index == 3 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(CydasError, match="a process that reads images has ended .*--workers 0") as error:
        list(numbers(strange, workers=1).epoch())
    assert "\n" not in str(error.value)


def test_a_worker_that_dies_does_not_interrupt_what_the_program_does(noticed_soon):
    """PyTorch would raise at any moment, between two messages to another process, say."""
    before = signal.getsignal(signal.SIGCHLD)
    batches = numbers(lambda index: time.sleep(0.01), workers=1, size=8).epoch()
    next(batches)
    assert signal.getsignal(signal.SIGCHLD) is before
    (worker,) = multiprocessing.active_children()
    worker.kill()
    worker.join()
    with pytest.raises(CydasError, match="a process that reads images has ended"):
        list(batches)


def test_a_searchs_figures_count_by_images():
    search, seen = make_search(print_freq=2), []
    search._show = lambda means, log: seen.append(means)
    phase = Phase("joint", "cycle", 0, (FixedBatches(),), 0, lambda batch: {"images": torch.tensor(len(batch[0][1]))})
    search.epoch(phase, 2, RunLog(None), SimpleNamespace(end_step=lambda search: None))
    assert seen == [{"images": pytest.approx((8 * 8 + 4 * 4) / 12)}]


def test_a_test_without_a_whole_image_is_an_error_and_not_an_accuracy(tmp_path):
    make_folder(tmp_path, images=1)
    for index in range(2):
        damage(tmp_path, "val", index)
    data = folder(tmp_path, batch_size=2, max_bad_images=2)
    with pytest.raises(CydasError, match="there is no test image that can be read"):
        evaluate(torch.nn.Identity(), Classification(2), data.test_batches(), Precision(CPU, False, "bf16"))
    with pytest.raises(CydasError, match="cannot read the image .*dog/0.png.*here 1"):
        list(folder(tmp_path, max_bad_images=1, batch_size=2).test_batches().epoch())
