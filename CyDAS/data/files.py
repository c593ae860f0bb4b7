"""What images in class folders and images in tar shards have in common."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from torch.utils.data import Dataset

from CyDAS.data.classes import places
from CyDAS.data.contents import NotRead
from CyDAS.utils.errors import CydasError
from CyDAS.utils.texts import few


class ImageFiles(Dataset):
    """Image files with a class each, in a fixed order.

    ``decode(content, name)`` makes an image of a file's bytes; ``flag`` is the one that names the folder.
    """

    classes: list[str]
    targets: list[int]  #: the number of each image's class

    def __init__(self, folder: Path, flag: str, decode: Callable[[bytes, str], Any]):
        self.root = str(folder)
        self.flag = flag
        self.not_read = NotRead()
        self.empty: list[str] = []  #: classes without images, which keep their places among the others
        self._decode = decode

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """What the images are called, wherever the folder lies."""

    @abstractmethod
    def open(self, index: int) -> BinaryIO:
        """An image's file. Raises ``OSError`` where it cannot be opened."""

    @abstractmethod
    def __getitem__(self, index: int) -> tuple[Any, int]:
        """(decoded image, class number). Raises :class:`CydasError` where it cannot be read."""

    def __len__(self) -> int:
        return len(self.targets)

    def check_training(self) -> None:
        """Raise :class:`CydasError` for a set that nothing can be learned from: an empty class, or a single one."""
        if self.empty:
            raise CydasError(
                f"{self.flag} {self.root}: no images in the class folder(s) {few(self.empty)}: remove them, or put "
                f"images there{self.beside()}"
            )
        self.check_several()

    def check_several(self) -> None:
        """Raise :class:`CydasError` for a single class."""
        if len(self.classes) < 2:
            raise CydasError(f"{self.flag} {self.root} holds a single class, {self.classes[0]}{self.deeper()}")

    def adopt(self, trained: Sequence[str]) -> None:
        """Number the classes as those of a trained network of the same names; some may be missing here.

        Raises :class:`CydasError` for images of classes that it does not know.
        """
        own = [name for name in self.classes if name not in self.empty]
        number = places(own, trained, f"{self.flag} {self.root}", self.deeper())
        self.targets = [number[self.classes[target]] for target in self.targets]
        self.classes = list(trained)

    def keep(self, indices: Sequence[int]) -> None:
        """Only these images, in this order. Raises :class:`CydasError` where images are not files."""
        raise CydasError(f"{self.flag} {self.root} holds tar shards: --test_share takes apart folders of image files")

    def deeper(self) -> str:
        """A question that names the folder below this one, where that one is likely meant."""
        return ""

    def beside(self) -> str:
        """What is not read, in brackets."""
        lines = self.not_read.lines(self.root)
        return f" ({'; '.join(lines)})" if lines else ""


def check_known(train: ImageFiles, test: ImageFiles) -> None:
    """Raise :class:`CydasError` where there are test images of classes without training images."""
    unknown = set(test.classes) - set(test.empty) - set(train.classes)
    if unknown:
        differing = sorted(unknown | (set(train.classes) - set(test.classes)))
        raise CydasError(
            f"{train.root} and {test.root} differ in their class folders: {few(differing)}; there are no training "
            f"images of {few(sorted(unknown))}{test.deeper()}"
        )
