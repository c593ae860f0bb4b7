"""The data sets: digits (in ``digits.py``), CIFAR-10 and -100, and any folder of class folders, ImageNet among them."""

import fcntl
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import datasets

from CyDAS.config import DATASETS, EMBEDDED, FOLDER_PIXELS, IN_MEMORY, CommonConfig
from CyDAS.data.augment import BatchAugmentation, batch_augmentation
from CyDAS.data.classes import places
from CyDAS.data.contents import describe_sizes
from CyDAS.data.dataset import LabelledImages, check_alike, loader_options
from CyDAS.data.digits import Part, mean_and_std, read_embedded
from CyDAS.data.files import ImageFiles, check_known
from CyDAS.data.folders import TEST_FLAG, TRAIN_FLAG, open_folder
from CyDAS.data.halves import test_split
from CyDAS.data.image_steps import image_options, test_steps, training_steps
from CyDAS.data.images import Prepare, decode
from CyDAS.data.loaders import BadImages, Batches, FileBatches, TensorBatches
from CyDAS.data.pixel_range import ToUnit, check_test_range, choose_range
from CyDAS.utils.distributed import Process, alike
from CyDAS.utils.errors import CydasError
from CyDAS.utils.normalisation import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD
from CyDAS.utils.present import present


class ImagesInMemory(LabelledImages):
    """uint8 images [N, C, H, W] with labels [N] that stay on the device."""

    def __init__(
        self, config: CommonConfig, process: Process, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor],
        classes: list[str], image_size: int, mean: tuple, std: tuple, flip: bool,
    ):  # fmt: skip
        self.classes = classes
        self.image_size = image_size
        self._name = config.dataset
        self._train, self._test = (resize(images, image_size) for images, _ in (train, test))
        self.train_labels, self.test_labels = train[1], test[1]
        self._augmentation = {
            "mean": mean,
            "std": std,
            "flip": flip,
            "padding": image_size // 8,
            **batch_augmentation(image_options(config), image_size, mean),
        }
        self._train_options, self._test_options = loader_options(config, process)

    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        images, labels = (tensor[list(indices)] for tensor in (self._train, self.train_labels))
        augmentation = BatchAugmentation(**self._augmentation, cutout_length=cutout_length)
        return TensorBatches(images, labels, augmentation, **self._train_options, stream=stream)

    def judging_batches(self, indices: Sequence[int]) -> Batches:
        images, labels = (tensor[list(indices)] for tensor in (self._train, self.train_labels))
        return TensorBatches(images, labels, BatchAugmentation(**self._augmentation), **self._test_options)

    def test_batches(self) -> Batches:
        augmentation = BatchAugmentation(**self._augmentation)
        return TensorBatches(self._test, self.test_labels, augmentation, **self._test_options)

    def place(self, part: str) -> str:
        return f"{self._name}, {self.image_size} x {self.image_size} pixels"

    def names(self, part: str) -> Iterable[str]:
        return map(str, range(len(self._train if part == "train" else self._test)))

    def adopt(self, trained: Sequence[str]) -> None:
        number = places(self.classes, trained, f"--dataset {self._name}")
        self.test_labels = torch.tensor([number[name] for name in self.classes])[self.test_labels]
        self.classes = list(trained)


class ImagesInFolders(LabelledImages):
    """Image files in one folder per class, or in tar shards, decoded when they are needed.

    A test does without the training part; ``recorded``: what a checkpoint says of the data it was trained on.
    """

    def __init__(self, config: CommonConfig, process: Process, with_training: bool, recorded: dict[str, Any]):
        self.image_size = config.image_size or FOLDER_PIXELS
        self._train = open_folder(config.class_folders("train"), TRAIN_FLAG, decode) if with_training else None
        self._is_split = bool(config.test_share)
        test_flag = TRAIN_FLAG if self._is_split else TEST_FLAG
        self._test = open_folder(config.class_folders("val"), test_flag, decode)
        if self._is_split:
            parts = test_split(list(self._test.names), self._test.targets, config.test_share, config.test_seed)
            for files, indices in zip((self._train, self._test), parts, strict=True):
                if files:
                    files.keep(indices)
        self.train_labels = torch.tensor(self._train.targets if self._train else [], dtype=torch.int64)
        if self._train:
            self._train.check_training()
            check_known(self._train, self._test)
            self.adopt(self._train.classes)
        elif "classes" in recorded:
            self.adopt(recorded["classes"])
        else:
            self._test.check_several()
            self.classes, self.test_labels = self._test.classes, torch.tensor(self._test.targets)
        self.pixel_range, self.notes = choose_range(config.pixel_range, recorded.get("pixel_range"), self._train)
        self._options = image_options(config)
        if self._options.rand_augment is not None and self.pixel_range:
            self.notes = [*self.notes, "--rand_augment works on 8 bits: images of more have no more in the training"]
        self._train_options, self._test_options = loader_options(
            config, process, workers=config.workers, bad_images=BadImages(config.max_bad_images)
        )

    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        if cutout_length:
            raise CydasError("--cutout_length belongs to the in-memory data sets: give --cutout_length 0 for folders")
        prepare = Prepare(ToUnit(self.pixel_range), training_steps(self._options, self.image_size))
        return FileBatches(present(self._train), indices, prepare, **self._train_options, stream=stream)

    def judging_batches(self, indices: Sequence[int]) -> Batches:
        prepare = Prepare(ToUnit(self.pixel_range), test_steps(self._options, self.image_size))
        return FileBatches(present(self._train), indices, prepare, **self._test_options)

    def test_batches(self) -> Batches:
        self.notes = list(dict.fromkeys([*self.notes, *check_test_range(self._test, self.pixel_range)]))
        prepare = Prepare(ToUnit(self.pixel_range), test_steps(self._options, self.image_size))
        return FileBatches(self._test, range(len(self._test)), prepare, **self._test_options)

    def report(self, *parts: str) -> list[str]:
        lines = []
        for part in parts:
            files = self._files(part)
            lines += [*super().report(part), describe_sizes(len(files), files.open), *files.not_read.lines(files.root)]
        if self._train and not self._is_split and os.path.samefile(self._train.root, self._test.root):
            lines.append(f"training and test images are the same: {self._train.root} is {self._test.root}")
        return lines

    def place(self, part: str) -> str:
        return self._files(part).root

    def names(self, part: str) -> Iterable[str]:
        return self._files(part).names

    def adopt(self, trained: Sequence[str]) -> None:
        self._test.adopt(trained)
        self.classes, self.test_labels = self._test.classes, torch.tensor(self._test.targets)

    def _files(self, part: str) -> ImageFiles:
        return present(self._train) if part == "train" else self._test


def resize(images: Tensor, size: int) -> Tensor:
    """uint8 [N, C, H, W] to ``size`` x ``size`` pixels."""
    if images.shape[-2:] == (size, size):
        return images
    resized = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
    return resized.round().clamp(0, 255).byte()


def load_embedded(config: CommonConfig, process: Process) -> LabelledImages:
    """Digits, plain or cluttered, shown at 16x16 or 24x24 pixels in three channels."""
    train, test = read_embedded(config.dataset)
    size = config.image_size or IN_MEMORY[config.dataset]
    classes = [str(digit) for digit in range(10)]
    return ImagesInMemory(config, process, train, test, classes, size, *mean_and_std(train[0]), flip=False)


def normalisation(dataset: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel by which images of a data set, 0 to 1, are normalised."""
    if dataset in _OWN:
        return _OWN[dataset]
    if dataset in EMBEDDED:
        return mean_and_std(read_embedded(dataset)[0][0])
    return (CIFAR_MEAN, CIFAR_STD) if dataset in IN_MEMORY else (IMAGENET_MEAN, IMAGENET_STD)


def load_cifar(config: CommonConfig, process: Process) -> LabelledImages:
    """CIFAR-10 or CIFAR-100 from ``data_dir``, downloaded there where it is missing."""
    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[config.dataset]

    def part(train: bool) -> tuple[Part, list[str]]:
        root = str(config.data_dir)
        try:
            data = kind(root, train=train, download=False)
        except RuntimeError:
            data = _download(kind, config.data_dir, train)
        except OSError as error:
            raise CydasError(f"cannot read {config.dataset} in {root}: {error}") from None
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return (images, torch.tensor(data.targets)), data.classes

    (train, classes), (test, _) = part(True), part(False)
    size = config.image_size or IN_MEMORY[config.dataset]
    return ImagesInMemory(config, process, train, test, classes, size, CIFAR_MEAN, CIFAR_STD, flip=True)


def _download(kind: type[datasets.CIFAR10], folder: Path, train: bool) -> datasets.CIFAR10:
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


#: How each data set in memory is loaded.
LOADERS: dict[str, Callable[[CommonConfig, Process], LabelledImages]] = {
    **dict.fromkeys(EMBEDDED, load_embedded), "cifar10": load_cifar, "cifar100": load_cifar,
}  # fmt: skip
_OWN: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}  # means and deviations of what was registered


def register_dataset(
    name: str, pixels: int, mean: tuple[float, ...], std: tuple[float, ...], flip: bool = True
) -> Callable[[Callable], Callable]:
    """A decorator that makes a function the images of ``--dataset NAME``, in every program that imports its file.

    The function takes the configuration and returns a training part, a test part (each images, uint8 [N, 3, H, W], and
    labels, int64 [N]) and the classes' names. ``pixels``: their size where no ``--image_size`` is given; ``mean``,
    ``std``: of each channel, 0 to 1; ``flip``: whether a mirrored image is of the same class. Raises ``ValueError`` for
    the name of one of CyDAS's own data sets.
    """
    if name in DATASETS and name not in _OWN:
        raise ValueError(f"the name {name!r} is that of another data set")

    def register(load: Callable[[CommonConfig], tuple[Part, Part, list[str]]]) -> Callable:
        def images(config: CommonConfig, process: Process) -> LabelledImages:
            train, test, classes = load(config)
            size = config.image_size or pixels
            return ImagesInMemory(config, process, train, test, classes, size, mean, std, flip)

        LOADERS[name], IN_MEMORY[name], _OWN[name] = images, pixels, (mean, std)
        if name not in DATASETS:
            DATASETS.append(name)
        return load

    return register


def load_data(
    config: CommonConfig, process: Process, with_training: bool = True, recorded: dict[str, Any] | None = None
) -> LabelledImages:
    """The data set that the flags name; a test can do without folders of training images.

    ``recorded``: the :meth:`LabelledImages.record` of what a network was trained on; the test images' classes are then
    those of the same names, and deep images have the same range. Raises :class:`CydasError` where the data are missing,
    make no data set, or contradict a flag or the record, in all processes alike; each must call it.
    """
    with alike():
        data = _load(config, process, with_training, recorded or {})
    if with_training:
        check_alike(data, process)
    return data


def _load(config: CommonConfig, process: Process, with_training: bool, recorded: dict[str, Any]) -> LabelledImages:
    if config.pixel_range and config.dataset in IN_MEMORY:
        raise CydasError(f"--pixel_range belongs to folders of images; {config.dataset} has 8 bits: leave the flag out")
    if config.dataset in IN_MEMORY:
        data = LOADERS[config.dataset](config, process)
        if "classes" in recorded:
            data.adopt(recorded["classes"])
    else:
        data = ImagesInFolders(config, process, with_training, recorded)
    for name in ("n_classes", "input_channels"):
        given, actual = getattr(config, name), getattr(data, name)
        if given is not None and given != actual:
            raise CydasError(f"--{name} {given}: the data set {config.dataset} has {actual}; leave the flag out")
    return data
