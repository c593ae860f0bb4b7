"""What segmenters and detectors learn on a few images, from a backbone trained for minutes and from random weights.

    python benchmarks/transfer_small.py --cifar10 FOLDER --camvid FOLDER --coco FOLDER --runs FOLDER

CDARTS-a is trained on CIFAR-10 for two epochs; then a segmenter on 80 street scenes of CamVid, tested on these and on
30 others, and a detector on 96 images of COCO with 80 categories, tested on these and on 48 others: each from that
backbone and from none, with one seed and one thread; from none the detector is trained for ten epochs, to be
compared there. What is in RUNS already is not run again. Writes benchmarks/results/transfer_small.json. Each run takes
one core for a quarter of an hour, the longest for three.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from benchmarks.runs import run
from benchmarks.speed import ROOT, record
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import read_json, write_json

PLACE = "--device cpu --threads 1"
COMMON = f"{PLACE} --channels_last --resume_or_start"
BACKBONE = (
    "--space chain --cell_file CyDAS/cells/cdarts_a.json --c_last 320 --dataset cifar10 --batch_size 64 --epochs 2 "
    "--lr 0.05 --label_smooth 0 --cutout_length 0 --drop_rate 0"
)
CLASSES = "Sky Building Pole Road Pavement Tree SignSymbol Fence Car Pedestrian Bicyclist".split()
SEGMENT = (
    "--backbone cdarts_a --void_ids 11 --crop_size 192 256 --short_sides 170 180 190 --test_long_side 240 "
    "--batch_size 4 --repeats 10 --epochs 6 --warmup_steps 50 --lr 0.05 --bn_momentum 0.05 --workers 0"
)
DETECT = (
    "--backbone cdarts_a --short_side 240 --long_side 320 --no-flip --width 64 --batch_size 4 "
    "--optimizer adamw --lr 1e-3 --weight_decay 1e-4 --grad_clip 10 --warmup_steps 50 --workers 0"
)
#: How long a detector is trained from either start.
DETECT_EPOCHS = {"pretrained": "--epochs 90 --lr_epochs 83 112", "random": "--epochs 10 --lr_epochs 90"}
STARTS = ("pretrained", "random")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, required=True, help="folder of CIFAR-10, as torchvision keeps it")
    parser.add_argument("--camvid", type=Path, required=True, help="folder with train, trainannot, val, valannot")
    parser.add_argument("--coco", type=Path, required=True, help="folder with annotations, train2017, val2017")
    parser.add_argument("--runs", type=Path, required=True, help="folder of all runs")
    options = parser.parse_args(arguments)
    about = [*COMMON.split(), "--output_dir", str(options.runs)]
    backbone = options.runs / "retrain/backbone"
    if not (backbone / "result.json").exists():
        run("CyDAS/retrain.py", *about, *BACKBONE.split(), "--data_dir", str(options.cifar10), "--name", "backbone")
    results: dict[str, Any] = {"backbone": read_json(backbone / "result.json", "result")["last"]}
    classes = options.runs / "classes.txt"
    classes.write_text("\n".join(CLASSES))
    for start in STARTS:
        weights = ["--backbone_checkpoint", str(backbone / "last.pth.tar")] if start == "pretrained" else []
        masks = ["--data_dir", str(options.camvid), "--classes", str(classes)]
        segment = ["CyDAS/segment.py", *about, *SEGMENT.split(), *masks, *weights]
        test = ["CyDAS/segment.py", *PLACE.split(), "--output_dir", str(options.runs), *masks, "--void_ids", "11"]
        tests = {"training": [*test, "--test_part", "train"], "test": test}
        results[f"segment {start}"] = both_parts(segment, tests, options.runs, start)
        boxes = ["--data_dir", str(options.coco)]
        detect = ["CyDAS/detect.py", *about, *DETECT.split(), *DETECT_EPOCHS[start].split(), *boxes, *weights]
        train = [str(options.coco / "annotations/instances_train2017.json"), str(options.coco / "train2017")]
        test = ["CyDAS/detect.py", *PLACE.split(), "--output_dir", str(options.runs), "--workers", "0"]
        tests = {"training": [*test, "--test_json", train[0], "--test_dir", train[1]], "test": [*test, *boxes]}
        results[f"detect {start}"] = both_parts(detect, tests, options.runs, start)
        print(start, results, flush=True)
    names = [part for name in ("cifar10", "camvid", "coco", "runs") for part in (f"--{name}", "FOLDER")]
    made = record() | {"command": ["python", "benchmarks/transfer_small.py", *names]}
    write_json(ROOT / "benchmarks/results/transfer_small.json", made | {"results": results})


def both_parts(training: list[str], tests: dict[str, list[str]], runs: Path, start: str) -> dict[str, Any]:
    """What the last weights are worth on both parts, and how the training came there; one that was stopped counts."""
    program = Path(training[0]).stem
    name = f"{program}-{start}"
    folder = runs / program / name
    if not (folder / "last.pth.tar").exists():
        run(*training, "--name", name)
    found: dict[str, Any] = {}
    for part, test in tests.items():
        printed = folder / f"{part}_images.txt"
        if not printed.exists():
            printed.write_text(run(*test, "--name", name, "--eval_only"))
        found[part] = printed.read_text().splitlines()[-1].partition(" on ")[0]
    log = (folder / f"{program}.log").read_text()
    epochs = re.findall(r"epoch (\d+)/.*: test \w+ ([\d.]+).*train loss ([\d.]+)", log)
    found["test_by_epoch"] = {int(epoch): float(value) for epoch, value, _ in epochs}
    found["loss_by_epoch"] = {int(epoch): float(loss) for epoch, _, loss in epochs}
    return found


if __name__ == "__main__":
    run_program(main)
