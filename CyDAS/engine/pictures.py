"""What a segmenter answers, as arrays and as pictures that people look at."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from CyDAS.data.images import Picture, blaming, decode, read_bytes
from CyDAS.data.mask_steps import Padded, TestSteps, to_input
from CyDAS.data.masks import Ids
from CyDAS.data.pixel_range import ToUnit
from CyDAS.data.segmentation import SegmentationData
from CyDAS.engine.optim import Precision
from CyDAS.engine.training import Training
from CyDAS.runs.logs import RunLog
from CyDAS.utils.files import write_atomically
from CyDAS.utils.overlays import legend, overlay, side_by_side
from CyDAS.utils.texts import few

#: A training's pictures are drawn at so many of its epochs at most.
TIMES = 20


@torch.no_grad()
def answer(network: nn.Module, image: Tensor, pad: Padded, precision: Precision) -> np.ndarray:
    """The class of every pixel, uint8 [H, W], of an image, uint8 or floats in 0 to 1, [3, H, W]. In eval mode."""
    network.eval()
    height, width = image.shape[-2:]
    images, _ = pad([((to_input(image), torch.zeros(height, width, dtype=torch.int64)), None)])
    with precision.autocast():
        logits = network(images.to(precision.device)).logits
    return logits[0, :, :height, :width].argmax(dim=0).byte().cpu().numpy()


def visible(image: Tensor) -> np.ndarray:
    """uint8 [H, W, 3] of uint8, or floats in 0 to 1, [3, H, W]."""
    eight_bits = image if image.dtype == torch.uint8 else image.mul(255).round().byte()
    return eight_bits.permute(1, 2, 0).numpy()


def write_png(path: Path, pixels: np.ndarray) -> None:
    """A grey or RGB picture, uint8, or a grey one of 16 bits. Raises :class:`CydasError` where it cannot be written."""
    write_atomically(path, partial(Image.fromarray(pixels).save, format="PNG"))


class ValidationPictures:
    """Image, truth and prediction side by side of a few validation images, always the same ones.

    They are drawn at most :data:`TIMES` times in a training, and after its last epoch, into ``folder`` and TensorBoard.
    """

    def __init__(self, data: SegmentationData, count: int, pad: Padded, folder: Path):
        self.data = data
        self.pad = pad
        self.folder = folder
        test = data.parts["test"]
        self.indices = np.unique(np.linspace(0, len(test) - 1, min(count, len(test))).round().astype(int)).tolist()

    def __call__(self, training: Training, log: RunLog) -> None:
        epochs = training.extent.epochs
        if training.epoch % -(-epochs // TIMES) and training.epoch < epochs:
            return
        for number, index in enumerate(self.indices):
            pair, _ = self.data.parts["test"][index]
            picture = self.draw(training.weights.reported(), pair, self.data.test_steps, training.precision)
            write_png(self.folder / f"validation_{number}.png", picture)
            log.picture(f"validation/{number}", picture, training.epoch)
        if self.indices:
            write_png(self.folder / "legend.png", legend(self.data.classes))

    def draw(
        self, network: nn.Module, pair: tuple[Picture, np.ndarray], steps: TestSteps, precision: Precision
    ) -> np.ndarray:
        image, mask = steps.sample(pair)
        shown, count = visible(image), self.data.n_classes
        answered = answer(network, image, self.pad, precision)
        return side_by_side([shown, overlay(shown, mask.numpy(), count), overlay(shown, answered, count)])


@dataclass
class Predictor:
    """Writes what a segmenter sees in images of any size."""

    network: nn.Module
    ids: Ids
    to_unit: ToUnit
    pad: Padded
    precision: Precision
    folder: Path

    def write(self, file: Path, name: str) -> str:
        """``NAME_mask.png``, every pixel's id, and ``NAME_overlay.png``; what is in the image, in words.

        Raises :class:`CydasError` where there is no image in the file.
        """
        picture = decode(read_bytes(str(file)), str(file))
        with blaming(picture.name):
            image = functional.to_image(self.to_unit(picture))
        classes = answer(self.network, image, self.pad, self.precision)
        names = self.ids.names
        write_png(self.folder / f"{name}_mask.png", self.ids.ids_of(classes))
        write_png(self.folder / f"{name}_overlay.png", overlay(visible(image), classes, len(names)))
        counts = np.bincount(classes.ravel(), minlength=len(names))
        order = [number for number in np.argsort(-counts, kind="stable") if counts[number]]
        return f"{file}: {few([f'{names[number]} {100 * counts[number] / classes.size:.1f} %' for number in order])}"
