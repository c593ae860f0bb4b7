"""What is in a folder of images is counted right, and what is wrong with it is said before a training."""

import numpy as np
import pytest
from PIL import Image

from CyDAS.check_data import main as check
from CyDAS.data.inspection import contact_sheet, in_both, inspect
from CyDAS.utils.errors import CydasError


def save(path, value, size=(10, 6), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two parts: one image twice in the training part, one in both parts, one broken, one grey, one of 16 bits."""
    root = tmp_path / "set"
    for number in range(3):
        save(root / f"train/a/{number}.png", (number, 0, 0))
    save(root / "train/a/again.png", (0, 0, 0))
    save(root / "train/b/grey.png", 128, mode="L")
    (root / "train/b/broken.png").write_bytes(b"\x89PNG nothing")
    Image.fromarray(np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000).save(root / "train/b/deep.png")
    save(root / "val/a/x.png", (2, 0, 0))
    save(root / "val/b/y.png", (9, 9, 9), size=(4, 4))
    return root


def test_everything_is_counted(folder):
    train, test = inspect(folder)
    assert train.counts == {"a": 4, "b": 2} and test.counts == {"a": 1, "b": 1}
    assert train.kinds["PNG RGB"] == 4 and train.kinds["PNG L"] == 1 and sum(train.kinds.values()) == 6
    assert train.sizes == {(10, 6): 6} and test.sizes == {(10, 6): 1, (4, 4): 1}
    assert len(train.broken) == 1 and "broken.png" in train.broken[0]
    assert [sorted(names) for names in train.digests.values() if len(names) > 1] == [["a/0.png", "a/again.png"]]
    assert in_both([train, test]) == [("a/2.png", "a/x.png")]


def test_mean_and_deviation_are_of_all_pixels(folder):
    _, test = inspect(folder)
    values = np.concatenate([np.full(60, 2.0), np.full(16, 9.0)]) / 255
    assert test.mean[0] == pytest.approx(values.mean()) and test.std[0] == pytest.approx(values.std())
    assert test.mean[1] == pytest.approx(16 * 9 / 255 / 76)


def test_the_program_says_it_and_writes_a_page(folder, tmp_path, capsys):
    check([str(folder), "--output", str(tmp_path / "page")])
    out = capsys.readouterr().out
    assert "training images: 6 images of 2 classes" in out and "warning: 1 training images are test images, too" in out
    assert "1 images are there more than once, first: a/0.png = a/again.png" in out and "damaged: " in out
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64") == 2 and "damaged: " in page
    assert (tmp_path / "page_pictures/training_images.png").exists()


def test_one_folder_of_classes_is_one_part(folder, capsys):
    check([str(folder / "train")])
    assert "--test_share 0.2 keeps a fifth of every class" in capsys.readouterr().out
    check([str(folder / "train"), "--test_dir", str(folder / "val")])
    out = capsys.readouterr().out
    assert "test images: 2 images" in out and "--test_share" not in out


def test_the_contact_sheet_has_a_row_for_each_class(folder):
    import io

    train, _ = inspect(folder)
    sheet = Image.open(io.BytesIO(contact_sheet(train)))
    assert sheet.size == (8 * 76, 2 * 76)
    assert sheet.getpixel((40, 40)) == (0, 0, 0) and sheet.getpixel((8 * 76 - 5, 40)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_what_is_no_set_of_images_is_an_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CydasError, match=name):
        inspect(tmp_path / name)
