"""Image files: whatever bytes they hold, a picture comes out or one line that names the file, and no program starts."""

import io
import os
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, PngImagePlugin
from torchvision.transforms import v2

from benchmarks.fuzz_images import good_files, png, try_some
from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.images import FORMATS, MAX_BYTES, MAX_PIXELS, decode, read_bytes
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError

ONE = Process(0, 1, torch.device("cpu"))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\n/x 1 def\nshowpage\n%%EOF\n"


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(size=(24, 20), channels=3):
    return np.random.default_rng(0).integers(0, 256, (size[1], size[0], channels), dtype=np.uint8)


def make_folder(root, images=4):
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for index in range(images):
                Image.fromarray(pixels()).save(root / part / name / f"{index}.png")
    return root


def folder(root, image_size=16, **flags):
    config = SearchConfig(dataset="folder", data_dir=root, image_size=image_size, batch_size=8, **flags)
    return load_data(config, ONE)


@pytest.mark.parametrize("kind", list(good_files()))
def test_mutated_files_are_images_or_errors_that_name_them(kind):
    counts, lost, _ = try_some(kind, range(200))
    assert lost == []
    assert counts["read"] > 5 and counts["refused"] > 50


@pytest.mark.parametrize("kind", list(good_files()))
def test_whole_files_of_every_format_are_read(kind):
    for content in good_files()[kind]:
        picture = decode(content, "image")
        size = picture.pixels.size if isinstance(picture.pixels, Image.Image) else picture.pixels.shape[:0:-1]
        assert tuple(size) == Image.open(io.BytesIO(content)).size


def test_a_postscript_file_named_jpg_starts_no_program(tmp_path, monkeypatch):
    started = []
    for name in ("Popen", "call", "check_call", "run"):
        monkeypatch.setattr(subprocess, name, lambda *a, **b: started.append(a))
    monkeypatch.setattr(os, "system", lambda *a: started.append(a))
    with warnings.catch_warnings(), pytest.raises(OSError):  # what Pillow does by itself; the patches are in its way
        warnings.simplefilter("ignore")
        Image.open(io.BytesIO(EPS)).load()
    assert started
    started.clear()
    path = tmp_path / "x.jpg"
    path.write_bytes(EPS)
    with pytest.raises(CydasError, match=r"x\.jpg: it is no AVIF, .*JPEG"):
        decode(read_bytes(str(path)), str(path))
    assert not started


@pytest.mark.parametrize(
    "magic", [b"%PDF-1.7\n", b"8BPS\0\1", b"\x89HDF\r\n\x1a\n", b"GRIB", b"SIMPLE  =", b"icns", b""]
)
def test_what_is_no_image_format_is_refused(magic):
    assert set(FORMATS) == {"AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "QOI", "TIFF", "WEBP"}
    with pytest.raises(CydasError, match="cannot read the image a.png: it is no"):
        decode(magic + bytes(200), "a.png")


@pytest.mark.parametrize(
    "error",
    [OverflowError("x"), MemoryError(), struct.error("x"), KeyError("x"), IndexError(), ZeroDivisionError(), EOFError(),
     TypeError("two\nlines"), zlib.error("x"), RuntimeError(), SystemError(), AssertionError(), RecursionError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("where", ["open", "load", "convert"])
def test_whatever_a_decoder_raises_is_one_line(error, where, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    target = {"open": (Image, "open"), "load": (ImageFile.ImageFile, "load"), "convert": (Image.Image, "convert")}
    monkeypatch.setattr(*target[where], fail)
    with pytest.raises(CydasError) as raised:
        decode(saved(Image.new("RGB", (9, 9)), "PNG"), "here.png")
    assert str(raised.value).startswith("cannot read the image here.png: ") and str(raised.value).isprintable()
    assert type(error).__name__ in str(raised.value) or "it is no" in str(raised.value) or isinstance(error, OSError)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_decoder_that_fails_in_its_own_way_counts_as_a_bad_image(tmp_path, monkeypatch, workers, caplog):
    make_folder(tmp_path)
    (tmp_path / "train/dog/2.png").write_bytes(saved(Image.new("RGB", (13, 13)), "PNG"))
    load = ImageFile.ImageFile.load

    def fail(image):
        if image.size == (13, 13):
            raise OverflowError("too much")
        return load(image)

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    batches = folder(tmp_path, workers=workers, max_bad_images=1).train_batches(range(8))
    with caplog.at_level("WARNING", logger="CyDAS"):
        assert [sum(len(y) for _, y in batches.epoch(epoch)) for epoch in (0, 1)] == [7, 7]
    assert ["dog/2.png: OverflowError too much" in record.getMessage() for record in caplog.records] == [True]
    with pytest.raises(CydasError, match="dog/2.png: OverflowError too much"):
        list(folder(tmp_path, workers=0).train_batches(range(8)).epoch(0))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_on_which_a_transform_fails_is_a_bad_image(tmp_path, workers, monkeypatch, caplog):
    make_folder(tmp_path)
    Image.new("RGB", (1, 60000)).save(tmp_path / "val/cat/2.png")
    forward = v2.RandomHorizontalFlip.forward
    calls = []

    def fail_once(*args):
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError("no pixels")
        return forward(*args)

    monkeypatch.setattr(v2.RandomHorizontalFlip, "forward", fail_once)
    data = folder(tmp_path, 64, workers=workers, max_bad_images=2)
    with caplog.at_level("WARNING", logger="CyDAS"):
        assert sum(len(y) for _, y in data.test_batches().epoch()) == 7
        assert sum(len(y) for _, y in data.train_batches(range(8)).epoch(0)) == 7
    strip, failed = (record.getMessage() for record in caplog.records)
    assert "val/cat/2.png: 1 x 60000 pixels are too narrow to be resized to a shorter side of 73" in strip
    assert "train/" in failed and failed.endswith(".png: ZeroDivisionError no pixels")
    with pytest.raises(CydasError, match=r"val/cat/2.png: 1 x 60000 pixels are too narrow"):
        list(folder(tmp_path, 64, workers=0).test_batches().epoch())


def test_strips_of_pixels_train(tmp_path):
    make_folder(tmp_path)
    for index, size in enumerate(((1, 60000), (60000, 1), (1, 1), (2, 900))):
        Image.new("RGB", size).save(tmp_path / "train/cat" / f"{index}.png")
    data = folder(tmp_path, workers=0)
    assert [x.shape for x, _ in data.train_batches(range(8)).epoch(0)] == [(8, 3, 16, 16)]


@pytest.mark.parametrize("size", [(10_000, 9_000), (13_000, 13_000), (2**31 - 1, 2**31 - 1), (0, 5)])
def test_a_small_file_that_claims_too_many_pixels_is_refused_without_a_warning(size):
    start = bytearray(saved(Image.new("RGB", (1, 1)), "PNG"))
    start[16:24] = struct.pack(">II", *size)
    start[29:33] = struct.pack(">I", zlib.crc32(start[12:29]))
    bitmap = bytearray(saved(Image.new("RGB", (1, 1)), "BMP"))
    bitmap[18:26] = struct.pack("<ii", *size)
    for content in (
        bytes(start),
        bytes(bitmap),
        b"P6 %d %d 255\n" % size,
        b"qoif" + struct.pack(">II", *size) + b"\3\0",
    ):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(
                CydasError, match="cannot read the image x: " + ("" if 0 in size else ".*(pixels|Token)")
            ):
                decode(content, "x")
    assert size[0] * size[1] > MAX_PIXELS or 0 in size


def test_text_that_unfolds_to_more_than_memory_is_refused():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 5_000_000, zip=True)
    content = saved(Image.new("RGB", (4, 4)), "PNG", pnginfo=text)
    assert len(content) < 10_000
    with pytest.raises(CydasError, match="cannot read the image x: Decompressed data too large"):
        decode(content, "x")


def test_a_jpeg_of_endless_scans_is_refused():
    content = saved(Image.fromarray(pixels()), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    assert decode(content[:last] + content[last:-2] * 400 + content[-2:], "x").pixels.size == (24, 20)
    with pytest.raises(CydasError, match="cannot read the image x: it has 2009 scans, and 500 can be read"):
        decode(content[:last] + content[last:-2] * 2000 + content[-2:], "x")


def test_files_that_end_too_early_are_refused():
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    for kind in ("PNG", "JPEG", "TIFF", "WEBP", "GIF", "BMP", "AVIF", "QOI", "PPM"):
        content = saved(Image.fromarray(pixels()), kind)
        with pytest.raises(CydasError, match="cannot read the image x: "):
            decode(content[: len(content) * 2 // 3], "x")


def test_images_of_8_bits_are_what_pillow_makes_of_them():
    colour = Image.fromarray(pixels())
    clear = colour.convert("P")
    clear.info["transparency"] = 3
    alpha = colour.convert("RGBA")
    alpha.putalpha(Image.fromarray(pixels(channels=1)[..., 0]))
    many = [
        saved(colour.convert(mode), "TIFF") for mode in ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB")
    ]
    many += [saved(colour.convert(mode), "PNG") for mode in ("1", "L", "P", "LA", "RGB", "RGBA")]
    many += [saved(colour.convert("CMYK"), "JPEG"), saved(clear, "PNG"), saved(alpha, "PNG"), saved(clear, "GIF")]
    many += [saved(alpha, "WEBP", lossless=True), saved(colour, "AVIF"), saved(colour, "MPO")]
    for content in many:
        expected = Image.open(io.BytesIO(content)).convert("RGB")
        assert np.array_equal(np.asarray(decode(content, "x").pixels), np.asarray(expected))
    # As in a TIFF whose alpha was multiplied in, which Pillow itself cannot take to RGB at once.
    tiff = bytearray(saved(colour.convert("LA"), "TIFF"))
    place = tiff.index(struct.pack("<HHI", 338, 3, 1))
    tiff[place + 8] = 1
    assert Image.open(io.BytesIO(bytes(tiff))).mode == "La"
    assert np.array_equal(np.asarray(decode(bytes(tiff), "x").pixels.convert("L")), np.asarray(colour.convert("L")))


def test_of_an_animation_the_first_frame_is_read():
    for kind in ("GIF", "WEBP", "PNG", "AVIF", "TIFF"):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black", "black")]
        options = {"lossless": True} if kind == "WEBP" else {}
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert np.asarray(decode(content, "x").pixels).min() > 250


def test_pillows_warnings_stay_off_the_console(recwarn, capfd):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\xff" + bytes(20)
    decode(saved(Image.new("RGB", (9, 9)), "JPEG", exif=exif), "x")
    palette = Image.new("P", (9, 9))
    palette.info["transparency"] = bytes(range(256))
    decode(saved(palette, "PNG"), "x")
    assert not recwarn.list and capfd.readouterr() == ("", "")


def test_what_is_no_plain_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name, words in (
        ("pipe", "is no file"), ("folder", "is no file"), ("zero", "is no file"), ("missing", "No such file"),
        ("large", f"has {MAX_BYTES + 1} bytes"),
    ):  # fmt: skip
        with pytest.raises(CydasError, match=rf"cannot read the image .*/{name}.png: .*{words}"):
            read_bytes(str(tmp_path / f"{name}.png"))


def test_a_damaged_image_of_16_bits_does_not_end_the_program():
    """Which is what torchvision's own decoder does."""
    whole = png(np.random.default_rng(0).integers(0, 65536, (9, 9, 3), dtype=np.uint16))
    with pytest.raises(CydasError, match="cannot read the image x: "):
        decode(whole[:60] + bytes(8) + whole[68:], "x")
