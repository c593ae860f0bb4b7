"""Damaged image files: whatever is done to their bytes, an image comes out or CyDAS's own error, and nothing else.

    python benchmarks/fuzz_images.py                  # 2,000 mutations of each format, about ten minutes on one core

Good files of every format are mutated by chance, from a seed, and go the way of a training and of a test image. That
happens in child processes, so that a crash, a hang (10 seconds for an image) or an exception is counted as lost.
"""

import argparse
import io
import random
import resource
import struct
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import numpy as np
import PIL
import torch
from PIL import Image
from torchvision.transforms import v2

from CyDAS.data.images import Prepare, decode, growth_limit
from CyDAS.data.pixel_range import ToUnit
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.numbers import whole_number

ROOT = Path(__file__).resolve().parents[1]
SIZE = 16
CHUNK = 50
SECONDS = 10  #: for one image
OUTCOMES = ("read", "refused", "lost")

_generator = np.random.default_rng(0)
_WIDTH, _HEIGHT = 24, 20
_smooth = np.add.outer(np.arange(_HEIGHT) * 5, np.arange(_WIDTH) * 4)
_COLOUR = Image.fromarray((_smooth[..., None] + _generator.integers(0, 40, (_HEIGHT, _WIDTH, 3))).astype(np.uint8))
_DEEP = (_smooth * 300 + _generator.integers(0, 300, _smooth.shape)).astype(np.uint16)


def _saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # saving leaves settings of the format on an image
    return file.getvalue()


def _animated(kind: str) -> bytes:
    return _saved(_COLOUR, kind, save_all=True, append_images=[_COLOUR.rotate(90), _COLOUR.rotate(180)])


@cache
def good_files() -> dict[str, list[bytes]]:
    """Whole files of every format, in its variants."""
    colour, deep = _COLOUR, Image.fromarray(_DEEP)
    grey, palette, alpha, fractions = (
        colour.convert("L"), colour.convert("P"), colour.convert("RGBA"), Image.fromarray(_DEEP / np.float32(65535)),
    )  # fmt: skip
    compressions = ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return {
        "PNG": [_saved(i, "PNG") for i in (colour, grey, palette, alpha, deep, colour.convert("1"))]
        + [_animated("PNG"), png(np.stack([_DEEP] * 3, 2)), png(np.stack([_DEEP] * 2, 2))],
        "JPEG": [_saved(colour, "JPEG"), _saved(grey, "JPEG"), _saved(colour.convert("CMYK"), "JPEG")]
        + [_saved(colour, "JPEG", progressive=True), _animated("MPO")],
        "TIFF": [_saved(i, "TIFF") for i in (grey, palette, alpha, deep, fractions, colour.convert("1"))]
        + [_saved(colour, "TIFF", compression=c) for c in compressions]
        + [_saved(deep, "TIFF", compression="tiff_lzw"), _animated("TIFF")],
        "WEBP": [_saved(colour, "WEBP"), _saved(alpha, "WEBP", lossless=True), _animated("WEBP")],
        "GIF": [_saved(palette, "GIF"), _animated("GIF"), _saved(grey, "GIF", interlace=0)],
        "BMP": [_saved(i, kind) for i in (colour, grey, palette, colour.convert("1")) for kind in ("BMP", "DIB")],
        "AVIF": [_saved(colour, "AVIF"), _saved(alpha, "AVIF"), _animated("AVIF")],
        "QOI": [_saved(colour, "QOI"), _saved(alpha, "QOI")],
        "PPM": [_saved(i, "PPM") for i in (colour, grey, deep, fractions, colour.convert("1"))]
        + [b"P3 # text\n2 2 255\n" + b" 1 22 133" * 4, b"P2 2 2 4095 0 1000 2000 4095"]
        + [b"P6 %d %d 4095\n" % (_WIDTH, _HEIGHT) + (np.stack([_DEEP // 16] * 3, 2)).astype(">u2").tobytes()],
    }


def png(pixels: np.ndarray) -> bytes:
    """uint16 [H, W, C] as a PNG of 16 bits, which Pillow cannot write of colours."""
    height, width, channels = pixels.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _flip(content: bytearray, chance: random.Random, files: list[bytes]) -> bytearray:
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def _cut(content: bytearray, chance: random.Random, files: list[bytes]) -> bytearray:
    return content[: chance.randrange(len(content))]


def _insert(content: bytearray, chance: random.Random, files: list[bytes]) -> bytearray:
    place, length = chance.randrange(len(content)), chance.choice((1, 2, 4, 16, 200))
    kept = place + chance.choice((0, length))  # between its neighbours, or in the place of what is there
    return content[:place] + chance.choice((chance.randbytes(length), bytes(length))) + content[kept:]


def _extreme(content: bytearray, chance: random.Random, files: list[bytes]) -> bytearray:
    """Numbers in headers: sizes, counts, offsets, bit depths."""
    for _ in range(chance.choice((1, 1, 2))):
        length = chance.choice((1, 2, 4))
        value = chance.choice((0, 1, 2, 16, 127, 128, 255, 65535, 1 << 16, 60000, 2**31 - 1, 2**31, 2**32 - 1))
        field = (value % 256**length).to_bytes(length, chance.choice(("little", "big")))
        place = chance.randrange(max(1, min(len(content), chance.choice((32, 100, 400))) - length))
        content[place : place + length] = field
    return content


def _splice(content: bytearray, chance: random.Random, files: list[bytes]) -> bytearray:
    other = chance.choice(files)
    return content[: chance.randrange(len(content))] + other[chance.randrange(len(other)) :]


MUTATIONS = (_flip, _cut, _insert, _extreme, _extreme, _splice)


def mutant(kind: str, files: list[bytes], seed: int) -> bytes:
    """The mutation number ``seed`` of one of the ``files``, which are of format ``kind``."""
    chance = random.Random(f"{kind} {seed}")
    content = bytearray(chance.choice(files))
    for _ in range(chance.choice((1, 1, 2))):
        if content:
            content = chance.choice(MUTATIONS)(content, chance, files)
    return _seal_png(bytes(content)) if kind == "PNG" and chance.random() < 0.6 else bytes(content)


def _seal_png(content: bytes) -> bytes:
    """Right checksums, without which no decoder looks into a chunk."""
    place, sealed = 8, content[:8]
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        if place + 12 + length > len(content):
            break
        sealed += _chunk(content[place + 4 : place + 8], content[place + 8 : place + 8 + length])
        place += 12 + length
    return sealed + content[place:]


def pipelines() -> tuple[Callable, Callable]:
    """What makes network input of training and of test images, as for a folder data set."""
    steps = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
    train = v2.Compose([v2.RandomResizedCrop(SIZE), v2.ColorJitter(0.4, 0.4, 0.4, 0.2), *steps])
    test = v2.Compose([growth_limit(SIZE), v2.Resize(SIZE), v2.CenterCrop(SIZE), *steps])
    return Prepare(ToUnit((0.0, 65535.0)), train), Prepare(ToUnit((0.0, 65535.0)), test)


def outcome(content: bytes, prepare: tuple[Callable, Callable]) -> str:
    """``read`` or ``refused``; raises whatever else the bytes bring about."""
    try:
        picture = decode(content, "NAME")
        outputs = [make(picture) for make in prepare]
    except CydasError as error:
        assert str(error).startswith("cannot read the image NAME: ") and str(error).isprintable(), repr(str(error))
        assert " at 0x" not in str(error), error  # else the same image would be counted anew in each epoch
        return "refused"
    assert all(x.shape == (3, SIZE, SIZE) and -1e-5 < x.min() and x.max() < 1.00001 for x in outputs)
    return "read"


def try_some(kind: str, seeds: range) -> tuple[Counter, list[str], float]:
    """Outcomes of the mutations ``seeds``, what was lost and why, and this process's peak memory in MB."""
    files, prepare = good_files()[kind], pipelines()
    counts: Counter[str] = Counter()
    lost: list[str] = []
    for seed in seeds:
        try:
            counts[outcome(mutant(kind, files, seed), prepare)] += 1
        except BaseException as error:
            counts["lost"] += 1
            lost.append(f"{kind} {seed}: {type(error).__name__} {error}")
    return counts, lost, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def try_format(kind: str, tries: int) -> tuple[Counter, list[str], float]:
    """As :func:`try_some`, in child processes; where one dies or hangs, its images are tried one by one."""
    counts: Counter[str] = Counter()
    lost: list[str] = []
    peak = 0.0
    waiting = [range(start, min(start + CHUNK, tries)) for start in range(0, tries, CHUNK)]
    while waiting:
        seeds = waiting.pop()
        pool = ProcessPoolExecutor(1, get_context("fork"), torch.set_num_threads, (1,))
        try:
            some, reasons, memory = pool.submit(try_some, kind, seeds).result(SECONDS * len(seeds))
            counts, lost, peak = counts + some, lost + reasons, max(peak, memory)
        except (BrokenProcessPool, TimeoutError) as error:
            if len(seeds) > 1:
                waiting += [range(seed, seed + 1) for seed in seeds]
            else:
                counts["lost"] += 1
                lost.append(f"{kind} {seeds[0]}: {type(error).__name__}")
        for child in list((pool._processes or {}).values()):
            child.kill()
        pool.shutdown()
    return counts, lost, peak


def main(arguments: list[str] | None = None) -> None:
    from benchmarks.speed import record

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--tries", type=whole_number, metavar="N", default=2000, help="mutations of each format (default: 2000)"
    )
    kinds = list(good_files())
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds, help="formats (default: all)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/fuzz_images.json")
    options = parser.parse_args(arguments)
    results, failures = {}, []
    print("format | tried | read | refused | lost")
    for kind in options.only:
        counts, lost, peak = try_format(kind, options.tries)
        results[kind] = {"tried": counts.total(), **{key: counts[key] for key in OUTCOMES}, "peak_mb": round(peak)}
        print(kind, *list(results[kind].values())[:4], f"(peak {peak:.0f} MB)", sep=" | ", flush=True)
        failures += lost
    print(*failures, sep="\n")
    write_json(options.output, record() | {"pillow": PIL.__version__, "images": results, "lost": failures})


if __name__ == "__main__":
    run_program(main)
