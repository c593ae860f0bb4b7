"""Data: augmentation random per image, every image counted, order from the seed alone, clear errors."""

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy

from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.augment import BatchAugmentation, batch_crop, batch_cutout, batch_flip
from CyDAS.data.auto_augment import auto_augment
from CyDAS.data.loaders import seeded_generator
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
ONE = Process(0, 1, CPU)


def numbered(n=64, size=8):
    """Images whose every pixel has a different value, so that a pixel's origin can be told."""
    return torch.arange(1, size * size + 1, dtype=torch.uint8).view(1, 1, size, size).repeat(n, 3, 1, 1)


def test_crops_are_windows_of_the_padded_image_at_random_places():
    images = numbered()
    cropped = batch_crop(images, 2, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (2,) * 4)
    places = set()
    for original, crop in zip(padded, cropped, strict=True):
        fits = [(y, x) for y in range(5) for x in range(5) if torch.equal(original[:, y : y + 8, x : x + 8], crop)]
        assert len(fits) == 1
        places.add(fits[0])
    assert len(places) > 15


def test_flips_mirror_about_half_of_the_images():
    images = numbered(1000)
    flipped = batch_flip(images, torch.Generator().manual_seed(0))
    mirrored = sum(torch.equal(a, b.flip(-1)) for a, b in zip(flipped, images, strict=True))
    same = sum(torch.equal(a, b) for a, b in zip(flipped, images, strict=True))
    assert mirrored + same == 1000 and 430 < mirrored < 570


def test_cutout_blanks_a_square_clipped_at_the_border():
    images = torch.ones(500, 3, 32, 32)
    cut = batch_cutout(images, 16, torch.Generator().manual_seed(0))
    sizes = []
    for image in cut:
        blank = image[0] == 0
        rows, columns = blank.any(1).nonzero(), blank.any(0).nonzero()
        height, width = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert blank.sum() == height * width and max(height, width) <= 16
        assert height == 16 or rows.min() == 0 or rows.max() == 31
        assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])
        sizes.append((height, width))
    assert max(sizes) == (16, 16) and min(h for h, _ in sizes) == 8


def test_batches_are_normalised():
    augmentation = BatchAugmentation(mean=(0.5, 0.25, 0.0), std=(0.5, 1.0, 2.0))
    out = augmentation.normalise(torch.full((1, 3, 2, 2), 255, dtype=torch.uint8))
    assert out[0, :, 0, 0].tolist() == pytest.approx([1.0, 0.75, 0.5])


def test_auto_augment_is_random_per_image_and_repeatable():
    images = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8).repeat(24, 1, 1, 1)
    augmentation = BatchAugmentation((0.5,) * 3, (0.2,) * 3, padding=0, flip=False, auto_augment=True)
    first, again = (augmentation.train(images, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    assert len({image.numpy().tobytes() for image in first}) > 10


@pytest.mark.parametrize("policy", list(AutoAugmentPolicy))
def test_auto_augment_of_a_batch_is_torchvisions_of_every_image(policy):
    images = torch.randint(0, 256, (60, 3, 17, 24), dtype=torch.uint8)
    before = images.clone()
    torch.manual_seed(5)
    found = auto_augment(images, policy)
    torch.manual_seed(5)
    one = AutoAugment(policy)
    assert torch.equal(found, torch.stack([one(image) for image in images]))
    assert torch.equal(images, before) and not torch.equal(found, before)


def digits(process=ONE, **flags):
    return load_data(SearchConfig(dataset="digits", **flags), process)


def test_cluttered_digits_are_scenes_of_the_same_digits():
    plain, scenes = digits(), load_data(SearchConfig(dataset="cluttered"), ONE)
    assert scenes.train_labels.tolist() == plain.train_labels.tolist() * 3
    assert scenes.test_labels.tolist() == plain.test_labels.tolist() * 3
    assert scenes._train.shape == (4314, 3, 24, 24) and scenes._train.dtype == torch.uint8
    again = load_data(SearchConfig(dataset="cluttered"), ONE)
    assert torch.equal(again._train, scenes._train) and torch.equal(again._test, scenes._test)
    first, second = scenes._train[:1437], scenes._train[1437:2874]
    assert (first != second).flatten(1).any(dim=1).all()  # no scene of a digit twice
    x, _ = next(scenes.train_batches(range(2000)).epoch())
    assert abs(float(x.mean())) < 0.2 and abs(float(x.std()) - 1) < 0.2  # normalised by their own figures


def test_digits_come_with_the_package():
    data = digits()
    images, labels = next(data.test_batches().epoch())
    assert (data.n_classes, data.image_size, data.train_size) == (10, 16, 1438)
    assert images.shape == (128, 3, 16, 16) and labels.dtype == torch.int64
    assert data.test_batches().size == 359
    train, val = data.halves("index")
    assert (list(train), list(val)) == (list(range(719)), list(range(719, 1438)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_every_test_image_counts_once(world_size):
    labels = []
    for rank in range(world_size):
        batches = digits(Process(rank, world_size, CPU), batch_size=50).test_batches()
        own = [y for _, y in batches.epoch()]
        assert len(own) == len(batches)
        labels += own
    assert len(torch.cat(labels)) == 359
    expected = torch.cat([y for _, y in digits().test_batches().epoch()])
    assert torch.equal(torch.cat(labels).bincount(), expected.bincount())


def test_processes_share_an_epoch_without_overlap():
    parts = [digits(Process(rank, 2, CPU)).train_batches(range(719), stream=1).order(0) for rank in range(2)]
    assert len(parts[0]) == len(parts[1]) == 360
    assert sorted({*parts[0], *parts[1]}) == list(range(719))


def test_an_epoch_follows_from_seed_stream_and_number_alone():
    def first(epoch, **kwargs):
        flags = {key: kwargs[key] for key in kwargs if key == "seed"}
        stream = kwargs.get("stream", 1)
        return next(digits(**flags).train_batches(range(719), stream=stream).epoch(epoch))[0]

    assert torch.equal(first(4), first(4))
    assert not torch.equal(first(4), first(5))
    assert not torch.equal(first(4), first(4, seed=1))
    assert not torch.equal(first(4), first(4, stream=2))
    assert seeded_generator(1, 2).initial_seed() != seeded_generator(2, 1).initial_seed()


def test_a_last_batch_of_one_image_is_left_out_of_training():
    batches = digits(batch_size=8).train_batches(range(17), stream=1)
    assert len(batches) == 2 and [len(y) for _, y in batches.epoch(0)] == [8, 8]
    assert [len(y) for _, y in digits(batch_size=8).train_batches(range(18)).epoch(0)] == [8, 8, 2]
    assert len(list(batches.epoch(0, steps=1))) == 1


def make_folder(root, classes=("cat", "dog"), images=3, size=40):
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in classes:
            (root / part / name).mkdir(parents=True)
            for index in range(images):
                pixels = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.png")
    return root


def folder(root, **flags):
    return load_data(SearchConfig(dataset="folder", data_dir=root, image_size=32, **flags), ONE)


def test_class_folders_are_a_data_set(tmp_path):
    Image.new("L", (20, 30)).save(make_folder(tmp_path) / "train" / "cat" / "grey.png")
    Image.new("RGBA", (20, 30)).save(tmp_path / "train" / "dog" / "alpha.png")
    data = folder(tmp_path, workers=0, batch_size=4)
    assert (data.n_classes, data.train_size, data.image_size) == (2, 8, 32)
    batches = data.train_batches(range(8), stream=1)
    images = torch.cat([x for x, _ in batches.epoch(0)])
    assert images.shape == (8, 3, 32, 32) and images.dtype == torch.float32
    assert [len(y) for _, y in data.test_batches().epoch()] == [4, 2]


def test_augmentation_does_not_depend_on_the_number_of_workers(tmp_path):
    make_folder(tmp_path)
    first, second = (
        torch.cat([x for x, _ in folder(tmp_path, workers=n, batch_size=2).train_batches(range(6)).epoch(1)])
        for n in (0, 2)
    )
    assert torch.equal(first, second)


def test_workers_do_not_move_the_global_generator(tmp_path):
    """Else what is drawn later, the weights of a network, say, would depend on when the workers were started."""
    make_folder(tmp_path)
    before = torch.get_rng_state()
    list(folder(tmp_path, workers=1, batch_size=2).train_batches(range(6)).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_test_needs_no_training_images(tmp_path):
    shutil.rmtree(make_folder(tmp_path) / "train")
    config = SearchConfig(dataset="folder", data_dir=tmp_path, image_size=32, workers=0)
    assert sum(len(y) for _, y in load_data(config, ONE, with_training=False).test_batches().epoch()) == 6


def test_one_training_image_is_too_few():
    with pytest.raises(CydasError, match="1 training images are too few"):
        digits().train_batches(range(1))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(tmp_path, workers):
    bad = make_folder(tmp_path) / "train" / "dog" / "0.png"
    bad.write_bytes(bad.read_bytes()[:100])
    with pytest.raises(CydasError, match="cannot read the image") as error:
        list(folder(tmp_path, workers=workers).train_batches(range(6)).epoch(0))
    assert str(bad) in str(error.value) and "\n" not in str(error.value)


def test_a_program_ends_though_an_error_keeps_its_workers(tmp_path):
    """Workers leave signals to the program, and Python waits for its children when it exits."""
    (make_folder(tmp_path) / "train" / "dog" / "0.png").write_bytes(b"")
    program = f"""
from pathlib import Path
from tests.test_data import folder
batches = folder(Path({str(tmp_path)!r}), workers=1, batch_size=2).train_batches(range(6))
try:
    list(batches.epoch(0))
except Exception as error:
    kept = error
    print("the error:", error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert result.returncode == 0 and "dog/0.png" in result.stdout


def test_damaged_images_are_left_out_up_to_a_number(tmp_path, caplog):
    bad = make_folder(tmp_path) / "train" / "dog" / "0.png"
    bad.write_bytes(b"")
    data = folder(tmp_path, workers=0, batch_size=3, max_bad_images=1)
    batches = data.train_batches(range(6))
    with caplog.at_level("WARNING", logger="CyDAS"):
        for epoch in (0, 1):
            assert sum(len(y) for _, y in batches.epoch(epoch)) == 5
    assert [str(bad) in record.getMessage() for record in caplog.records] == [True]
    (tmp_path / "train" / "cat" / "1.png").write_bytes(b"")
    with pytest.raises(CydasError, match="cannot read the image"):
        list(batches.epoch(2))


def test_images_of_16_bits_keep_their_range(tmp_path):
    make_folder(tmp_path, size=32)
    grey = np.full((32, 32), 32768, dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "val" / "cat" / "0.png")
    Image.new("P", (32, 32)).save(tmp_path / "val" / "cat" / "1.png")
    images = torch.cat([x for x, _ in folder(tmp_path, workers=0).test_batches().epoch()])
    pixel = images[0, 0, 16, 16] * 0.229 + 0.485
    assert float(pixel) == pytest.approx(0.5, abs=0.01) and images.shape == (6, 3, 32, 32)


def test_folders_that_make_no_data_set_are_refused(tmp_path):
    with pytest.raises(CydasError, match="--train_dir: there is no folder"):
        folder(tmp_path)
    make_folder(tmp_path)
    (tmp_path / "train" / "emu").mkdir()
    with pytest.raises(CydasError, match="emu"):
        folder(tmp_path)
    (tmp_path / "train" / "emu").rmdir()
    (tmp_path / "val" / "cat").rename(tmp_path / "val" / "cow")
    with pytest.raises(CydasError, match="differ in their class folders: cat"):
        folder(tmp_path)


@pytest.mark.parametrize(("flag", "value"), [("n_classes", 100), ("input_channels", 1)])
def test_a_flag_that_contradicts_the_data_is_refused(flag, value):
    with pytest.raises(CydasError, match=f"--{flag} {value}: the data set digits has"):
        digits(**{flag: value})
    assert digits(n_classes=10, input_channels=3).n_classes == 10


def test_cifar_that_is_nowhere_says_where_to_put_it(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR10

    def offline(self):
        raise OSError("no network")

    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(CydasError, match="cifar-10-batches-py of cifar-10-python.tar.gz there") as error:
        load_data(SearchConfig(dataset="cifar10", data_dir=tmp_path), ONE)
    assert str(tmp_path) in str(error.value)


def test_the_search_may_cut_every_class_in_two_or_the_set_at_random(tmp_path):
    make_folder(tmp_path, ("a", "b", "c"), images=5)
    data = folder(tmp_path)
    assert data.halves("index") == (range(7), range(7, 15))  # classes lie one after the other
    for split in ("class", "random"):
        train, val = data.halves(split, seed=3)
        assert sorted([*train, *val]) == list(range(15)) and abs(len(train) - len(val)) == 1
    train, val = data.halves("class")
    for part in (train, val):
        assert set(data.train_labels[part].bincount().tolist()) == {2, 3} or len(part) == 15
    assert data.halves("random", seed=3) == data.halves("random", seed=3) != data.halves("random", seed=4)


def make_shards(source, target, per_shard=4):
    """The folder set as tar files of images and class numbers."""
    for part in ("train", "val"):
        (target / part).mkdir(parents=True)
        images = sorted((source / part).glob("*/*.png"))
        names = sorted({image.parent.name for image in images})
        for number in range(0, len(images), per_shard):
            with tarfile.open(target / part / f"{number:03d}.tar", "w") as archive:
                for index, image in enumerate(images[number : number + per_shard]):
                    label = str(names.index(image.parent.name)).encode()
                    for kind, content in (("png", image.read_bytes()), ("cls", label)):
                        member = tarfile.TarInfo(f"{number + index:06d}.{kind}")
                        member.size = len(content)
                        archive.addfile(member, io.BytesIO(content))
    return target


def test_shards_give_the_batches_of_the_folder_they_were_made_of(tmp_path):
    files = folder(make_folder(tmp_path / "files"), workers=0, batch_size=4)
    shards = folder(make_shards(tmp_path / "files", tmp_path / "shards"), workers=2, batch_size=4)
    assert (shards.n_classes, shards.train_size) == (2, 6)
    for one, other in (
        (files.train_batches(range(6)).epoch(1), shards.train_batches(range(6)).epoch(1)),
        (files.test_batches().epoch(), shards.test_batches().epoch()),
    ):
        for (x, y), (same_x, same_y) in zip(one, other, strict=True):
            assert torch.equal(x, same_x) and torch.equal(y, same_y)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda shard: shard.write_bytes(b"nothing"), "no uncompressed tar file"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:700]), "no uncompressed tar file"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[: shard.read_bytes().rindex(b"000001.cls")]), "it ends"),
        (lambda shard: shard.write_bytes(shard.read_bytes().replace(b"000001.cls", b"\xff" * 10)), "is damaged"),
        (lambda shard: tarfile.open(shard, "w").close(), "hold no images"),
        (lambda shard: _write(shard, "1.png", b"x"), "sample 1 has no class"),
        (lambda shard: _write(shard, "1.cls", b"0"), "has a class, but no image"),
        (lambda shard: _write(shard, "1.cls", b"cat"), "no uncompressed tar file of images and classes"),
    ],
)
def test_damaged_shards_are_named(tmp_path, damage, words):
    make_shards(make_folder(tmp_path / "files", images=1), tmp_path / "shards")
    damage(tmp_path / "shards/train/000.tar")
    with pytest.raises(CydasError, match=words):
        folder(tmp_path / "shards")


def _write(shard, name, content):
    with tarfile.open(shard, "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))


def test_a_sample_that_comes_twice_is_named(tmp_path):
    make_shards(make_folder(tmp_path / "files"), tmp_path / "shards")
    shard = tmp_path / "shards/train/000.tar"
    with tarfile.open(shard, "a") as archive:
        archive.addfile(tarfile.TarInfo("000001.png"), io.BytesIO())
    with pytest.raises(CydasError, match="sample 000001 comes twice"):
        folder(tmp_path / "shards")


def test_an_update_of_several_batches_is_one_batch_of_the_loader(tmp_path):
    data = load_data(SearchConfig(batch_size=8, accum_steps=3), ONE)
    assert [len(y) for _, y in data.train_batches(range(50)).epoch()] == [24, 24, 2]
    assert len(next(data.test_batches().epoch())[1]) == 8
