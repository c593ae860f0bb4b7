"""Images a second of detectors and segmenters on CDARTS-a and -b, MobileNetV3-Large and EfficientNet-B0.

    python benchmarks/transfer_speed.py --threads 2 --repeats 5

The same detector (RetinaNet of 256 channels, 80 classes) and the same segmenter (F = 6, 19 classes) on each backbone,
with random weights and images, channels last: a training step (forward, loss, backward, no optimiser) and inference,
which for the detector includes the choice of its boxes. Backbones take turns, medians are given. Writes
benchmarks/results/transfer_speed.json.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch
from torch import nn

from benchmarks.speed import record
from CyDAS.models.backbone import Backbone
from CyDAS.models.detection.postprocess import detections
from CyDAS.models.detection.retinanet import RetinaNet
from CyDAS.models.segmentation.segmenter import Segmenter
from CyDAS.spaces.backbones import open_backbone
from CyDAS.tasks.detection import Detection
from CyDAS.tasks.segmentation import Segmentation
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.profile import count_macs, count_parameters

BACKBONES = ("cdarts_a", "cdarts_b", "mobilenetv3_large_100", "efficientnet_b0")
#: Height and width of a detector's images, pixels.
IMAGE = (256, 320)
#: Images of a step.
TRAINED, SEEN = 2, 1


class Case(NamedTuple):
    """A network, what it is trained for, its images' height and width, and the targets of a batch."""

    make: Callable[[Backbone], nn.Module]
    task: Detection | Segmentation
    size: tuple[int, int]
    targets: Callable[[], Any]


def boxes() -> list[dict[str, Any]]:
    """Eight an image."""
    generator = torch.Generator().manual_seed(0)
    corners = 160 * torch.rand(TRAINED, 8, 2, generator=generator)
    sizes = 16 + 96 * torch.rand(TRAINED, 8, 2, generator=generator)
    labels = torch.randint(80, (TRAINED, 8), generator=generator)
    return [
        {"boxes": torch.cat([start, start + size], dim=1), "labels": label, "padded": IMAGE, "size": IMAGE}
        for start, size, label in zip(corners, sizes, labels, strict=True)
    ]


def mask() -> torch.Tensor:
    return torch.randint(19, (TRAINED, 256, 512), generator=torch.Generator().manual_seed(0))


CASES = {
    "detector": Case(lambda backbone: RetinaNet(backbone, 80), Detection([str(n) for n in range(80)]), IMAGE, boxes),
    "segmenter": Case(lambda backbone: Segmenter(backbone, 19, 6.0), Segmentation(19), (256, 512), mask),
}  # fmt: skip


def make_steps(case: Case, backbone: str) -> tuple[dict[str, Callable[[], object]], dict[str, int]]:
    """A training step and one of inference; the network's size."""
    torch.manual_seed(0)
    network = case.make(open_backbone(backbone)[0]).to(memory_format=torch.channels_last)
    shape = (3, *case.size)
    size = {"parameters": count_parameters(network), "macs": count_macs(network.eval(), shape)}
    images, few = (torch.randn(count, *shape).to(memory_format=torch.channels_last) for count in (TRAINED, SEEN))
    targets = case.targets()

    def train() -> None:
        network.train()
        network.zero_grad(set_to_none=True)
        case.task.loss(network(images), targets).backward()

    @torch.inference_mode()
    def infer() -> object:
        network.eval()
        output = network(few)
        return detections(output, 0, case.size, case.size) if isinstance(case.task, Detection) else output

    return {"training": train, "inference": infer}, size


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/transfer_speed.json")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    results = []
    for name, case in CASES.items():
        made = {backbone: make_steps(case, backbone) for backbone in BACKBONES}
        for kind, images in (("training", TRAINED), ("inference", SEEN)):
            seconds: dict[str, list[float]] = {backbone: [] for backbone in BACKBONES}
            for _ in range(options.repeats + 1):
                for backbone, (steps, _) in made.items():
                    start = time.perf_counter()
                    steps[kind]()
                    seconds[backbone].append(time.perf_counter() - start)
            for backbone, times in seconds.items():
                rate = images / statistics.median(times[1:])  # the first one warms up
                print(f"{name}, {kind}, {backbone}: {rate:.2f} images/s", flush=True)
                entry = {"network": name, "kind": kind, "backbone": backbone, "images_per_second": rate}
                results.append(entry | {"seconds": times[1:]} | made[backbone][1])
    write_json(options.output, record() | {"threads": options.threads, "sizes": sizes(), "results": results})


def sizes() -> dict[str, list[int]]:
    """Height and width of each network's images."""
    return {name: list(case.size) for name, case in CASES.items()}


if __name__ == "__main__":
    run_program(main)
