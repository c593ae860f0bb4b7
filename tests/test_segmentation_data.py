"""Images with masks: every layout, what is refused before a training starts, and that masks move with their images."""

import json
import re

import numpy as np
import pytest
import torch
from conftest import ROOT
from masked_images import NAMES, classes_seen, draw, make_folder, save
from PIL import Image

from CyDAS.config import SegmentConfig
from CyDAS.data.mask_steps import Padded
from CyDAS.data.masks import Ids
from CyDAS.data.segmentation import load_segmentation
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import parse
from tests.spies import ONE
from tests.two_ranks import run_ranks

PAD = Padded(32, 64)


def config_of(root, *flags):
    arguments = ["--data_dir", str(root), "--workers", "0", "--batch_size", "2", "--crop_size", "64", "64", *flags]
    return parse(SegmentConfig, "", arguments)[0]


def load(root, *flags, **options):
    return load_segmentation(config_of(root, *flags), ONE, PAD, **options)


def epoch(batches, number=0, **options):
    return list(batches.epoch(number, **options))


# -- layouts -----------------------------------------------------------------------------------------------------------


def write(root, image_at, mask_at, to_ids):
    """Two training and one test image at these places, ``{part}`` and ``{name}`` being filled in."""
    for part, names in (("train", ("a", "b")), ("val", ("c",))):
        for number, name in enumerate(names):
            pixels, mask = draw(number)
            save(root / image_at(part, name), pixels)
            save(root / mask_at(part, name), to_ids[mask])


CITY = "aachen"
ADE20K_PARTS = {"train": "training", "val": "validation"}
OWN = (3, 7, 255), (0, 1)  # ids of a class list, and the classes that they are
LAYOUTS = {
    "cityscapes, trainIds": (
        "cityscapes", lambda p, n: f"leftImg8bit/{p}/{CITY}/{n}_leftImg8bit.png",
        lambda p, n: f"gtFine/{p}/{CITY}/{n}_gtFine_labelTrainIds.png", (0, 13, 255), (0, 13),
    ),
    "cityscapes, raw ids": (
        "cityscapes", lambda p, n: f"leftImg8bit/{p}/{CITY}/{n}_leftImg8bit.png",
        lambda p, n: f"gtFine/{p}/{CITY}/{n}_gtFine_labelIds.png", (7, 26, 4), (0, 13),
    ),
    "ade20k": (
        "ade20k", lambda p, n: f"images/{ADE20K_PARTS[p]}/{n}.jpg",
        lambda p, n: f"annotations/{ADE20K_PARTS[p]}/{n}.png", (1, 150, 0), (0, 149),
    ),
    "parts above": ("folder", lambda p, n: f"{p}/images/{n}.jpg", lambda p, n: f"{p}/masks/{n}.png", *OWN),
    "parts below": ("folder", lambda p, n: f"images/{p}/{n}.jpg", lambda p, n: f"masks/{p}/{n}.png", *OWN),
    "as CamVid": ("folder", lambda p, n: f"{p}/{n}.png", lambda p, n: f"{p}annot/{n}.png", *OWN),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_finds_its_masks_and_means_its_ids(name, tmp_path):
    dataset, image_at, mask_at, ids, classes = LAYOUTS[name]
    write(tmp_path, image_at, mask_at, np.array(ids, dtype=np.uint8))
    if dataset == "folder":
        (tmp_path / "classes.txt").write_text("3 first\n7 second\n")
    data = load(tmp_path, "--dataset", dataset)
    assert [len(data.parts[part]) for part in ("train", "test")] == [2, 1]
    assert data.n_classes == {"cityscapes": 19, "ade20k": 150, "folder": 2}[dataset]
    for part in ("train", "test"):
        for index in range(len(data.parts[part])):
            mask = draw(index)[1]
            (_, found), _ = data.parts[part][index]
            assert np.array_equal(found, np.array([*classes, 255])[mask])


def test_images_without_parts_are_parted_and_every_form_of_a_class_list_is_read(tmp_path):
    for number in range(10):
        pixels, mask = draw(number)
        save(tmp_path / "images" / f"{number}.jpg", pixels)
        save(tmp_path / "masks" / f"{number}.png", mask)
    lists = {
        "classes.txt": "red\ngreen\n\nblue\n",
        "numbered.txt": "# id name\n0 red\n1 green\n2 blue\n",
        "c.json": json.dumps({"2": "blue", "0": "red", "1": "green"}),
        "l.json": json.dumps(NAMES),
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        data = load(tmp_path, "--classes", str(tmp_path / name))
        assert data.classes == list(NAMES)
        names = [[pair.name for pair in data.parts[part].pairs] for part in ("train", "test")]
        assert names[1] == ["4.jpg", "9.jpg"] and len(names[0]) == 8 and not set(names[0]) & set(names[1])
        assert any("every 5th image is for tests, 2 of 10" in line for line in data.report("train"))
    assert load(tmp_path, "--void_ids", "1").classes == ["red", "blue"]


# -- what is refused, before a training starts -------------------------------------------------------------------------


def spoil(root, what):
    masks = root / "train" / "masks"
    if what == "size":
        save(masks / "3.png", draw(0, 64, 81)[1])
    elif what == "id":
        save(masks / "3.png", np.full((64, 80), 9, dtype=np.uint8))
    elif what == "colour":
        save(masks / "3.png", draw(0)[0])
    elif what == "damaged":
        (masks / "3.png").write_bytes((masks / "3.png").read_bytes()[:60])
    elif what == "missing":
        (masks / "3.png").unlink()
    elif what == "twice":
        save(masks / "3.tif", draw(0)[1])
    elif what == "no list":
        (root / "classes.txt").unlink()
    elif what == "one name twice":
        (root / "classes.txt").write_text("0 red\n1 red\n2 blue\n")
    elif what == "void class":
        (root / "classes.txt").write_text("0 red\n1 green\n255 rest\n")
    elif what == "all void":
        for mask in masks.iterdir():
            save(mask, np.full((64, 80), 255, dtype=np.uint8))


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("size", r"the mask \S*train/masks/3.png has 81 x 64 pixels, its image \S*images/3.png has 80 x 64"),
        ("id", r"the mask \S*3.png has pixels of id 9, neither of a class nor void in class list \S*classes.txt"),
        ("colour", r"3.png: a mask has one whole number for every pixel \(grey or with a palette\), not RGB"),
        ("damaged", r"cannot read the image \S*train/masks/3.png"),
        ("missing", r"3.png have no mask of the same name"),
        ("twice", r"3.png and 3.tif are two masks of one image"),
        ("no list", r"there is no class list \S*classes.txt: write one"),
        ("one name twice", r"the name red stands in it twice"),
        ("void class", r"the mask \S*.png has pixels of id 2"),
        ("all void", r"all pixels of the training masks are void"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_before_the_training(what, says, tmp_path):
    root = make_folder(tmp_path)
    spoil(root, what)
    with pytest.raises(CydasError, match=says):
        load(root)


def test_what_is_no_data_set_is_refused(tmp_path):
    for flags, says in (
        (("--dataset", "cityscapes"), "there is no folder"),
        (("--dataset", "ade20k", "--void_ids", "3"), "leave them out"),
        ((), "has neither images/ and masks/"),
    ):
        with pytest.raises(CydasError, match=says):
            load(tmp_path, *flags)
    for flag in (("--crop_size", "64", "65"), ("--crop_size", "64"), ("--window", "32", "64"), ("--short_sides", "0")):
        with pytest.raises(CydasError, match=flag[0]):
            config_of(tmp_path, *flag)


def test_masks_that_were_not_looked_at_are_refused_when_their_turn_comes(tmp_path):
    root = make_folder(tmp_path)
    spoil(root, "id")
    data = load(root, "--no-check_masks")
    with pytest.raises(CydasError, match="id 9"):
        epoch(data.train_batches(range(6)))


def test_damaged_images_are_left_out_as_far_as_they_may_be(tmp_path):
    root = make_folder(tmp_path)
    (root / "train" / "images" / "3.png").write_bytes(b"no image")
    with pytest.raises(CydasError, match="cannot read the image .*train/images/3.png.*--max_bad_images"):
        epoch(load(root).train_batches(range(6)))
    sizes = [len(images) for images, _ in epoch(load(root, "--max_bad_images", "1").train_batches(range(6)))]
    assert sizes == [2, 2, 2]  # another one takes its place


def test_a_bad_mask_in_one_process_ends_all(tmp_path):
    root = make_folder(tmp_path)
    spoil(root, "id")
    errors = run_ranks(lambda process: load_segmentation(config_of(root), process, PAD))
    assert [re.search(r"3.png has pixels of id 9", str(error)) is not None for error in errors] == [True, True]
    spoil(root, "missing")
    (root / "train" / "images" / "3.png").unlink()
    both = run_ranks(lambda process: load_segmentation(config_of(root), process, PAD).parts["train"].counts)
    assert np.array_equal(*both) and np.array_equal(both[0], load(root).parts["train"].counts)
    assert (both[0].sum(axis=1) == 64 * 80).all()


# -- samples -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--short_sides", "60", "64", "100", "--long_side", "110")])
def test_masks_move_with_their_images(tmp_path, flags):
    """A pixel looks like its class wherever resizing, cutting and mirroring have put it, but for the edges."""
    data = load(make_folder(tmp_path), *flags)
    batches = data.train_batches(range(6))
    seen = set()
    for number in range(4):
        for images, masks in epoch(batches, number):
            assert images.shape == (2, 3, 64, 64) and masks.shape == (2, 64, 64) and masks.dtype == torch.int64
            for image, mask in zip(images, masks, strict=True):
                known = mask != 255
                assert (classes_seen(image) == mask)[known].float().mean() > 0.95
                assert (image.permute(1, 2, 0)[~known] == 0).all()  # void is where the image did not reach
                seen.add(tuple(mask.flatten().tolist()))
    assert len(seen) > 20


def test_a_test_has_whole_images_and_a_reduced_one_on_request(tmp_path):
    root = make_folder(tmp_path, height=70, width=90)
    ((images, masks), _) = epoch(load(root).test_batches())
    assert images.shape == (1, 3, 96, 96) and (masks[0, 70:] == 255).all() and (masks[0, :, 90:] == 255).all()
    assert np.array_equal(masks[0, :70, :90], draw(1, 70, 90)[1])
    (_, masks), _ = epoch(load(root, "--test_long_side", "180").test_batches())
    assert masks.shape == (1, 160, 192) and (masks[0, 140:] == 255).all() and (masks[0, :140, :180] != 255).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (100, 4000), (4000, 100), (3, 64)])
def test_images_of_any_shape_are_trained_on_and_tested(tmp_path, height, width):
    root = make_folder(tmp_path, train=2, test=1, height=height, width=width)
    for flags in ((), ("--short_sides", "128", "--long_side", "512")):
        data = load(root, *flags)
        ((images, masks),) = epoch(data.train_batches(range(2)))
        assert images.shape == (2, 3, 64, 64) and (masks != 255).any() and images.isfinite().all()
        ((images, masks),) = epoch(data.test_batches())
        assert (masks != 255).sum() == height * width and images.shape[-1] % 32 == images.shape[-2] % 32 == 0
    if height == 100:
        with pytest.raises(CydasError, match="too narrow"):
            epoch(load(root, "--short_sides", "4096").train_batches(range(2)))


def test_batches_follow_from_seed_epoch_and_place_alone(tmp_path):
    root = make_folder(tmp_path)
    batches = load(root).train_batches(range(6), stream=3)
    whole = epoch(batches, 1)
    epoch(batches, 0)
    torch.manual_seed(5)
    again = epoch(load(root, "--workers", "1").train_batches(range(6), stream=3), 1, start=1)
    for (images, masks), (others, other_masks) in zip(whole[1:], again, strict=True):
        assert torch.equal(images, others) and torch.equal(masks, other_masks)
    for other in (epoch(batches, 2), epoch(load(root, "--seed", "1").train_batches(range(6), stream=3), 1)):
        assert not torch.equal(whole[0][0], other[0][0])


def test_a_mask_may_have_a_palette_or_ids_of_16_bits(tmp_path):
    root = make_folder(tmp_path)
    mask = draw(0)[1]
    picture = Image.fromarray(mask, "P")
    picture.putpalette([9, 8, 7] * 256)
    picture.save(root / "train" / "masks" / "0.png")
    save(root / "train" / "masks" / "1.png", draw(10)[1].astype(np.uint16))
    data = load(root)
    for index in (0, 1):
        assert np.array_equal(data.parts["train"][index][0][1], draw(10 * index)[1])
    ids = Ids(["a", "b"], [3, 40_000], [255], "here")
    classes = np.array([[0, 1], [1, 0]], dtype=np.uint8)
    assert ids.ids_of(classes).tolist() == [[3, 40_000], [40_000, 3]]
    assert np.array_equal(ids.classes_in(ids.ids_of(classes), "m"), classes)


def test_the_record_tells_other_images_and_other_classes(tmp_path):
    record = load(make_folder(tmp_path / "a")).record()
    assert load(make_folder(tmp_path / "b")).record() == record
    assert load(make_folder(tmp_path / "c", train=5)).record()["train_digest"] != record["train_digest"]
    with pytest.raises(CydasError, match="was trained on sky"):
        load(tmp_path / "a", recorded=record | {"classes": ["sky", "sea"]})


def test_what_the_masks_hold_is_said(tmp_path):
    root = make_folder(tmp_path)
    save(root / "train" / "masks" / "2.png", np.full((64, 80), 255, dtype=np.uint8))
    (root / "classes.txt").write_text("0 red\n1 green\n2 blue\n3 grey\n")
    lines = load(root).report("train")
    assert any(line.startswith("train pixels: red ") and "void 16.7 %" in line for line in lines)
    assert "no train pixels of grey" in lines and "1 train masks are all void: 2.png" in lines


CAMVID = ROOT.parent / "shared/data/camvid_mini"


@pytest.mark.skipif(not CAMVID.exists(), reason=f"CamVid's street scenes are not at {CAMVID}")
def test_real_street_scenes_are_read(tmp_path):
    (tmp_path / "classes.txt").write_text("\n".join(f"class{n}" for n in range(11)))
    flags = ["--classes", str(tmp_path / "classes.txt"), "--void_ids", "11", "--workers", "0"]
    config = parse(SegmentConfig, "", ["--data_dir", str(CAMVID), *flags])[0]
    data = load_segmentation(config, Process(0, 1, torch.device("cpu")), PAD)
    assert (data.train_size, len(data.parts["test"])) == (80, 30)
    assert all(counts[:11].all() for counts in [images.counts.sum(axis=0) for images in data.parts.values()])
