"""What timm's recipe does to images: RandAugment, random erasing, and the kernels by which images are resized."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from CyDAS.config import RetrainConfig
from CyDAS.data.augment import BatchAugmentation, seeded
from CyDAS.data.image_steps import image_options
from CyDAS.data.timm_steps import RandAugment, following_torch, random_erasing
from CyDAS.utils.errors import CydasError
from tests.spies import CPU
from tests.test_data_method import IMAGENET, Process, cifar, folder, recorded_transforms  # noqa: F401
from tests.test_pixel_range import make_folder

POLICY = "rand-m9-mstd0.5"
MEAN = (0.485, 0.456, 0.406)


def picture(size=40, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


# -- RandAugment -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interpolation", ["random", "bicubic"])
def test_it_is_timms_with_the_options_of_its_training(interpolation):
    options = {"translate_const": 18, "img_mean": (124, 116, 104)}
    if interpolation == "bicubic":
        options["interpolation"] = Image.Resampling.BICUBIC
    theirs, mine = rand_augment_transform(POLICY, options), RandAugment(POLICY, 40, MEAN, interpolation)
    changed = 0
    for seed in range(30):
        image = picture(seed=seed)
        with seeded(seed):
            result = mine(image)
        with seeded(seed), following_torch():
            expected = theirs(image)
        assert result.tobytes() == expected.tobytes()
        changed += result.tobytes() != image.tobytes()
    assert changed > 10


def test_timms_own_training_gives_it_the_same_options():
    from timm.data import create_transform

    transform = create_transform(40, is_training=True, auto_augment=POLICY, interpolation="bicubic")
    (theirs,) = (step for step in transform.transforms if type(step).__name__ == "RandAugment")
    mine = RandAugment(POLICY, 40, MEAN, "bicubic")._augment
    assert [vars(op) for op in mine.ops] == [vars(op) for op in theirs.ops]
    assert (mine.num_layers, mine.choice_weights) == (theirs.num_layers, theirs.choice_weights)


def test_it_draws_from_pytorchs_generator_alone_and_leaves_the_others_where_they_were():
    augment, image = RandAugment(POLICY, 40, MEAN), picture()
    results = []
    for other in range(3):
        random.seed(other)
        np.random.seed(other)
        before = random.getstate(), np.random.get_state()[1].tobytes()
        with seeded(7):
            results.append([augment(image).tobytes() for _ in range(8)])
        assert (random.getstate(), np.random.get_state()[1].tobytes()) == before
    assert results[0] == results[1] == results[2] and len(set(results[0])) > 3


def test_every_image_of_a_batch_has_operations_of_its_own_as_alone():
    augment = RandAugment(POLICY, 32, MEAN)
    images = torch.from_numpy(np.array(picture(32))).permute(2, 0, 1).expand(64, 3, 32, 32).contiguous()
    with seeded(3):
        batch = augment.of_batch(images)
    with seeded(3), following_torch():
        alone = [F.pil_to_tensor(augment._augment(F.to_pil_image(image))) for image in images]
    assert batch.dtype == torch.uint8 and torch.equal(batch, torch.stack(alone))
    assert len({image.numpy().tobytes() for image in batch}) > 20


@pytest.mark.parametrize("policy", [
    "", "rand-", "m9", "randm9", "rand-m", "rand-mx", "rand-m9-mstd", "rand-n0.5", "rand-x3", "rand-m9_n2", "rand-p2",
    "original", "augmix-m3", "rand-tnothing", "rand-m9-inc2", "rand-m-3", "rand-n99-tweights", "rand-m9 ", "rand-m９",
])  # fmt: skip
def test_what_timm_would_not_read_or_read_otherwise_is_refused(policy):
    with pytest.raises(CydasError, match="--rand_augment"):
        RandAugment(policy, 32, MEAN)


@pytest.mark.parametrize("policy", [
    "rand", POLICY, "rand-m9-n3-mstd0.5", "rand-mstd1-tweights", "rand-m15-mmax20-inc1", "rand-p0.5-n1", "rand-t3a",
    "rand-m7-mstd101",
])  # fmt: skip
def test_what_timm_reads_is_taken(policy):
    with seeded(0):
        assert RandAugment(policy, 32, MEAN)(picture(32)).size == (32, 32)


def test_images_of_folders_have_it_in_the_place_of_the_colours(tmp_path, monkeypatch):
    data = folder(tmp_path, config=RetrainConfig, rand_augment=POLICY, interpolation="random")
    found, order = recorded_transforms(monkeypatch, lambda: data.train_batches(range(6)))
    assert v2.ColorJitter not in order
    assert order.index(v2.RandomHorizontalFlip) < order.index(RandAugment) < order.index(v2.Normalize)
    op = found[RandAugment]._augment.ops[0]
    assert op.hparams["translate_const"] == int(28 * 0.45) and op.hparams["img_mean"] == (124, 116, 104)
    assert "interpolation" not in op.hparams


def test_deep_images_are_augmented_with_8_bits_and_it_is_said(tmp_path):
    levels, file = (np.arange(40 * 40) % 1000 * 60).reshape(40, 40).astype(np.uint16), io.BytesIO()
    Image.fromarray(levels).save(file, "png")
    data = folder(
        make_folder(tmp_path, *[file.getvalue()] * 4, ending="png"), config=RetrainConfig, rand_augment=POLICY
    )
    assert any("--rand_augment works on 8 bits" in note for note in data.notes)
    images = torch.cat([x for x, _ in data.train_batches(range(data.train_size)).epoch()])
    assert images.isfinite().all() and images.std() > 0.1
    plain = folder(tmp_path, config=RetrainConfig)
    assert not any("8 bits:" in note and "--rand_augment" in note for note in plain.notes)


# -- random erasing ----------------------------------------------------------------------------------------------------


def test_erasing_is_timms_in_mode_pixel():
    mine, theirs = random_erasing(0.5), RandomErasing(0.5, mode="pixel", device="cpu")
    with seeded(5):
        result = mine(torch.zeros(200, 3, 32, 32))
    with seeded(5), following_torch():
        expected = theirs(torch.zeros(200, 3, 32, 32))
    assert torch.equal(result, expected)
    erased = (result != 0).any(1).flatten(1).sum(1)
    assert 60 < int((erased > 0).sum()) < 140
    assert 0.01 * 1024 < int(erased[erased > 0].min()) and int(erased.max()) < 0.36 * 1024
    noise = result[result != 0]
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0, 1), abs=0.02)


def test_erasing_comes_after_the_normalisation(tmp_path, cifar, monkeypatch):  # noqa: F811
    data = folder(tmp_path, config=RetrainConfig, random_erase=1.0)
    steps = data.train_batches(range(6))._loader.dataset.transform.steps.transforms
    assert isinstance(steps[-2], v2.Normalize)
    for step in (steps[-1], BatchAugmentation((0.5,) * 3, (0.2,) * 3, erase=random_erasing(1.0)).erase):
        assert (step(torch.zeros(3, 64, 64)) != 0).any()
    grey = torch.full((50, 3, 32, 32), 128, dtype=torch.uint8)
    for probability, share in ((0.0, 0), (1.0, 50)):
        augmentation = BatchAugmentation(
            (0.5,) * 3, (0.2,) * 3, padding=0, erase=random_erasing(probability) if probability else None
        )
        images = augmentation.train(grey, torch.Generator().manual_seed(0))
        assert int((images.flatten(1).std(1) > 1e-3).sum()) == share


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["memory", "folder"])
def test_batches_follow_from_seed_loader_epoch_and_process_alone(tmp_path, monkeypatch, place):
    from torchvision import datasets

    from CyDAS.data import load_data
    from tests.spies import ONE, FakeCifar

    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    recipe = {"rand_augment": POLICY, "random_erase": 0.5}

    def epoch(number=0, start=0, stream=1, rank=0, ranks=1, **flags):
        np.random.seed(rank + number)  # must not matter
        random.seed(rank + number)
        process = Process(rank, ranks, CPU) if ranks > 1 else ONE
        if place == "memory":
            data = load_data(RetrainConfig(dataset="cifar10", batch_size=4, **recipe, **flags), process)
        else:
            data = folder(tmp_path, process, config=RetrainConfig, same=True, interpolation="random", **recipe, **flags)
        return [x for x, _ in data.train_batches(range(6), stream=stream).epoch(number, start=start)]

    first = epoch()
    assert all(map(torch.equal, first, epoch()))
    assert torch.equal(epoch(start=1)[0], first[1])
    others = [epoch(1), epoch(stream=2), epoch(seed=1), epoch(rank=1, ranks=2)]
    assert not any(torch.equal(first[0], x[0]) for x in others if x[0].shape == first[0].shape)


def test_workers_augment_as_the_program_itself_does(tmp_path):
    recipe = {"rand_augment": POLICY, "random_erase": 0.5, "interpolation": "random"}
    one, two = (
        [x for x, _ in folder(tmp_path, config=RetrainConfig, workers=n, **recipe).train_batches(range(6)).epoch()]
        for n in (0, 2)
    )
    assert all(map(torch.equal, one, two))


# -- kernels and crops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "kernels"), [
    ("bilinear", {"bilinear"}), ("bicubic", {"bicubic"}), ("random", {"bilinear", "bicubic"}),
])  # fmt: skip
def test_crops_are_resized_by_the_flags_kernel(tmp_path, monkeypatch, flag, kernels):
    data = folder(tmp_path, config=RetrainConfig, interpolation=flag)
    seen, original = [], v2.RandomResizedCrop.transform

    def look(crop, image, place):
        seen.append(crop.interpolation.value)
        return original(crop, image, place)

    monkeypatch.setattr(v2.RandomResizedCrop, "transform", look)
    batches = data.train_batches(range(6))
    for epoch in range(5):
        list(batches.epoch(epoch))
    assert set(seen) == kernels and len(seen) == 30
    assert flag != "random" or 5 < seen.count("bicubic") < 25


@pytest.mark.parametrize(
    ("crop_pct", "kernel", "side"), [(0.875, "bilinear", 32), (1.0, "bicubic", 28), (0.7, "bicubic", 40)]
)
def test_test_images_are_cut_by_the_flags(tmp_path, crop_pct, kernel, side):
    data = folder(tmp_path, config=RetrainConfig, crop_pct=crop_pct, test_interpolation=kernel)
    images = torch.cat([x for x, _ in data.test_batches().epoch()])
    for image, file in zip(images, sorted((tmp_path / "val").glob("*/*.png")), strict=True):
        expected = F.center_crop(F.resize(Image.open(file), [side], v2.InterpolationMode(kernel)), [28])
        expected = F.to_dtype(F.to_image(expected), torch.float32, scale=True)
        expected = (expected - IMAGENET[0][:, None, None]) / IMAGENET[1][:, None, None]
        torch.testing.assert_close(image, expected, rtol=0, atol=1e-6)


def test_the_published_proportion_is_the_default_at_every_size():
    options = image_options(RetrainConfig())
    assert all(round(size / options.crop_pct) == round(size * 256 / 224) for size in range(1, 3000))
