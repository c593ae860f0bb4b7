"""A folder of images: every image once, in torchvision's order, and whatever is not read is counted and named."""

import io
import os
import sys
import tarfile

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.contents import IMAGE_EXTENSIONS
from CyDAS.data.folders import FolderImages, open_folder
from CyDAS.runs.logs import RunLog
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.texts import printable, say
from tests.test_data import ONE

ODD = os.fsdecode(b"\xff")  #: a byte that is no text
TRAIN = "--train_dir"


def write(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (10, 200, 90)).save(path, "PNG")
    return path


def make(root, **counts):
    """Class folders with so many images each."""
    for name, count in counts.items():
        for index in range(count):
            write(root / name / f"{index:03d}.png")
    return root


def read(folder, flag=TRAIN):
    return open_folder(folder, flag, lambda content, name: Image.open(io.BytesIO(content)))


def counts(images):
    return {name: images.targets.count(number) for number, name in enumerate(images.classes)}


def not_read(images):
    return " | ".join(images.not_read.lines("it"))


# -- what is read ----------------------------------------------------------------------------------------------------


def test_images_come_in_the_order_of_torchvisions_image_folder(tmp_path):
    for name in ("b/2.png", "b/10.png", "b/a/1.png", "b/a b/1.png", "b/a/x/0.png", "A/z.png", "A/Z.png", "é/1.png"):
        write(tmp_path / name)
    ours, theirs = read(tmp_path), ImageFolder(str(tmp_path))
    assert (ours.classes, ours.samples, ours.targets) == (theirs.classes, theirs.samples, theirs.targets)
    assert len(ours) == 8 and ours[0][0].size == (8, 8) and ours[7][1] == 2


@pytest.mark.parametrize("ending", [*IMAGE_EXTENSIONS, ".JPG", ".JFIF", ".Png", ".TIFF"])
def test_images_are_known_by_every_ending_of_their_format_in_any_letters(tmp_path, ending):
    make(tmp_path, cat=1, dog=1)
    write(tmp_path / "cat" / f"photo{ending}")
    assert counts(read(tmp_path)) == {"cat": 2, "dog": 1}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cat/.ipynb_checkpoints/000.png", "1 hidden or of the system (cat/.ipynb_checkpoints)"),
        (".git/a.png", "1 hidden or of the system (.git)"),
        ("__MACOSX/cat/000.png", "hidden or of the system (__MACOSX)"),
        ("@eaDir/a.png", "hidden or of the system (@eaDir)"),
        ("cat/._000.png", "hidden or of the system (cat/._000.png)"),
        ("cat/Thumbs.db", "hidden or of the system (cat/Thumbs.db)"),
        ("loose.png", "1 image(s) beside the class folders, so of no class (loose.png)"),
        ("labels.csv", "1 file(s) of other kinds (1 .csv: labels.csv)"),
        ("cat/0.heic", "1 file(s) of other kinds (1 .heic: cat/0.heic)"),
        ("cat/README", "1 file(s) of other kinds (1 without extension: cat/README)"),
    ],
)
def test_what_is_not_read_is_named_with_its_kind(tmp_path, name, words):
    make(tmp_path, cat=2, dog=2)
    write(tmp_path / name)
    images = read(tmp_path)
    assert counts(images) == {"cat": 2, "dog": 2} and words in not_read(images)


def test_many_files_of_other_kinds_are_counted_by_their_endings(tmp_path):
    make(tmp_path, cat=1, dog=1)
    for index in range(31):
        (tmp_path / "cat" / f"{index:02d}.HEIC").touch()
    (tmp_path / "dog/notes.txt").touch()
    assert "32 file(s) of other kinds (31 .heic, 1 .txt: " in not_read(read(tmp_path))
    assert not_read(read(tmp_path)).count("HEIC") == 3


def test_broken_links_and_what_is_no_file_are_named(tmp_path):
    make(tmp_path, cat=1, dog=1)
    (tmp_path / "cat/gone.png").symlink_to("nowhere.png")
    (tmp_path / "cat/self.png").symlink_to("self.png")
    (tmp_path / "emu").symlink_to("nowhere")
    os.mkfifo(tmp_path / "dog/pipe.png")
    images = read(tmp_path)
    assert counts(images) == {"cat": 1, "dog": 1}
    assert "2 broken link(s) (emu, cat/gone.png)" in not_read(images)
    assert "cat/self.png: Too many levels" in not_read(images)
    assert "1 neither file nor folder (dog/pipe.png)" in not_read(images)


def test_folders_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    make(tmp_path, cat=1, dog=1)
    write(tmp_path / "cat/locked/1.png")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    images = read(tmp_path)
    assert counts(images) == {"cat": 1, "dog": 1}
    assert "1 folder(s) that cannot be read (cat/locked: Permission denied)" in not_read(images)
    monkeypatch.setattr(os, "scandir", lambda path: scandir("locked"))
    with pytest.raises(CydasError, match="--train_dir: cannot read the folder .*: Permission denied"):
        FolderImages(tmp_path, TRAIN, None)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["..", "../..", ".", "../../..", "/"])
def test_a_link_that_points_upwards_is_refused_by_its_name(tmp_path, target):
    make(tmp_path / "train", cat=1, dog=1)
    (tmp_path / "train/cat/up").symlink_to(target)
    with pytest.raises(CydasError, match="--train_dir: the link .*cat/up points upwards, to /"):
        read(tmp_path / "train")


def test_a_circle_through_two_links_is_refused(tmp_path):
    make(tmp_path / "train", cat=1, dog=1)
    write(tmp_path / "other/1.png")
    (tmp_path / "train/cat/more").symlink_to(tmp_path / "other")
    (tmp_path / "other/back").symlink_to(tmp_path / "train/cat")
    with pytest.raises(CydasError, match="cat and .*cat/more/back are the same folder by a link"):
        read(tmp_path / "train")


@pytest.mark.parametrize(
    ("link", "target", "what"),
    [
        ("zebra", "cat", "folder"), ("alias", "dog", "folder"), ("cat/more", "../dog/sub", "folder"),
        ("cat/9.png", "../dog/000.png", "image"), ("dog/9.png", "000.png", "image"),
    ],
)  # fmt: skip
def test_images_that_links_would_count_twice_are_refused(tmp_path, link, target, what):
    make(tmp_path, cat=1, dog=1)
    write(tmp_path / "dog/sub/1.png")
    (tmp_path / link).symlink_to(target)
    with pytest.raises(CydasError, match=f"are the same {what} by a link, so that it would count twice"):
        read(tmp_path)


def test_two_links_to_one_image_are_refused(tmp_path):
    make(tmp_path / "set", cat=1, dog=1)
    write(tmp_path / "pool/1.png")
    for name in ("cat", "dog"):
        (tmp_path / "set" / name / "1.png").symlink_to(tmp_path / "pool/1.png")
    with pytest.raises(CydasError, match="cat/1.png and .*dog/1.png are the same image by a link"):
        read(tmp_path / "set")


def test_links_to_images_and_folders_elsewhere_are_read(tmp_path):
    make(tmp_path / "pool", bird=3, cow=2)
    make(tmp_path / "train", cat=1)
    (tmp_path / "train/bird").symlink_to(tmp_path / "pool/bird")
    (tmp_path / "train/cat/cow").symlink_to(tmp_path / "pool/cow")
    write(tmp_path / "elsewhere.png")
    (tmp_path / "train/cat/9.png").symlink_to(tmp_path / "elsewhere.png")
    assert counts(read(tmp_path / "train")) == {"bird": 3, "cat": 4}
    (tmp_path / "linked").symlink_to(tmp_path / "train")
    assert counts(read(tmp_path / "linked")) == {"bird": 3, "cat": 4}


@pytest.mark.parametrize(
    ("names", "hint"),
    [
        (("train/cat", "train/dog", "val/cat", "val/dog"), "train meant"),
        (("Training/cat", "Test/cat"), "Training meant"),
        (("train/cat", "train/dog"), "train meant"),
        (("train/cat", "val/cat", "extra"), "train meant"),
        (("images/cat", "images/dog"), "images meant"),
        (("a/b/cat", "a/b/dog"), "a/b meant"),
    ],
)
def test_a_folder_one_level_too_high_is_refused_with_the_one_that_is_meant(tmp_path, names, hint):
    make(tmp_path, **dict.fromkeys(names, 1))
    with pytest.raises(CydasError, match=f"is --train_dir {tmp_path}/{hint}"):
        read(tmp_path).check_training()


def test_the_part_that_a_test_means_is_another(tmp_path):
    make(tmp_path, **{"train/cat": 1, "val/cat": 1})
    with pytest.raises(CydasError, match="is --test_dir .*/val meant"):
        read(tmp_path, "--test_dir")


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (("train", "plane", "car"), ["car", "plane", "train"]),
        (("train/steam", "plane"), ["plane", "train"]),
        (("train", "test"), ["test", "train"]),
        (("cat/indoor", "cat/outdoor", "dog/indoor"), ["cat", "dog"]),
    ],
)
def test_classes_that_are_only_called_like_parts_are_read(tmp_path, names, classes):
    images = read(make(tmp_path, **dict.fromkeys(names, 1)))
    images.check_training()
    assert images.classes == classes


def test_a_single_class_and_a_class_without_images_are_refused_for_training(tmp_path):
    make(tmp_path / "one", cat=2)
    make(tmp_path / "two", cat=2, dog=1)
    (tmp_path / "two/dog/000.png").rename(tmp_path / "two/dog/000.heic")
    (tmp_path / "two/emu").mkdir()
    with pytest.raises(CydasError, match="holds a single class, cat$"):
        read(tmp_path / "one").check_training()
    with pytest.raises(CydasError, match=r"class folder\(s\) dog, emu: .*\.heic: dog/000.heic"):
        read(tmp_path / "two").check_training()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "holds no folders of images"),
        (("1.png", "2.png"), r"its 2 images lie in none: is its parent /.* meant\?"),
        (("set.tar.gz",), r"1 \.gz: set.tar.gz"),
        (("cat/1.heic",), r"1 \.heic: cat/1.heic"),
        ((".hidden/1.png",), r"hidden or of the system \(.hidden\)"),
    ],
)
def test_a_folder_without_images_says_what_it_holds(tmp_path, names, words):
    for name in names:
        write(tmp_path / name)
    with pytest.raises(CydasError, match=words):
        read(tmp_path)


# -- tar shards ------------------------------------------------------------------------------------------------------


def write_shard(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    png = io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            content = png.getvalue() if content is None else content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def shard(*labels, **more):
    members = {}
    for index, label in enumerate(labels):
        members |= {f"{index:03d}.png": None, f"{index:03d}.cls": str(label).encode()}
    return members | more


def test_members_that_are_not_read_are_named(tmp_path):
    more = {"000.json": b"{}", "000.seg.png": b"x", "._000.png": b"x", "__MACOSX/000.png": b"x", ".DS_Store": b""}
    write_shard(tmp_path / "0.tar", shard(0, 7, **more))
    (tmp_path / "index.txt").touch()
    (tmp_path / "._0.tar").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    images = read(tmp_path)
    assert counts(images) == {"0": 1, "7": 1}
    assert (
        "3 file(s) of other kinds (1 .txt, 1 .json, 1 .png: index.txt, 0.tar/000.json, 0.tar/000.seg.png)"
        in not_read(images)
    )
    assert "5 hidden or of the system" in not_read(images) and images[1][0].size == (8, 8)


@pytest.mark.parametrize("label", ["1_0", "+1", "-1", "1.0", "", "dog", "\u0663"])
def test_a_class_number_is_digits(tmp_path, label):
    write_shard(tmp_path / "a.tar", shard(0, label))
    with pytest.raises(CydasError, match=r"a\.tar is no uncompressed tar file of images and classes: "):
        read(tmp_path)


def test_shards_of_a_single_class_or_twice_the_same_are_refused(tmp_path):
    write_shard(tmp_path / "a.tar", shard(3, 3))
    with pytest.raises(CydasError, match="--train_dir .* holds a single class, 3$"):
        read(tmp_path).check_training()
    (tmp_path / "b.tar").symlink_to("a.tar")
    with pytest.raises(CydasError, match="a.tar and .*b.tar are the same file by a link"):
        read(tmp_path)


# -- the report ------------------------------------------------------------------------------------------------------


def load(root, **flags):
    flags = {"image_size": 8, "workers": 0, "data_dir": root} | flags
    return load_data(SearchConfig(dataset="folder", **flags), ONE)


def test_the_report_counts_classes_and_tells_sizes(tmp_path):
    make(tmp_path / "train", cat=3, dog=2)
    make(tmp_path / "val", cat=1, dog=1)
    write(tmp_path / "val/dog/big.png", (40, 20))
    write(tmp_path / "train/cat/x.heic")
    lines = load(tmp_path).report("train", "test")
    assert lines == [
        f"{tmp_path}/train: 5 train images, 2 classes: cat 3, dog 2",
        "sizes of a sample of 5: 8 x 8 pixels",
        f"not read in {tmp_path}/train: 1 file(s) of other kinds (1 .heic: cat/x.heic)",
        f"{tmp_path}/val: 3 test images, 2 classes: cat 1, dog 2",
        "sizes of a sample of 3: 8 x 8 to 40 x 20 pixels",
    ]


def test_of_many_classes_the_report_names_the_smallest(tmp_path):
    make(tmp_path / "train", **{f"c{number:02d}": 1 + number % 3 for number in range(20)})
    make(tmp_path / "val", c01=1, c02=1)
    train, _, test, missing, _ = load(tmp_path).report("train", "test")
    assert "20 classes: 1 to 3 images each, median 2; the smallest: c00 1, c03 1, c06 1, c09 1, c12 1" in train
    assert "2 test images, 2 of 20 classes: c01 1, c02 1" in test
    assert missing == "no test images of c00, c03, c04, c05, c06 and 13 more"


def test_a_data_set_to_train_on_has_two_classes_and_images_of_each(tmp_path):
    make(tmp_path / "train", cat=2)
    make(tmp_path / "val", cat=2)
    with pytest.raises(CydasError, match="--train_dir .* holds a single class, cat"):
        load(tmp_path)
    (tmp_path / "train/dog").mkdir()
    with pytest.raises(CydasError, match=r"no images in the class folder\(s\) dog"):
        load(tmp_path)


def test_training_on_the_test_images_is_said(tmp_path):
    make(tmp_path / "train", cat=1, dog=1)
    (tmp_path / "val").symlink_to("train")
    assert "training and test images are the same" in load(tmp_path).report("train", "test")[-1]


def test_processes_that_find_other_images_are_told(tmp_path, monkeypatch):
    from CyDAS.data import dataset

    make(tmp_path / "train", cat=2, dog=2)
    make(tmp_path / "val", cat=2, dog=2)
    config = SearchConfig(dataset="folder", data_dir=tmp_path, image_size=8)
    monkeypatch.setattr(dataset, "gather", lambda value: [value, "another"])
    with pytest.raises(CydasError, match="the processes find different training images"):
        load_data(config, Process(0, 2, ONE.device))


# -- names that are no text ------------------------------------------------------------------------------------------


def test_text_for_people_is_one_line_that_can_be_shown():
    assert printable(f"a{ODD}b\nc\x1b[31m\u202e é 中") == r"a\xffb\nc\x1b[31m\u202e é 中"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_log_line_is_never_lost(tmp_path, monkeypatch, encoding):
    console = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", console)
    log = RunLog(tmp_path)
    log.warning("cannot read %s", tmp_path / f"é中{ODD}\n\x1b[2J.png")
    log.close()
    assert (tmp_path / "run.log").read_text(encoding="utf-8").endswith("é中\\xff\\n\\x1b[2J.png\n")
    shown = console.buffer.getvalue().decode(encoding)
    assert shown.endswith("\\xff\\n\\x1b[2J.png\n") and shown.count("\n") == 1


def test_a_terminal_that_has_gone_costs_the_log_nothing(tmp_path, monkeypatch):
    log = RunLog(tmp_path)
    for gone in (None, open("/dev/full", "w")):
        monkeypatch.setattr(sys, "stdout", gone)
        log.info("still here")
    monkeypatch.undo()
    log.close()
    assert (tmp_path / "run.log").read_text().count("still here") == 2


def test_an_error_is_one_line_whatever_names_are_in_it(monkeypatch):
    errors, output = (io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(2))
    monkeypatch.setattr(sys, "stderr", errors)
    monkeypatch.setattr(sys, "stdout", output)

    def main(arguments):
        print("±")
        raise CydasError(f"no file {ODD}\n\x1b[31m中.png")

    with pytest.raises(SystemExit):
        run_program(main)
    for stream in (errors, output):
        stream.flush()
    assert errors.buffer.getvalue() == b"error: no file \\xff\\n\\x1b[31m\\u4e2d.png\n"
    assert output.buffer.getvalue() == b"\\xb1\n"


def test_what_is_said_fits_the_terminal(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    say(f"{ODD}é", terminal)
    assert terminal.buffer.getvalue() == b"\\xff\\xe9\n"
