"""Images with boxes: what a file in COCO's format may hold, and how images and boxes reach the network."""

import json

import numpy as np
import pytest
import torch
from coco_files import SCENES, write_part
from PIL import Image
from spies import ONE

from CyDAS.config import DetectConfig
from CyDAS.data.boxes import PrepareScene, collate, learnable, padded, resized
from CyDAS.data.coco import Annotations
from CyDAS.data.loaders import BadImages
from CyDAS.data.scenes import SceneBatches, Scenes, load_scenes
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError


def config(folder, **flags):
    paths = {f"{part}_{kind}": folder / f"{part}{end}" for part in ("train", "test")
             for kind, end in (("json", ".json"), ("dir", ""))}  # fmt: skip
    return DetectConfig(**paths, **{"short_side": 64, "long_side": 96, "workers": 0, "lr_epochs": [8, 11]} | flags)


@pytest.fixture
def folder(tmp_path):
    for part in ("train", "test"):
        write_part(tmp_path, part)
    return tmp_path


# -- files -------------------------------------------------------------------------------------------------------------


def test_categories_are_numbered_by_their_ids_and_boxes_are_corners(folder):
    annotations = Annotations(folder / "train.json", folder / "train")
    assert (annotations.classes, annotations.category_ids) == (["red", "green"], [3, 7])
    first = annotations.scenes[0]
    assert (first.id, first.height, first.width) == (1, 48, 64)
    assert [thing.box for thing in first.objects] == [(8, 8, 32, 32), (36, 10, 56, 40)]
    assert [thing.label for thing in first.objects] == [0, 1] and annotations.scenes[3].objects == ()


def spoil(part, index, **values):
    return lambda content: content[part][index].update(values)


REFUSED = {
    "a category that is not declared": (spoil("annotations", 1, category_id=8), "annotation 2 of .* is of category 8"),
    "an image id twice": (spoil("images", 1, id=1), "id 1 comes twice among the images"),
    "a category id twice": (spoil("categories", 1, id=3), "id 3 comes twice among the categories"),
    "a category name twice": (spoil("categories", 1, name="red"), "the same name: red"),
    "a missing image file": (spoil("images", 2, file_name="gone.png"), "image 3: there is no file .*gone.png"),
    "an annotation of no image": (spoil("annotations", 0, image_id=99), "annotation 1 is of image 99"),
    "a box of three numbers": (spoil("annotations", 0, bbox=[1, 2, 3]), "annotation 1 of image 1: its bbox must be 4"),
    "a box of words": (spoil("annotations", 0, bbox=["a", 2, 3, 4]), "bbox must be 4 finite numbers"),
    "a box of nan": (spoil("annotations", 0, bbox=[float("nan"), 2, 3, 4]), "bbox must be 4 finite numbers"),
    "an id that is no number": (spoil("images", 0, id="x"), "ids that are whole numbers, not 'x'"),
    "an image without pixels": (spoil("images", 0, width=0), "image 1 has 0 x 48 pixels"),
    "an image without a name": (spoil("images", 0, file_name=None), "image 1 has no file_name"),
    "no categories": (lambda content: content.update(categories=[]), "there are no categories"),
    "no images": (lambda content: content.update(images=[], annotations=[]), "there are no images"),
    "no annotations at all": (lambda content: content.pop("annotations"), "its annotations must be a list of dicts"),
    "nothing to learn": (lambda content: content.update(annotations=[]), "no box from which something can be learned"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_in_a_file_is_refused_by_its_name(folder, what):
    change, message = REFUSED[what]
    write_part(folder, "train", change=change)
    with pytest.raises(CydasError, match=f"annotations .*train.json:? .*{message}"):
        load_scenes(config(folder), ONE)


def test_a_file_that_is_none_is_refused(folder):
    (folder / "train.json").write_text("[]")
    with pytest.raises(CydasError, match="a dict of images, annotations and categories is expected"):
        load_scenes(config(folder), ONE)
    (folder / "train.json").write_text("{")
    with pytest.raises(CydasError, match="train.json: not JSON"):
        load_scenes(config(folder), ONE)
    (folder / "train.json").unlink()
    with pytest.raises(CydasError, match="there is no such file"):
        load_scenes(config(folder), ONE)


def test_boxes_that_hold_nothing_are_left_out_and_counted(folder):
    def change(content):
        boxes = ([5, 5, 0, 9], [5, 5, 9, -2], [70, 5, 9, 9], [-20, 5, 9, 9], [-5, -5, 20, 20], [60, 40, 99, 99])
        content["annotations"] = [
            {"id": number, "image_id": 1, "category_id": 3, "bbox": box} for number, box in enumerate(boxes, start=1)
        ]

    write_part(folder, "train", change=change)
    data = load_scenes(config(folder), ONE)
    lines = data.report("train")
    assert "6 train images with 2 boxes of 1 of 2 classes; 0 boxes are crowds, 5 images have none" in lines[0]
    assert [line.split(": ")[1] for line in lines[1:]] == [
        "2 boxes without width or height are left out", "2 boxes outside their image are left out"
    ]  # fmt: skip
    boxes, labels = learnable(Annotations(folder / "train.json", folder / "train").scenes[0])
    assert boxes.tolist() == [[0, 0, 15, 15], [60, 40, 64, 48]] and labels.tolist() == [0, 0]


def test_nothing_is_learned_from_crowds_and_slivers(folder):
    def change(content):
        content["annotations"][0].update(iscrowd=1)
        content["annotations"][1].update(bbox=[36, 10, 0.5, 30])

    write_part(folder, "train", change=change)
    scene = Annotations(folder / "train.json", folder / "train").scenes[0]
    assert [thing.is_crowd for thing in scene.objects] == [True, False]
    assert len(learnable(scene)[0]) == 0


def test_sizes_that_a_file_does_not_say_are_those_of_the_images(folder):
    def change(content):
        for image in content["images"]:
            del image["width"], image["height"]

    write_part(folder, "train", change=change)
    scenes = Annotations(folder / "train.json", folder / "train").scenes
    assert [(scene.width, scene.height) for scene in scenes] == [size for size, _ in SCENES]


def test_the_test_parts_classes_are_found_by_name(folder):
    def other_order(content):
        content["categories"] = [{"id": 1, "name": "green"}, {"id": 2, "name": "red"}, {"id": 5, "name": "unused"}]
        for annotation in content["annotations"]:
            annotation["category_id"] = {3: 2, 7: 1}[annotation["category_id"]]

    write_part(folder, "test", change=other_order)
    data = load_scenes(config(folder), ONE)
    assert data.classes == ["red", "green"] and data.category_ids == [3, 7]
    assert [thing.label for thing in data.test_scenes[0].objects] == [0, 1]

    def unknown(content):
        content["categories"][0]["name"] = "blue"

    write_part(folder, "test", change=unknown)
    with pytest.raises(CydasError, match="test.json has images of classes that the network was not trained on: blue"):
        load_scenes(config(folder), ONE)


def test_an_image_of_another_size_than_its_annotations_say_is_damaged(folder):
    write_part(folder, "train", change=spoil("images", 1, width=50))
    data = load_scenes(config(folder), ONE)
    with pytest.raises(CydasError, match="2.png: it has 48 x 64 pixels, its annotations say 50 x 64. --max_bad_images"):
        list(data.train_batches(range(6)).epoch())
    data = load_scenes(config(folder, max_bad_images=1), ONE)
    images = [target["id"] for _, targets in data.train_batches(range(6)).epoch() for target in targets]
    assert len(images) == 6 and 2 not in images  # another one in its place: batch norm needs two


def test_a_changed_box_makes_other_data(folder):
    before = load_scenes(config(folder), ONE).record()
    write_part(folder, "train", change=spoil("annotations", 0, bbox=[8, 8, 24, 25]))
    after = load_scenes(config(folder), ONE).record()
    assert {key for key in before if before[key] != after[key]} == {"train_digest"}
    assert before["train_of_class"] == [3, 4] and json.dumps(before)


# -- what the network gets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (800, 1067)), ((100, 4000), (33, 1333)), ((1, 1), (800, 800)), ((1, 5000), (1, 1333))],
)
def test_images_are_resized_within_both_sides(size, expected):
    assert resized(size, 800, 1333) == expected
    assert padded(expected) == tuple(-(-side // 32) * 32 for side in expected)


@pytest.mark.parametrize("size", [(1, 1), (4000, 100), (100, 4000), (33, 65)])
def test_images_of_any_size_become_batches(folder, size):
    write_part(folder, "train", [(size, [(3, 0, 0, size[0], size[1])]), *SCENES])
    data = load_scenes(config(folder, short_side=64, long_side=96), ONE)
    seen = {}
    for images, targets in data.train_batches(range(data.train_size)).epoch():
        assert images.shape[2] % 32 == images.shape[3] % 32 == 0 and images.isfinite().all()
        seen |= {target["id"]: target for target in targets}
    boxes, (height, width) = seen[1]["boxes"], seen[1]["size"]
    assert boxes.tolist() == [[0, 0, width, height]] and max(height, width) <= 96 and min(height, width) <= 64


def test_boxes_move_with_their_image(folder):
    """In every image, mirrored or not, the pixels in a box have its category's colour."""
    data = load_scenes(config(folder, short_side=96, long_side=128), ONE)
    mirrored = set()
    for epoch in range(6):
        for images, targets in data.train_batches(range(6)).epoch(epoch):
            for image, target in zip(images, targets, strict=True):
                for (left, top, right, bottom), label in zip(
                    target["boxes"].round().int().tolist(), target["labels"].tolist(), strict=True
                ):
                    inner = image[:, top + 3 : bottom - 3, left + 3 : right - 3]
                    assert inner.mean(dim=(1, 2)).argmax() == label  # red is 0, green is 1
                if target["id"] == 1:
                    mirrored.add(target["boxes"][0, 0].item())
                height, width = target["padded"]
                assert not image[:, height:].any() and not image[:, :, width:].any()
    assert mirrored == {16.0, 64.0}


def test_batches_are_of_wide_or_of_tall_images_and_every_image_comes_once(folder):
    scenes = Scenes(Annotations(*write_part(folder, "train", SCENES * 4)))
    wide = [scene.width > scene.height for scene in scenes.scenes]
    for ranks in (1, 2):
        orders = []
        for rank in range(ranks):
            batches = SceneBatches(
                scenes, range(24), PrepareScene(64, 96, True), workers=0, bad_images=BadImages(0), batch_size=4,
                process=Process(rank, ranks, torch.device("cpu")), seed=3, stream=0, train=True,
            )  # fmt: skip
            orders.append(batches.order(epoch=1))
            assert batches.order(1) == orders[-1] and batches.order(2) != orders[-1]
        assert sorted(sum(orders, [])) == list(range(24))
        size = 4
        steps = [sum((order[start : start + size] for order in orders), []) for start in range(0, len(orders[0]), size)]
        mixed = [len({wide[index] for index in step}) > 1 for step in steps]
        assert sum(mixed) <= 1 and not any(mixed[:-2])


def test_an_epoch_that_is_entered_anew_has_the_same_images(folder):
    batches = load_scenes(config(folder), ONE).train_batches(range(6), stream=3)
    whole, rest = list(batches.epoch(1)), list(batches.epoch(1, start=1))
    for (images, targets), (again, own) in zip(whole[1:], rest, strict=True):
        assert torch.equal(images, again) and [t["id"] for t in targets] == [t["id"] for t in own]
        assert all(torch.equal(a["boxes"], b["boxes"]) for a, b in zip(targets, own, strict=True))


def test_a_batch_is_as_large_as_its_largest_image():
    samples = [((torch.ones(3, h, w), {"padded": padded((h, w))}), None) for h, w in ((20, 60), (40, 31))]
    images, targets = collate(samples)
    assert images.shape == (2, 3, 64, 64) and images[0].sum() == 3 * 20 * 60 and len(targets) == 2


def test_tests_see_every_image_alone_and_as_it_is(folder):
    data = load_scenes(config(folder, batch_size=4), ONE)
    batches = list(data.test_batches().epoch())
    assert [[target["id"] for target in targets] for _, targets in batches] == [[n] for n in range(1, 7)]
    own_size = load_scenes(config(folder, short_side=48, long_side=64), ONE)
    images, _ = next(iter(own_size.test_batches().epoch()))
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    stored = torch.from_numpy(np.asarray(Image.open(folder / "test/1.png")).copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(images[0, :, :48, :64] * std + mean, stored)


def test_deep_images_keep_their_levels_and_one_range(folder):
    for number, level in ((1, 4000), (2, 1000)):
        size = Image.open(folder / f"train/{number}.png").size
        Image.fromarray(np.full(size[::-1], level, np.uint16)).save(folder / f"train/{number}.png")
    data = load_scenes(config(folder), ONE)
    assert data.pixel_range == (0.0, 4095.0) and data.record()["pixel_range"] == [0.0, 4095.0]
    assert "2 of 6 training images have more than 8 bits" in data.report("train")[-1]
    seen = {}
    for images, targets in data.train_batches(range(6)).epoch():
        seen |= {target["id"]: image[0, 4, 4].item() for image, target in zip(images, targets, strict=True)}
    assert [seen[number] * 0.229 + 0.485 for number in (1, 2)] == pytest.approx([4000 / 4095, 1000 / 4095], abs=1e-5)
    assert load_scenes(config(folder, pixel_range=[0.0, 8000.0]), ONE).pixel_range == (0.0, 8000.0)
