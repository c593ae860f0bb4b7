"""What the published recipes do to images, and what sets apart the random choices of epochs, loaders and processes."""

import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from CyDAS.config import RetrainConfig, SearchConfig
from CyDAS.data import load_data
from CyDAS.data.augment import BatchAugmentation
from CyDAS.data.loaders import Batches, TensorBatches
from CyDAS.data.sets import ImagesInMemory, resize
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from tests.spies import CPU, ONE, FakeCifar, FakeCifar100, first_step, run_search

CIFAR = torch.tensor([0.49139968, 0.48215827, 0.44653124]), torch.tensor([0.24703233, 0.24348505, 0.26158768])
IMAGENET = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture
def cifar(monkeypatch):
    monkeypatch.setattr(datasets, "CIFAR10", FakeCifar)
    monkeypatch.setattr(datasets, "CIFAR100", FakeCifar100)

    def load(process=ONE, dataset="cifar10", **flags):
        return load_data(SearchConfig(dataset=dataset, **{"batch_size": 8, **flags}), process)

    return load


def pixels(images, mean, std):
    """The bytes that normalised images were made of."""
    values = (images * std[:, None, None] + mean[:, None, None]) * 255
    assert (values - values.round()).abs().max() < 1e-3
    return values.round().byte()


def place(image):
    """(row, column, mirrored) of the window that the image is of a padded one of :class:`FakeCifar`'s."""
    rows, columns, number = image.int()
    row, column = int(rows[16, 16]) - 17, int(columns[16, 16]) - 17
    mirrored = bool(columns[16, 15] > columns[16, 16])
    column = int(columns[16, 15]) - 17 if mirrored else column
    original = torch.from_numpy(FakeCifar("", True).data[int(number[16, 16]) - 1]).permute(2, 0, 1)
    window = torch.nn.functional.pad(original, (8,) * 4)[:, 8 + row : 40 + row, 8 + column : 40 + column]
    assert torch.equal(image, window.flip(-1) if mirrored else window)
    return row, column, mirrored


@pytest.mark.parametrize(("dataset", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_is_cropped_with_4_pixels_flipped_and_normalised_as_published(cifar, dataset, classes):
    data = cifar(dataset=dataset)
    test = torch.cat([x for x, _ in data.test_batches().epoch()])
    assert torch.equal(pixels(test, *CIFAR), torch.from_numpy(FakeCifar("", False).data).permute(0, 3, 1, 2))
    batches = data.train_batches(range(40))
    images = torch.cat([pixels(x, *CIFAR) for epoch in range(3) for x, _ in batches.epoch(epoch)])
    rows, columns, mirrored = zip(*map(place, images), strict=True)
    assert (min(rows), max(rows), min(columns), max(columns)) == (-4, 4, -4, 4)
    assert 30 < sum(mirrored) < 90
    assert (data.n_classes, data.image_size, data.input_channels, data.train_size) == (classes, 32, 3, 40)


def test_digits_are_cropped_with_2_pixels_and_never_mirrored():
    data = load_data(SearchConfig(batch_size=60), ONE)
    (x, y), (again, same) = (next(data.train_batches(range(1438)).epoch(e)) for e in (0, 0))
    assert torch.equal(x, again) and torch.equal(y, same)
    augmentation = data.train_batches(range(8)).augmentation
    assert (augmentation.padding, augmentation.flip, augmentation.cutout_length) == (2, False, 0)
    data = load_data(SearchConfig(image_size=8), ONE)  # their own size
    plain = augmentation.normalise(data.train_batches(range(data.train_size)).images)
    assert (float(plain.mean()), float(plain.std())) == pytest.approx((0, 1), abs=0.01)


def test_other_sizes_are_the_same_pictures():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert resize(images, 16) is images
    assert float((resize(images, 32)[..., ::2, ::2].float() - images.float()).abs().mean()) < 8
    small = resize(images, 8)
    blocks = torch.nn.functional.avg_pool2d(images.float(), 2)
    assert small.dtype == torch.uint8 and float((small[..., 1:-1, 1:-1] - blocks[..., 1:-1, 1:-1]).abs().max()) <= 1
    assert load_data(SearchConfig(image_size=24), ONE).test_batches().images.shape[-2:] == (24, 24)


def test_the_halves_are_the_first_and_the_second_by_index(cifar):
    assert [list(half) for half in cifar().halves("index")] == [list(range(20)), list(range(20, 40))]
    train, val = cifar().halves("class")
    labels = cifar().train_labels
    assert labels[train].bincount().tolist() == labels[val].bincount().tolist() == [2] * 10
    train, val = cifar().halves("random", 3)
    assert train == sorted(train) and train != list(range(20)) and sorted([*train, *val]) == list(range(40))


def test_the_search_gives_its_halves_to_two_loaders(tmp_path, monkeypatch):
    asked, original = [], ImagesInMemory.train_batches

    def noted(self, indices, **options):
        asked.append((list(indices), options.get("stream"), options.get("cutout_length", 0)))
        return original(self, indices, **options)

    monkeypatch.setattr(ImagesInMemory, "train_batches", noted)
    data = load_data(SearchConfig(image_size=8), ONE)
    for split, seed in (("index", 0), ("class", 0), ("random", 4)):
        asked.clear()
        with first_step():
            run_search(tmp_path / split, "--split", split, "--seed", str(seed))
        halves = [list(half) for half in data.halves(split, seed)]
        assert [indices for indices, _, _ in asked] == halves
        assert len({stream for _, stream, _ in asked}) == 2 and {cutout for _, _, cutout in asked} == {0}


# -- random choices --------------------------------------------------------------------------------------------------


def alike(n=64, size=8):
    """``n`` times the same image, each pixel of its own value: what differs in a batch was drawn for it."""
    return torch.arange(1, size * size + 1, dtype=torch.uint8).view(1, 1, size, size).repeat(n, 3, 1, 1)


def tensor_batches(rank=0, ranks=1, seed=0, stream=1, batch_size=16):
    augmentation = BatchAugmentation((0.0,) * 3, (1.0,) * 3, padding=3)
    return TensorBatches(
        alike(), torch.arange(64), augmentation, batch_size=batch_size, process=Process(rank, ranks, CPU), seed=seed,
        stream=stream, train=True,
    )  # fmt: skip


def test_no_two_processes_epochs_steps_loaders_or_seeds_crop_alike():
    def first(epoch=0, step=0, **options):
        return list(tensor_batches(**options).epoch(epoch))[step][0]

    seen = [
        first(), first(step=1), first(epoch=1), first(seed=1), first(stream=2), first(rank=1, ranks=2),
        first(rank=2, ranks=3), first(epoch=1, step=1), first(rank=1, ranks=2, step=1),
    ]  # fmt: skip
    assert len({images.numpy().tobytes() for images in seen}) == len(seen)
    assert torch.equal(first(epoch=2), first(epoch=2))
    assert len({image.numpy().tobytes() for image in first()}) > 12  # nor do the images of a batch


def test_epochs_are_shuffled_differently_by_seed_loader_and_number_but_shared_by_processes():
    orders = [tensor_batches(**options).order(epoch) for options, epoch in (
        ({}, 0), ({}, 1), ({"seed": 1}, 0), ({"stream": 2}, 0),
    )]  # fmt: skip
    assert len(set(map(tuple, orders))) == 4 and all(sorted(order) == list(range(64)) for order in orders)
    assert list(range(64)) not in orders
    shared = [tensor_batches(rank, 4).order(5) for rank in range(4)]
    assert sorted(sum(shared, [])) == list(range(64)) and {len(part) for part in shared} == {16}
    uneven = [Batches(10, 2, Process(rank, 4, CPU), 0, 0, True) for rank in range(4)]
    assert {len(part.order(0)) for part in uneven} == {3} and {len(part) for part in uneven} == {1}
    assert {index for part in uneven for index in part.order(0)} == set(range(10))


def test_images_keep_their_labels():
    images = torch.arange(64, dtype=torch.uint8).view(64, 1, 1, 1).expand(-1, 3, 8, 8)
    plain = BatchAugmentation((0.0,) * 3, (1 / 255,) * 3, padding=0)
    for train in (True, False):
        options = dict(batch_size=16, process=ONE, seed=0, stream=0, train=train)
        for x, y in TensorBatches(images, torch.arange(64), plain, **options).epoch(3):
            assert torch.equal(x[:, 0, 0, 0].round().long(), y)


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_an_epoch_can_be_entered_and_left_at_any_step(kind, tmp_path):
    batches = tensor_batches() if kind == "memory" else folder(tmp_path, images=10).train_batches(range(20), stream=1)
    whole = list(batches.epoch(2))
    assert len(whole) == len(batches)
    for start, end in ((0, 2), (1, 3), (2, None)):
        part = list(batches.epoch(2, steps=end, start=start))
        assert len(part) == len(whole[start:end])
        for (x, y), (same_x, same_y) in zip(part, whole[start:end], strict=True):
            assert torch.equal(x, same_x) and torch.equal(y, same_y)


@pytest.mark.parametrize(
    ("size", "batch_size", "ranks", "train", "steps"),
    [(10, 4, 1, True, 3), (9, 4, 1, True, 2), (9, 4, 1, False, 3), (8, 4, 2, True, 1), (9, 4, 2, False, 2),
     (18, 4, 2, True, 2), (17, 4, 2, True, 2), (4, 8, 2, True, 1)],
)  # fmt: skip
def test_steps_of_an_epoch(size, batch_size, ranks, train, steps):
    assert len(Batches(size, batch_size, Process(0, ranks, CPU), 0, 0, train)) == steps


def test_too_few_training_images_are_refused_for_all_processes():
    with pytest.raises(CydasError, match="too few"):
        Batches(2, 4, Process(0, 2, CPU), 0, 0, True)
    assert len(Batches(3, 4, Process(0, 2, CPU), 0, 0, True)) == 1
    assert len(Batches(1, 4, Process(0, 1, CPU), 0, 0, False)) == 1


# -- folders of images -----------------------------------------------------------------------------------------------


def make_images(root, images=3, classes=("cat", "dog"), size=(50, 41), same=False):
    generator = np.random.default_rng(0)
    one = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    for part in ("train", "val"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(images):
                array = one if same else generator.integers(0, 256, (*size, 3), dtype=np.uint8)
                Image.fromarray(array).save(root / part / name / f"{index}.png")
    return root


def folder(root, process=ONE, dataset="folder", config=SearchConfig, **flags):
    if not (root / "train").exists() and dataset == "folder":
        make_images(root, flags.get("images", 3), same=flags.get("same", False))
    flags = {"workers": 0, "batch_size": 4, "image_size": 28, "data_dir": root, **flags}
    flags = {name: value for name, value in flags.items() if name not in ("images", "same")}
    return load_data(config(dataset=dataset, **flags), process)


def test_test_images_are_resized_by_256_to_224_cropped_in_the_centre_and_normalised(tmp_path):
    data = folder(tmp_path, image_size=28)
    images = torch.cat([x for x, _ in data.test_batches().epoch()])
    labels = torch.cat([y for _, y in data.test_batches().epoch()])
    files = sorted((tmp_path / "val").glob("*/*.png"))
    assert labels.tolist() == [0] * 3 + [1] * 3
    for image, file in zip(images, files, strict=True):
        expected = F.center_crop(F.resize(Image.open(file), [32]), [28])
        expected = F.to_dtype(F.to_image(expected), torch.float32, scale=True)
        expected = (expected - IMAGENET[0][:, None, None]) / IMAGENET[1][:, None, None]
        torch.testing.assert_close(image, expected, rtol=0, atol=2 / 255 / 0.2)
    assert folder(tmp_path, image_size=None).image_size == 224


def recorded_transforms(monkeypatch, make):
    steps, original = [], v2.Compose

    def compose(transforms):
        steps.extend(transforms)
        return original(transforms)

    monkeypatch.setattr(v2, "Compose", compose)
    make()
    return {type(step): step for step in steps}, [type(step) for step in steps]


def test_training_images_are_augmented_as_published(tmp_path, monkeypatch):
    data = folder(tmp_path)
    found, order = recorded_transforms(monkeypatch, lambda: data.train_batches(range(6)))
    crop, flip, jitter = found[v2.RandomResizedCrop], found[v2.RandomHorizontalFlip], found[v2.ColorJitter]
    assert (list(crop.size), crop.scale, flip.p) == ([28, 28], (0.08, 1.0), 0.5)
    assert crop.ratio == pytest.approx((3 / 4, 4 / 3))
    for name, strength in (("brightness", 0.4), ("contrast", 0.4), ("saturation", 0.4)):
        assert getattr(jitter, name) == pytest.approx((1 - strength, 1 + strength))
    assert jitter.hue == pytest.approx((-0.2, 0.2))
    assert found[v2.Normalize].mean == pytest.approx(IMAGENET[0].tolist())
    assert found[v2.Normalize].std == pytest.approx(IMAGENET[1].tolist())
    assert v2.AutoAugment not in order
    assert order.index(v2.RandomResizedCrop) < order.index(v2.ColorJitter) < order.index(v2.Normalize)


def test_auto_augment_takes_the_place_of_the_colours_with_the_policy_of_imagenet(tmp_path, monkeypatch):
    data = folder(tmp_path, use_aa=True)
    found, order = recorded_transforms(monkeypatch, lambda: data.train_batches(range(6)))
    assert found[v2.AutoAugment].policy == v2.AutoAugmentPolicy.IMAGENET and v2.ColorJitter not in order
    assert order.index(v2.RandomResizedCrop) < order.index(v2.AutoAugment) < order.index(v2.Normalize)


def test_auto_augment_of_cifar_has_its_policy(cifar, monkeypatch):
    seen = []
    monkeypatch.setattr("CyDAS.data.augment.auto_augment", lambda images, policy: seen.append(policy) or images)
    next(cifar(use_aa=True).train_batches(range(40)).epoch())
    assert seen == [v2.AutoAugmentPolicy.CIFAR10]
    next(cifar(use_aa=True).test_batches().epoch())
    next(cifar().train_batches(range(40)).epoch())
    assert len(seen) == 1


def test_files_are_augmented_differently_in_each_process_epoch_loader_and_seed(tmp_path):
    def images(epoch=0, rank=0, ranks=1, stream=1, **flags):
        data = folder(tmp_path, Process(rank, ranks, CPU), same=True, **flags)
        return torch.cat([x for x, _ in data.train_batches(range(6), stream=stream).epoch(epoch)])

    seen = [images(), images(1), images(stream=2), images(seed=1), images(rank=1, ranks=2), images(rank=2, ranks=3)]
    flat = [image.numpy().tobytes() for part in seen for image in part]
    assert len(set(flat)) == len(flat) == 24 + 3 + 2
    assert torch.equal(images(1), images(1))


def test_as_many_processes_decode_as_the_flag_says(tmp_path):
    before = set(multiprocessing.active_children())
    counts = []
    for workers in (0, 2):
        batches = folder(tmp_path, workers=workers).train_batches(range(6))
        iterator = batches.epoch(0)
        next(iterator)
        counts.append(len(set(multiprocessing.active_children()) - before))
        list(iterator)
        del batches, iterator
    assert counts == [0, 2]


def test_folders_are_found_where_the_flags_say(tmp_path):
    make_images(tmp_path / "here/imagenet", images=2)
    make_images(tmp_path / "there", images=3)
    data = folder(tmp_path / "here", dataset="imagenet")
    assert (data.train_size, data.test_batches().size) == (4, 4)
    data = folder(tmp_path / "here", dataset="imagenet", train_dir=tmp_path / "there/train")
    assert (data.train_size, data.test_batches().size) == (6, 4)
    data = folder(tmp_path / "here", dataset="imagenet", test_dir=tmp_path / "there/val")
    assert (data.train_size, data.test_batches().size) == (4, 6)


def test_cutout_is_refused_for_folders(tmp_path):
    data = folder(tmp_path, config=RetrainConfig)
    with pytest.raises(CydasError, match="--cutout_length 0"):
        data.train_batches(range(6), cutout_length=16)


def test_a_batch_of_the_training_is_what_an_update_sees(tmp_path):
    data = folder(tmp_path, accum_steps=2, batch_size=2)
    assert [len(y) for _, y in data.train_batches(range(6)).epoch()] == [4, 2]
    assert [len(y) for _, y in data.test_batches().epoch()] == [2, 2, 2]
