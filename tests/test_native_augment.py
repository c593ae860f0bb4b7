"""Training images in one native pass: bit for bit what PyTorch's operations make of them, drawn in the same order."""

import numpy as np
import pytest
import torch

from CyDAS.data import native_augment
from CyDAS.data.augment import BatchAugmentation
from CyDAS.data.loaders import TensorBatches
from CyDAS.utils.distributed import Process
from tests.test_native import needs_compiler

MEAN, STD = (0.49, 0.48, 0.44), (0.24, 0.25, 0.26)


def both(augmentation, images, monkeypatch):
    """The batch with and without the native pass, and the generators' states after it."""
    outcomes = []
    for native in (True, False):
        if not native:
            monkeypatch.setattr(native_augment, "applies", lambda images: False)
        generator = torch.Generator().manual_seed(3)
        outcomes.append((augmentation.train(images, generator), generator.get_state()))
        monkeypatch.undo()
    return outcomes


@needs_compiler
@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((128, 3, 32, 32), {"cutout_length": 16}),
        ((128, 3, 32, 32), {}),
        ((6, 1, 8, 8), {"padding": 1}),
        ((6, 1, 8, 8), {"padding": 1, "cutout_length": 3}),
        ((9, 3, 7, 12), {"padding": 3, "cutout_length": 5}),
        ((9, 2, 4, 6), {"padding": 9, "cutout_length": 40}),  # windows that miss the image, a square around it
        ((5, 3, 6, 5), {"padding": 0, "flip": False, "cutout_length": 1}),
        ((40, 3, 1, 1), {"padding": 2}),
    ],
)
def test_the_native_pass_gives_the_same_bits_in_the_same_places(monkeypatch, shape, options):
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    assert native_augment.applies(images)
    augmentation = BatchAugmentation(MEAN[: shape[1]], STD[: shape[1]], **options)
    (native, after), (plain, after_plain) = both(augmentation, images, monkeypatch)
    assert torch.equal(native, plain) and native.dtype == torch.float32 and native.stride() == plain.stride()
    assert torch.equal(after, after_plain)  # nothing else was drawn, and nothing is missing


@needs_compiler
def test_images_in_another_memory_format_and_parts_of_a_tensor_are_read_where_they_lie(monkeypatch):
    augmentation = BatchAugmentation(MEAN, STD, cutout_length=4)
    images = torch.randint(0, 256, (10, 3, 9, 8), dtype=torch.uint8)
    for given in (images.contiguous(memory_format=torch.channels_last), images[::2], images[:, :, 1:]):
        (native, _), (plain, _) = both(augmentation, given, monkeypatch)
        assert torch.equal(native, plain)


@needs_compiler
def test_what_changes_pixels_on_the_way_is_done_step_by_step_and_what_erases_comes_last(monkeypatch):
    monkeypatch.setattr(native_augment, "augment", lambda *a: pytest.fail("not in one pass"))
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    BatchAugmentation(MEAN, STD, auto_augment=True).train(images, torch.Generator())
    monkeypatch.undo()
    erased = BatchAugmentation(MEAN, STD, erase=lambda x: x * 0 + torch.rand(1))
    (native, after), (plain, after_plain) = both(erased, images, monkeypatch)
    assert torch.equal(native, plain) and torch.equal(after, after_plain) and native.unique().numel() == 1


def test_other_numbers_and_no_images_are_left_to_pytorch():
    assert not native_augment.applies(torch.rand(2, 3, 8, 8))
    assert not native_augment.applies(torch.zeros(0, 3, 8, 8, dtype=torch.uint8))
    assert not native_augment.applies(torch.zeros(2, 3, 8, 8, dtype=torch.uint8, device="meta"))


@needs_compiler
def test_what_was_drawn_for_another_batch_is_refused():
    images = torch.randint(0, 256, (4, 3, 6, 6), dtype=torch.uint8)
    window, table, square = torch.zeros(2, 4, 1, dtype=torch.int64), torch.zeros(3, 256), torch.zeros(4, 1).long()
    native_augment.augment(images, 2, window, None, (square, square), 3, table)
    for wrong in (
        (window[:, :1], None, (), table), (window, torch.zeros(3, dtype=torch.bool), (), table),
        (window, None, (square[:2], square), table), (window, None, (), table[:2]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="a batch of 4 images of 3 channels"):
            native_augment.augment(images, 2, *wrong[:3], 3, wrong[3])


@needs_compiler
def test_an_epoch_is_the_same_with_the_native_pass(monkeypatch):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (50, 3, 12, 12), dtype=np.uint8))
    options = {"batch_size": 16, "process": Process(0, 1, torch.device("cpu")), "seed": 1, "stream": 1, "train": True}
    batches = TensorBatches(images, torch.arange(50), BatchAugmentation(MEAN, STD, cutout_length=4), **options)
    native = list(batches.epoch(2))
    monkeypatch.setattr(native_augment, "applies", lambda images: False)
    plain = list(batches.epoch(2))
    assert len(native) == 4 and sum(len(labels) for _, labels in native) == 50
    for (x, labels), (other, others) in zip(native, plain, strict=True):
        assert torch.equal(x, other) and torch.equal(labels, others)
