"""Images of more than 8 bits keep all their levels, in one range for a whole data set."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.fuzz_images import png
from CyDAS.config import EvaluationConfig, SearchConfig
from CyDAS.data import load_data
from CyDAS.data import pixel_range as pixel_range_module
from CyDAS.data.images import decode
from CyDAS.data.pixel_range import ToUnit
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from tests.test_data import make_shards

ONE = Process(0, 1, torch.device("cpu"))
SIZE = 64
STEPS = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)  #: 4096 levels


def ramp(white, dtype):
    return (STEPS / STEPS.max() * white).round(0 if np.dtype(dtype).kind in "iu" else 7).astype(dtype)


def saved(pixels, kind="TIFF", **options):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels, order="<", deflate=False, planes=1, photometric=None, bits=None):
    """[H, W(, C)] as a TIFF of one strip, in kinds that Pillow cannot write."""
    height, width, channels = np.atleast_3d(pixels).shape
    data = bytes(pixels) if bits else pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if deflate else data
    photometric = (2 if channels > 2 else 1) if photometric is None else photometric
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    bits = bits or pixels.dtype.itemsize * 8
    tags = [
        (256, [width]),
        (257, [height]),
        (258, [bits] * channels),
        (259, [8 if deflate else 1]),
        (262, [photometric]),
    ]
    tags += [(273, [0]), (277, [channels]), (278, [height]), (279, [len(data)]), (284, [planes])]
    tags += [(338, [2])] if channels == 4 and photometric == 2 else []
    tags += [(339, [kind] * channels)]
    start = 10 + 12 * len(tags) + 4
    long = [(tag, struct.pack(f"{order}{len(values)}H", *values)) for tag, values in tags if len(values) > 2]
    places = {tag: start + sum(len(value) for _, value in long[:index]) for index, (tag, _) in enumerate(long)}
    place_of_data = start + sum(len(value) for _, value in long)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(tags))
    for tag, values in tags:
        if tag in places:
            head += struct.pack(f"{order}HHII", tag, 3, len(values), places[tag])
        elif len(values) == 2:
            head += struct.pack(f"{order}HHIHH", tag, 3, 2, *values)
        else:
            head += struct.pack(f"{order}HHII", tag, 4, 1, place_of_data if tag == 273 else values[0])
    return head + struct.pack(f"{order}I", 0) + b"".join(value for _, value in long) + data


def make_folder(root, *contents, ending="tif", test=None):
    """Two classes that hold the same images; the test part holds ``test`` instead, where that is given."""
    for part in ("train", "val"):
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            for index, content in enumerate(test if test and part == "val" else contents):
                (root / part / name / f"{index}.{ending}").write_bytes(content)
    return root


def folder(root, kind=SearchConfig, with_training=True, recorded=None, **flags):
    config = kind(**{"dataset": "folder", "data_dir": root, "image_size": 56, "workers": 0, **flags})
    return load_data(config, ONE, with_training, recorded)


def test_pixels(data):
    """Test images in 0 to 1, as the network gets them but for the normalisation."""
    images = torch.cat([x for x, _ in data.test_batches().epoch()])
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return images * std + mean


test_pixels.__test__ = False


@pytest.mark.parametrize(
    ("white", "dtype", "kind", "expected"),
    [
        (200, np.uint16, "PNG", 255), (1000, np.uint16, "PNG", 1023), (4095, np.uint16, "PNG", 4095),
        (4095, np.uint16, "TIFF", 4095), (16000, np.uint16, "TIFF", 16383), (65535, np.uint16, "PNG", 65535),
        (4095, np.uint16, "PPM", 4095), (4095, np.int32, "TIFF", 4095), (50000, np.int32, "TIFF", 65535),
        (1, np.float32, "TIFF", 1), (255, np.float32, "TIFF", 255), (1, np.float32, "PPM", 1),
    ],
)  # fmt: skip
def test_the_range_is_the_narrowest_usual_one_of_the_training_images(tmp_path, white, dtype, kind, expected):
    pixels = ramp(white, dtype)
    ending = {"PNG": "png", "TIFF": "tiff", "PPM": "pgm"}[kind]
    ending = "pfm" if (kind, dtype) == ("PPM", np.float32) else ending
    if ending == "pfm":  # which torchvision's folders pass over
        ending = "ppm"
    data = folder(make_folder(tmp_path, saved(pixels, kind), saved(pixels // 2, kind), ending=ending))
    assert data.pixel_range == (0.0, expected)
    unit = ToUnit(data.pixel_range)(data._train[0][0])
    assert unit.shape == (3, SIZE, SIZE) and unit.dtype == torch.float32
    assert len(unit[0].unique()) == len(np.unique(pixels))
    assert torch.allclose(unit, torch.from_numpy(pixels.astype(np.float32) / expected).expand(3, -1, -1))
    (note,) = data.notes
    assert note.startswith(f"4 of 4 training images have more than 8 bits, with numbers up to {white}: they are read")
    assert f"from 0 to {expected};" in note
    mean = test_pixels(data)[0].mean()  # a ramp's middle
    assert float(mean) == pytest.approx(white / expected / 2, abs=0.02)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("dtype", ["u2", "i2", "i4", "f4"])
def test_tiffs_of_both_byte_orders_have_their_numbers(order, deflate, dtype):
    pixels = np.random.default_rng(0).integers(0, 30000, (5, 7)).astype(dtype)
    picture = decode(tiff(pixels, order, deflate), "x")
    assert np.array_equal(picture.pixels[0].numpy(), pixels.astype(np.float32))


def test_large_unsigned_numbers_are_not_negative():
    pixels = np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32)
    assert decode(tiff(pixels), "x").pixels[0].tolist() == [[0, 2.0**31, 2.0**32]]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_16_bit_colours_of_png_keep_their_levels(channels):
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 7, channels), dtype=np.uint16)
    picture = decode(png(pixels), "x")
    expected = pixels[..., :3] if channels > 2 else pixels[..., :1]  # alpha is left out, as of 8 bits
    assert np.array_equal(picture.pixels.permute(1, 2, 0).numpy(), expected) and picture.depth.kind == "16-bit"


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colours_of_tiff_keep_their_levels(order, deflate, channels):
    pixels = np.random.default_rng(0).integers(0, 65536, (6, 7, channels), dtype=np.uint16)
    picture = decode(tiff(pixels, order, deflate), "x")
    assert np.array_equal(picture.pixels.permute(1, 2, 0).numpy(), pixels[..., :3])


def test_files_that_say_which_number_is_white_are_believed():
    colours = np.random.default_rng(0).integers(0, 1001, (3, 4, 3)).astype(">u2")
    for content, pixels in (
        (b"P6 4 3 1000\n" + colours.tobytes(), colours),
        (b"P5 12 3 1000\n" + colours.tobytes(), colours.reshape(3, 12, 1)),
        (b"P2 2 1 1000 0 500", np.array([[[0], [500]]])),
    ):
        for known in (None, (0.0, 65535.0)):
            unit = ToUnit(known)(decode(content, "x"))
            assert torch.allclose(
                unit, torch.tensor(pixels / 1000).float().permute(2, 0, 1).expand(3, -1, -1), atol=1e-5
            )
    packed = np.array([[0x00, 0x0F, 0xFF]], dtype=np.uint8)  # two numbers of 12 bits: 0 and 4095
    content = bytearray(tiff(packed, bits=12))
    content[content.index(struct.pack("<HHII", 256, 4, 1, 3)) + 8] = 2
    assert ToUnit(None)(decode(bytes(content), "x"))[0].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tiff(np.ones((4, 4), np.uint16), photometric=0), "its 0 is white"),
        (tiff(np.ones((4, 4, 3), np.uint16), planes=2), "side by side only"),
        (tiff(np.ones((4, 4, 3), np.uint16), planes=2, deflate=True), "side by side only"),
        (tiff(np.ones((4, 4, 4), np.uint16), photometric=5), "side by side only"),
        (tiff(np.ones((4, 4), np.float64)), "unknown pixel mode"),
        (b"P3 1 1 4095 1 2 3", "more than 8 bits in text"),
        (saved(np.full((4, 4), np.nan, np.float32)), "no finite numbers"),
        (saved(np.array([[1, np.inf]], np.float32)), "no finite numbers"),
    ],
)
def test_what_can_only_be_read_with_a_loss_is_refused(content, words):
    with pytest.raises(CydasError, match=f"cannot read the image x: .*{words}"):
        decode(content, "x")


def test_avif_of_10_bits_is_refused():
    content = bytearray(saved(np.full((8, 8, 3), 90, np.uint8), "AVIF"))
    assert decode(bytes(content), "x").depth.kind == "8-bit"
    content[content.index(b"av1C") + 6] |= 0x40
    content[content.index(b"pixi") + 9 : content.index(b"pixi") + 12] = bytes([10] * 3)
    with pytest.raises(CydasError, match="it has more than 8 bits a channel"):
        decode(bytes(content), "x")


@pytest.mark.parametrize(
    "pixels", [ramp(2000, np.int32) - 1000, ramp(70000, np.int32), ramp(2, np.float32) - 1, ramp(300, np.float32)]
)
def test_numbers_of_no_usual_range_ask_for_the_flag_which_then_wins(tmp_path, pixels):
    make_folder(tmp_path, saved(ramp(1, pixels.dtype)), saved(pixels))
    with pytest.raises(CydasError, match=r"1.tif: its numbers, from .* fit no usual range: .*--pixel_range LOW HIGH"):
        folder(tmp_path)
    low, high = float(pixels.min()), float(pixels.max())
    data = folder(tmp_path, pixel_range=[low, high])
    assert data.pixel_range == (low, high) and "as --pixel_range says" in data.notes[0]
    unit = ToUnit(data.pixel_range)(data._train[1][0])
    assert (float(unit.min()), float(unit.max())) == (0, 1) and len(unit.unique()) == len(np.unique(pixels))


def test_fractions_beside_whole_numbers_are_refused(tmp_path):
    make_folder(tmp_path, saved(ramp(1, np.float32)), saved(ramp(4095, np.uint16)))
    with pytest.raises(CydasError, match="whole numbers and .* floating-point ones, of different ranges"):
        folder(tmp_path)


@pytest.mark.parametrize("values", [[1.0], [1.0, 2.0, 3.0], [2.0, 1.0], [1.0, 1.0], [0.0, float("inf")]])
def test_a_flag_that_is_no_range_is_refused(tmp_path, values):
    make_folder(tmp_path, saved(ramp(1, np.float32)))
    with pytest.raises(CydasError, match="--pixel_range is a pair of numbers"):
        folder(tmp_path, pixel_range=values)
    with pytest.raises(CydasError, match="the checkpoint's pixel_range is a pair of numbers"):
        folder(tmp_path, recorded={"pixel_range": values})


def test_the_flag_is_refused_or_said_to_be_idle_where_it_has_no_effect(tmp_path):
    with pytest.raises(CydasError, match="--pixel_range belongs to folders"):
        load_data(SearchConfig(pixel_range=[0.0, 1.0]), ONE)
    make_folder(tmp_path, saved(ramp(255, np.uint8), "PNG"), ending="png")
    assert folder(tmp_path).notes == []
    assert folder(tmp_path, pixel_range=[0.0, 1.0]).notes == [
        "--pixel_range has no effect on the training images: none needs it"
    ]


def test_a_test_has_the_range_of_the_training_and_clips_what_is_beyond(tmp_path):
    """Else a dark test image would be as bright as a bright training image."""
    train, test = ramp(4000, np.uint16), (ramp(900, np.uint16), ramp(8000, np.uint16))
    make_folder(tmp_path, saved(train), test=[saved(pixels) for pixels in test])
    trained = folder(tmp_path)
    assert trained.pixel_range == (0, 4095)
    for recorded in ([0.0, 4095.0], (0.0, 4095.0)):
        data = folder(tmp_path, EvaluationConfig, with_training=False, recorded={"pixel_range": recorded})
        assert data.pixel_range == (0, 4095)
        images = test_pixels(data)
        assert float(images[0].mean()) == pytest.approx(900 / 4095 / 2, abs=0.01)
        assert float(images[1].max()) == pytest.approx(1, abs=1e-5) and float(images[1].mean()) > 0.7
        assert torch.allclose(images, test_pixels(trained))
        assert data.notes[1:] == trained.notes[1:]
        assert "2 of 4 test images have pixels beyond the range of the training, which are clipped" in data.notes
    given = folder(tmp_path, EvaluationConfig, False, {"pixel_range": [0.0, 4095.0]}, pixel_range=[0.0, 8000.0])
    assert given.pixel_range == (0, 8000)


def test_without_a_range_of_the_training_the_user_is_asked(tmp_path):
    make_folder(tmp_path, saved(ramp(255, np.uint8)), test=[saved(ramp(4095, np.uint16))])
    for data in (folder(tmp_path), folder(tmp_path, EvaluationConfig, False, {"pixel_range": None})):
        with pytest.raises(CydasError, match="16-bit images hold numbers up to 4095 only.*--pixel_range LOW HIGH"):
            data.test_batches()
    for image in (tmp_path / "val").glob("*/*"):
        image.write_bytes(saved(ramp(1, np.float32)))
    with pytest.raises(CydasError, match=r"0.tif: no training image says the range.*--pixel_range LOW HIGH"):
        folder(tmp_path, EvaluationConfig, False).test_batches()
    for image in (tmp_path / "val").glob("*/*"):
        image.write_bytes(saved(ramp(65535, np.uint16)))
    data = folder(tmp_path)
    assert float(test_pixels(data).mean()) == pytest.approx(0.5, abs=0.01)
    assert data.notes == ["2 of 2 test images have 16 bits, unlike the training's: read from 0 to 65535"]


def test_images_of_8_bits_beside_deep_ones_keep_their_own_range(tmp_path):
    make_folder(tmp_path, saved(ramp(4095, np.uint16), "PNG"), saved(ramp(255, np.uint8), "PNG"), ending="png")
    data = folder(tmp_path)
    assert data.pixel_range == (0, 4095) and data.notes[0].startswith("2 of 4 training images have more than 8 bits")
    deep, plain = test_pixels(data)[:2]
    assert torch.allclose(deep, plain, atol=0.02)


def test_an_image_without_finite_pixels_is_a_bad_image(tmp_path):
    make_folder(tmp_path, saved(ramp(1, np.float32)), saved(np.full((9, 9), np.nan, np.float32)))
    data = folder(tmp_path, max_bad_images=2)
    assert data.pixel_range == (0, 1)
    assert sum(len(y) for _, y in data.train_batches(range(4)).epoch(0)) == 2
    with pytest.raises(CydasError, match="1.tif: it has pixels that are no finite numbers"):
        list(folder(tmp_path).train_batches(range(4)).epoch(0))


def test_shards_are_read_as_their_files_are(tmp_path):
    contents = [saved(ramp(white, np.uint16), "PNG") for white in (4095, 3000)]
    files = folder(make_folder(tmp_path / "files", *contents, ending="png"))
    shards = folder(make_shards(tmp_path / "files", tmp_path / "shards"))
    assert shards.pixel_range == files.pixel_range == (0, 4095)
    assert [note.split(":")[1] for note in shards.notes] == [note.split(":")[1] for note in files.notes]
    assert torch.equal(test_pixels(shards), test_pixels(files))


def test_files_that_cannot_be_deep_are_not_looked_into(tmp_path, monkeypatch):
    make_folder(tmp_path, saved(ramp(255, np.uint8), "JPEG"), ending="jpg")
    monkeypatch.setattr(pixel_range_module, "read_bytes", lambda *args, **options: pytest.fail("it was read"))
    assert folder(tmp_path).pixel_range is None


@pytest.mark.parametrize("use_aa", [False, True])
def test_deep_images_are_augmented_as_others_are(tmp_path, use_aa):
    """The same crops, flips and strengths; the colours of 8 bits are rounded at each step."""
    plain = (
        np.random.default_rng(0).integers(0, 256, (4, 4, 1), dtype=np.uint8).repeat(16, 0).repeat(16, 1).repeat(3, 2)
    )
    made = []
    for name, content in (("plain", saved(plain, "PNG")), ("deep", png(plain.astype(np.uint16) * 257))):
        data = folder(make_folder(tmp_path / name, *[content] * 8, ending="png"), use_aa=use_aa, batch_size=16)
        made.append(next(data.train_batches(range(16)).epoch(0))[0])
    assert made[1].isfinite().all() and made[1].dtype == torch.float32
    differences = (made[0] - made[1]).abs().flatten(1).mean(1)
    # AutoAugment's operations on floating-point numbers are torchvision's own, which round less.
    assert float(differences.median()) < 0.05
    assert float(made[1].min()) > -2.2 and float(made[1].max()) < 2.7
    assert len({image.numpy().tobytes() for image in made[1]}) == 16
