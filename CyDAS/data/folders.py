"""Images in one folder for each class, as torchvision's ``ImageFolder`` reads them, or in tar shards."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from CyDAS.data.contents import is_hidden
from CyDAS.data.files import ImageFiles
from CyDAS.data.images import read_bytes
from CyDAS.data.shards import ShardedImages
from CyDAS.data.walk import Walk
from CyDAS.utils.errors import CydasError
from CyDAS.utils.texts import few

TRAIN_FLAG, TEST_FLAG = "--train_dir", "--test_dir"
#: Names of a data set's parts, by the flag that names such a folder.
PARTS = {
    TRAIN_FLAG: ("train", "training", "trainset"),
    TEST_FLAG: ("val", "valid", "validation", "test", "testing", "testset", "eval", "dev"),
}


class FolderImages(ImageFiles):
    """All images below a folder's class folders, class by class; those deeper down belong to the class above them.

    ``decode(content, name)`` makes an image of a file's bytes; ``flag`` is the one that names the folder. Raises
    :class:`CydasError` where there are no images in class folders, for the folder above the one that is meant, and
    where links lead upwards or to the same images twice.
    """

    def __init__(self, folder: Path, flag: str, decode: Callable[[bytes, str], Any]):
        super().__init__(folder, flag, decode)
        walk = Walk(self.root, flag, self.not_read)
        self.classes = walk.classes()
        found = {name: walk.images(name) for name in self.classes}
        walk.check_links()
        self.empty = [name for name in self.classes if not found[name]]
        for name in self.empty:
            self.not_read.add("class folder(s) without images", name)
        self.paths = [path for name in self.classes for path in found[name]]
        self.targets = [label for label, name in enumerate(self.classes) for _ in found[name]]
        if not self.paths:
            parent = folder.absolute().parent
            hint = f"; its {walk.loose} images lie in none: is its parent {parent} meant?" if walk.loose else ""
            raise CydasError(f"{flag} {folder} holds no folders of images, one for each class{hint}{self.beside()}")
        self._check_level()

    def keep(self, indices: Sequence[int]) -> None:
        self.paths = [self.paths[index] for index in indices]
        self.targets = [self.targets[index] for index in indices]

    @property
    def samples(self) -> list[tuple[str, int]]:
        """(path, class number) of all images."""
        return list(zip(self.paths, self.targets, strict=True))

    @property
    def names(self) -> list[str]:
        prefix = len(os.path.join(self.root, ""))
        return [path[prefix:] for path in self.paths]

    def open(self, index: int) -> BinaryIO:
        return open(self.paths[index], "rb")

    def deeper(self) -> str:
        folders = {os.path.dirname(name) for name in self.names}
        common = os.path.commonpath(folders)
        if not common or common in folders:
            return ""
        return f"; is {self.flag} {os.path.join(self.root, common)} meant?"

    def __getitem__(self, index: int) -> tuple[Any, int]:
        path = self.paths[index]
        return self._decode(read_bytes(path), path), self.targets[index]

    def _check_level(self) -> None:
        """Raise :class:`CydasError` where the classes would be a data set's parts, each with its own class folders."""
        inner: dict[str, set[str]] = {}
        for name in self.names:
            top, *below = name.split(os.sep)
            inner.setdefault(top, set()).add(below[0] if len(below) > 1 else "")
        known = {*PARTS[TRAIN_FLAG], *PARTS[TEST_FLAG]}
        parts = [name for name, folders in inner.items() if name.lower() in known and "" not in folders]
        if parts and (len(parts) > 1 or len(inner) == 1):
            wanted = PARTS.get(self.flag, ())
            likely = min(parts, key=lambda name: (name.lower() not in wanted, name))
            raise CydasError(
                f"{self.flag} {self.root} holds {few(parts)}, each with folders of images: these are parts of a data "
                f"set, no classes; is {self.flag} {os.path.join(self.root, likely)} meant?"
            )


def open_folder(folder: Path, flag: str, decode: Callable[[bytes, str], Any]) -> FolderImages | ShardedImages:
    """The images below ``folder``: one class a folder, or tar shards.

    ``flag``: the one that names it. Raises :class:`CydasError` for a missing one, and what the two classes say.
    """
    try:
        if not folder.is_dir():
            raise CydasError(f"{flag}: there is no folder {folder}; it must hold one folder of images per class")
        visible = [path for path in folder.iterdir() if not is_hidden(path.name)]
        has_shards = any(path.suffix == ".tar" for path in visible) and not any(path.is_dir() for path in visible)
    except OSError as error:
        raise CydasError(f"{flag}: cannot read the folder {folder}: {error.strerror}") from None
    return ShardedImages(folder, flag, decode) if has_shards else FolderImages(folder, flag, decode)
