"""Data sets that need no files: scikit-learn's handwritten digits, plain, or in scenes in which they are hard to read.

Nearly every network reads plain digits. In the scenes each digit is scaled, turned and put anywhere on a canvas among
pieces of other digits and under noise ("cluttered MNIST" in Mnih et al. 2014): there networks differ.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Images uint8 [N, C, H, W] and labels int64 [N].
Part = tuple[Tensor, Tensor]

SIZE = 24  #: pixels of a scene's side
SCENES = 3  #: in which each digit is shown
PIECES = 2  #: of other digits, in each scene
NOISE = 0.15  #: standard deviation, where white is 1


def read_embedded(dataset: str) -> tuple[Part, Part]:
    """The training and the test part of ``digits`` or ``cluttered``; no digit is in both."""
    train, test = _read_digits()
    return (_scenes(*train, seed=0), _scenes(*test, seed=1)) if dataset == "cluttered" else (train, test)


def _read_digits() -> tuple[Part, Part]:
    """1,797 digits at 8x8 pixels, grey in three channels; every fifth one tests."""
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    images = torch.from_numpy(grey).float().view(-1, 1, 8, 8).mul(255 / 16).round().byte().expand(-1, 3, -1, -1)
    labels = torch.from_numpy(labels).long()
    # The original order runs through the writers; a fixed shuffle gives both parts, and both halves, all of them.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    return (images[train], labels[train]), (images[test], labels[test])


def mean_and_std(grey: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of all channels together, for each of the three."""
    pixels = grey.float() / 255
    return (float(pixels.mean()),) * 3, (float(pixels.std()),) * 3


def _scenes(digits: Tensor, labels: Tensor, seed: int) -> Part:
    """Scenes, uint8 [N * SCENES, 3, SIZE, SIZE], and their labels. ``digits``: uint8 [N, 3, 8, 8]."""
    generator = torch.Generator().manual_seed(seed)
    grey = digits[:, :1].repeat(SCENES, 1, 1, 1).float() / 255
    count = len(grey)
    canvas = _shown(grey, _between(count, 1.4, 1.8, generator), 0.4, generator)
    for _ in range(PIECES):
        other = grey[torch.randint(count, (count,), generator=generator)]
        canvas = torch.maximum(canvas, _shown(_piece(other, generator), torch.full((count,), 1.5), 3.14, generator))
    canvas = canvas + NOISE * torch.randn(canvas.shape, generator=generator)
    return canvas.mul(255).round().clamp(0, 255).byte().expand(-1, 3, -1, -1), labels.repeat(SCENES)


def _between(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, generator=generator)


def _piece(digits: Tensor, generator: torch.Generator) -> Tensor:
    """A quarter of each digit, 4 x 4 pixels. ``digits``: [N, 1, 8, 8]."""
    up, left = (torch.randint(1, 4, (len(digits), 1, 1), generator=generator) for _ in range(2))
    rows, columns = torch.arange(4).view(1, 4, 1) + up, torch.arange(4).view(1, 1, 4) + left
    return digits[torch.arange(len(digits)).view(-1, 1, 1), 0, rows, columns].unsqueeze(1)


def _shown(images: Tensor, scale: Tensor, turn: float, generator: torch.Generator) -> Tensor:
    """Each image on an empty canvas [N, 1, SIZE, SIZE], scaled, turned by up to so much (radians), anywhere on it."""
    count, own = len(images), images.shape[-1]
    angle = _between(count, -turn, turn, generator)
    free = (1 - scale * own / SIZE).clamp_min(0)
    x, y = (_between(count, -1, 1, generator) * free for _ in range(2))
    # From the canvas's coordinates to the image's; both run from -1 to 1.
    ratio = SIZE / (scale * own)
    cos, sin = angle.cos() * ratio, angle.sin() * ratio
    matrix = torch.stack([cos, -sin, -(cos * x - sin * y), sin, cos, -(sin * x + cos * y)], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, [count, 1, SIZE, SIZE], align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
