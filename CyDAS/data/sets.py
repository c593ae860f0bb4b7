"""The data sets: digits (embedded), CIFAR-10 and -100, and any folder of class folders, ImageNet among them."""

import fcntl
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets
from torchvision.transforms import v2

from CyDAS.config import CommonConfig
from CyDAS.data.augment import BatchAugmentation
from CyDAS.data.images import Prepare, decode, growth_limit, read_image
from CyDAS.data.loaders import BadImages, Batches, FileBatches, TensorBatches
from CyDAS.data.pixel_range import ToUnit, check_test_range, choose_range
from CyDAS.data.shards import ShardedImages
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import some_of

CIFAR_MEAN, CIFAR_STD = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DataSet(ABC):
    """Labelled images in a training and a test part."""

    input_channels = 3
    n_classes: int
    image_size: int
    train_labels: Tensor  #: int64, of all training images
    #: Black and white of images of more than 8 bits that do not say it themselves; a checkpoint of the data holds it.
    pixel_range: tuple[float, float] | None = None
    notes: Sequence[str] = ()  #: what the log should say of how the images are read

    @property
    def train_size(self) -> int:
        return len(self.train_labels)

    def halves(self, split: str, seed: int = 0) -> tuple[Sequence[int], Sequence[int]]:
        """The search's (train, val), as indices of training images.

        ``split``: ``index``, the first half and the second as they are stored, as published; ``class``, every class in
        two; ``random``, by the seed.
        """
        middle = self.train_size // 2
        if split == "index":
            return range(middle), range(middle, self.train_size)
        if split == "class":
            order = torch.argsort(self.train_labels, stable=True)
            train, val = order[::2], order[1::2]
        else:
            order = torch.randperm(self.train_size, generator=torch.Generator().manual_seed(seed))
            train, val = order[:middle], order[middle:]
        return train.sort().values.tolist(), val.sort().values.tolist()

    @abstractmethod
    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        """Shuffled, augmented batches of the given training images."""

    @abstractmethod
    def test_batches(self) -> Batches:
        """The test images, each once, in order."""


def loader_options(config: CommonConfig, process: Process, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of training and of test loaders; a training batch is what a process sees in one update."""
    both = {"process": process, "seed": config.seed, **more}
    update = config.batch_size * some_of(config, "accum_steps").get("accum_steps", 1)
    train = {"batch_size": update, "train": True}
    test = {"batch_size": config.batch_size, "stream": 0, "train": False}
    return both | train, both | test


class ImagesInMemory(DataSet):
    """uint8 images [N, C, H, W] with labels [N] that stay on the device."""

    def __init__(
        self, config: CommonConfig, process: Process, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor],
        n_classes: int, image_size: int, mean: tuple, std: tuple, flip: bool,
    ):  # fmt: skip
        self.n_classes = n_classes
        self.image_size = image_size
        self.train_labels = train[1]
        self._train, self._test = ((resize(images, image_size), labels) for images, labels in (train, test))
        self._augmentation = {
            "mean": mean,
            "std": std,
            "flip": flip,
            "padding": image_size // 8,
            "auto_augment": config.use_aa,
        }
        self._train_options, self._test_options = loader_options(config, process)

    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        images, labels = (tensor[list(indices)] for tensor in self._train)
        augmentation = BatchAugmentation(**self._augmentation, cutout_length=cutout_length)
        return TensorBatches(images, labels, augmentation, **self._train_options, stream=stream)

    def test_batches(self) -> Batches:
        augmentation = BatchAugmentation(**self._augmentation)
        return TensorBatches(*self._test, augmentation, **self._test_options)


class ImagesInFolders(DataSet):
    """Image files in one folder per class, or in tar shards, decoded when they are needed.

    A test does without the training part. ``recorded``: what a checkpoint says of the data it was trained on.
    """

    def __init__(self, config: CommonConfig, process: Process, with_training: bool, recorded: dict[str, Any] | None):
        size = config.image_size or 224
        self.image_size = size
        root = config.data_dir / "imagenet" if config.dataset == "imagenet" else config.data_dir
        if with_training:
            self._train = open_folder(config.train_dir or root / "train", "--train_dir")
            self.train_labels = torch.tensor(self._train.targets)
        self._test = open_folder(config.test_dir or root / "val", "--test_dir")
        if with_training and self._train.classes != self._test.classes:
            differing = sorted(set(self._train.classes) ^ set(self._test.classes))
            first = differing[0] if differing else "their order"
            raise CydasError(f"{self._train.root} and {self._test.root} differ in their class folders: {first}")
        self.n_classes = len(self._test.classes)
        trained_with = recorded.get("pixel_range") if isinstance(recorded, dict) else None
        self.pixel_range, self.notes = choose_range(
            config.pixel_range, trained_with, self._train if with_training else None
        )
        self._auto_augment = config.use_aa
        self._train_options, self._test_options = loader_options(
            config, process, workers=config.workers, bad_images=BadImages(config.max_bad_images)
        )

    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        colour = (
            v2.AutoAugment(v2.AutoAugmentPolicy.IMAGENET) if self._auto_augment else v2.ColorJitter(0.4, 0.4, 0.4, 0.2)
        )
        steps = [v2.RandomResizedCrop(self.image_size), v2.RandomHorizontalFlip(), colour, *_to_tensor()]
        if cutout_length:
            raise CydasError("--cutout_length belongs to the in-memory data sets: give --cutout_length 0 for folders")
        prepare = Prepare(ToUnit(self.pixel_range), v2.Compose(steps))
        return FileBatches(self._train, indices, prepare, **self._train_options, stream=stream)

    def test_batches(self) -> Batches:
        # 256 to 224 is the published proportion; it is kept at other sizes.
        side = round(self.image_size * 256 / 224)
        steps = [growth_limit(side), v2.Resize(side), v2.CenterCrop(self.image_size), *_to_tensor()]
        self.notes = list(dict.fromkeys([*self.notes, *check_test_range(self._test, self.pixel_range)]))
        prepare = Prepare(ToUnit(self.pixel_range), v2.Compose(steps))
        return FileBatches(self._test, range(len(self._test)), prepare, **self._test_options)


def _to_tensor() -> list:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]


def open_folder(folder: Path, flag: str) -> datasets.ImageFolder | ShardedImages:
    """The images below ``folder``: one class a folder, or tar shards.

    Raises :class:`CydasError` for a missing or empty one.
    """
    if not folder.is_dir():
        raise CydasError(f"{flag}: there is no folder {folder}; it must hold one folder of images per class")
    if any(folder.glob("*.tar")) and not any(path.is_dir() for path in folder.iterdir()):
        return ShardedImages(folder, decode)
    try:
        images = datasets.ImageFolder(str(folder), loader=read_image)
    except FileNotFoundError as error:
        raise CydasError(f"{flag} {folder}: {str(error).splitlines()[0]}") from None
    return images


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 [N, C, H, W] to ``size`` x ``size`` pixels."""
    if images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).byte()


def load_digits(config: CommonConfig, process: Process) -> DataSet:
    """scikit-learn's 1,797 handwritten digits, 8x8 grey, shown at 16x16 in three channels; every fifth one tests."""
    from sklearn.datasets import load_digits as load

    grey, labels = load(return_X_y=True)
    images = torch.from_numpy(grey).float().view(-1, 1, 8, 8).mul(255 / 16).round().byte().expand(-1, 3, -1, -1)
    labels = torch.from_numpy(labels).long()
    # The original order runs through the writers; a fixed shuffle gives both parts, and both halves, all of them.
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    test, train = order[: len(order) // 5], order[len(order) // 5 :]
    pixels = images[train].float() / 255
    mean, std = (float(pixels.mean()),) * 3, (float(pixels.std()),) * 3
    return ImagesInMemory(
        config, process, (images[train], labels[train]), (images[test], labels[test]), 10, config.image_size or 16,
        mean, std, flip=False,
    )  # fmt: skip


def load_cifar(config: CommonConfig, process: Process) -> DataSet:
    """CIFAR-10 or CIFAR-100 from ``data_dir``, downloaded there where it is missing."""
    kind, classes = {"cifar10": (datasets.CIFAR10, 10), "cifar100": (datasets.CIFAR100, 100)}[config.dataset]

    def part(train: bool) -> tuple[Tensor, Tensor]:
        root = str(config.data_dir)
        try:
            data = kind(root, train=train, download=False)
        except RuntimeError:
            data = _download(kind, config.data_dir, train)
        except OSError as error:
            raise CydasError(f"cannot read {config.dataset} in {root}: {error}") from None
        return torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(data.targets)

    train, test = part(True), part(False)
    size = config.image_size or 32
    return ImagesInMemory(config, process, train, test, classes, size, CIFAR_MEAN, CIFAR_STD, flip=True)


def _download(kind: type, folder: Path, train: bool):
    """One process of this machine at a time: the others wait, and then find the files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".download.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return kind(str(folder), train=train, download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        raise CydasError(
            f"{kind.__name__} is not in {folder} (or damaged) and could not be downloaded ({error}); "
            f"put the folder {kind.base_folder} of {kind.filename} there, or name its place with --data_dir"
        ) from None


def load_data(
    config: CommonConfig, process: Process, with_training: bool = True, recorded: dict[str, Any] | None = None
) -> DataSet:
    """The data set that the flags name; a test can do without folders of training images.

    ``recorded``: what the checkpoint under test says of the data it was trained on, which then holds for these, too.
    Raises :class:`CydasError` where the data set is missing or contradicts a flag.
    """
    if config.pixel_range and config.dataset not in ("imagenet", "folder"):
        raise CydasError(f"--pixel_range belongs to folders of images; {config.dataset} has 8 bits: leave the flag out")
    if config.dataset == "digits":
        data = load_digits(config, process)
    elif config.dataset in ("cifar10", "cifar100"):
        data = load_cifar(config, process)
    else:
        data = ImagesInFolders(config, process, with_training, recorded)
    for name in ("n_classes", "input_channels"):
        given, actual = getattr(config, name), getattr(data, name)
        if given is not None and given != actual:
            raise CydasError(f"--{name} {given}: the data set {config.dataset} has {actual}; leave the flag out")
    return data
