"""What every data set is to the programs: batches of two parts, and words and records of what they are."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from CyDAS.data.classes import digest, has_record
from CyDAS.data.contents import describe_classes
from CyDAS.data.halves import halves
from CyDAS.data.loaders import Batches
from CyDAS.runs.logs import RunLog
from CyDAS.utils.distributed import Process, gather
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import some_of
from CyDAS.utils.texts import few


class DataSet(ABC):
    """Images in a training and a test part, whose targets are a subclass's and its task's business."""

    input_channels = 3
    image_size: int
    #: Black and white of images of more than 8 bits that do not say it themselves.
    pixel_range: tuple[float, float] | None = None
    notes: Sequence[str] = ()  #: what the log should say of how the images are read

    @property
    @abstractmethod
    def train_size(self) -> int:
        """How many training images there are."""

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Which images and targets these are, in plain values, for checkpoints."""

    @abstractmethod
    def report(self, *parts: str) -> list[str]:
        """What was read of the parts ``train`` and ``test``, in lines for the log."""

    @abstractmethod
    def place(self, part: str) -> str:
        """Where the images of a part come from."""

    @abstractmethod
    def train_batches(self, indices: Sequence[int], *, stream: int = 0) -> Batches:
        """Shuffled, augmented batches of the given training images."""

    @abstractmethod
    def test_batches(self) -> Batches:
        """The test images, each once, in order."""


class LabelledImages(DataSet):
    """Images that have one of several classes each."""

    classes: list[str]  #: names, in the order of the labels
    train_labels: Tensor  #: int64, of all training images
    test_labels: Tensor  #: int64, of all test images

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def train_size(self) -> int:
        return len(self.train_labels)

    @abstractmethod
    def judging_batches(self, indices: Sequence[int]) -> Batches:
        """The given training images as if they were for a test: each once, in order, not augmented."""

    def halves(self, split: str, seed: int = 0) -> tuple[Sequence[int], Sequence[int]]:
        """The search's (train, val), as indices of training images: :func:`halves`."""
        return halves(self.train_labels, split, seed)

    def counts(self, labels: Tensor) -> list[int]:
        """How many of the labels each class has."""
        return torch.bincount(labels, minlength=self.n_classes).tolist()

    def record(self) -> dict[str, Any]:
        """Which images and classes these are, in plain values, for checkpoints."""
        pixel_range = list(self.pixel_range) if self.pixel_range else None
        record: dict[str, Any] = {"classes": self.classes, "pixel_range": pixel_range}
        for part, labels in (("train", self.train_labels), ("test", self.test_labels)):
            record[f"{part}_images"] = len(labels)
            record[f"{part}_of_class"] = self.counts(labels)
            record[f"{part}_digest"] = digest(self.names(part), labels.tolist())
        return record

    def report(self, *parts: str) -> list[str]:
        """What was read of the parts ``train`` and ``test``, in lines for the log."""
        lines = []
        for part in parts:
            labels = {"train": self.train_labels, "test": self.test_labels}[part]
            counts = dict(zip(self.classes, self.counts(labels), strict=True))
            missing = [name for name, count in counts.items() if not count]
            there = {name: count for name, count in counts.items() if count}
            number = f"{len(there)} of {self.n_classes}" if missing else self.n_classes
            lines.append(
                f"{self.place(part)}: {len(labels)} {part} images, {number} classes: {describe_classes(there)}"
            )
            lines += [f"no {part} images of {few(missing)}"] if missing else []
        return [*lines, *self.notes]

    @abstractmethod
    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        """The same, with squares blanked."""

    @abstractmethod
    def names(self, part: str) -> Iterable[str]:
        """What the images of a part are called, wherever they lie."""

    @abstractmethod
    def adopt(self, trained: Sequence[str]) -> None:
        """Number the test images' classes as a trained network does those of the same names.

        Raises :class:`CydasError` for images of classes that it does not know.
        """


class LoaderFlags(Protocol):
    """The flags that every loader goes by."""

    seed: int
    batch_size: int


def loader_options(config: LoaderFlags, process: Process, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of training and of test loaders; a training batch is what a process sees in one update."""
    both = {"process": process, "seed": config.seed, **more}
    update = config.batch_size * some_of(config, "accum_steps").get("accum_steps", 1)
    train = {"batch_size": update, "train": True}
    test = {"batch_size": config.batch_size, "stream": 0, "train": False}
    return both | train, both | test


def check_alike(data: DataSet, process: Process) -> None:
    """Raise :class:`CydasError`, in all processes, where they do not find the same training images; each must call it.

    The data set's record has their ``train_digest``.
    """
    if process.world_size > 1 and len(set(gather(data.record()["train_digest"]))) > 1:
        raise CydasError(f"the processes find different training images, as {data.place('train')} of each of them")


def say_data(
    data: DataSet, parts: Sequence[str], checkpoint: dict[str, Any] | None, process: Process, log: RunLog
) -> None:
    """What was read of ``parts``, to the log; and whether the checkpoint that a run goes on from can tell its data."""
    if process.is_main:
        for line in data.report(*parts):
            log.info("%s", line)
    if checkpoint and not has_record(checkpoint):
        log.warning(
            "the checkpoint does not say which images it was made with: whether these are the same is not known"
        )
