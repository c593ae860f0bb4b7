"""One way through a folder of class folders: every image once, links followed, and nothing skipped without a note."""

import os

from CyDAS.data.contents import IMAGE_EXTENSIONS, NotRead, extension, is_hidden
from CyDAS.utils.errors import CydasError


class Walk:
    """Finds class folders and the images of each.

    What is not read goes to ``not_read``, by names below ``root``. Raises :class:`CydasError`, which begins with
    ``flag``, for links that lead upwards, or to images that are read already.
    """

    def __init__(self, root: str, flag: str, not_read: NotRead):
        self.loose = 0  #: images beside the class folders
        self._root = root
        self._prefix = len(os.path.join(root, ""))
        self._flag = flag
        self._not_read = not_read
        self._folders: dict[tuple[int, int], tuple[str, bool]] = {}  #: path, and whether a link led there
        self._linked: dict[tuple[int, int], str] = {}  #: image files that links led to
        self._own: list[str] = []  #: image files in their own places

    def classes(self) -> list[str]:
        """The class folders in the order of their names. Raises :class:`CydasError` where ``root`` cannot be read."""
        try:
            entries = sorted(os.scandir(self._root), key=lambda entry: entry.name)
        except OSError as error:
            raise CydasError(f"{self._flag}: cannot read the folder {self._root}: {error.strerror}") from None
        names = []
        for entry in entries:
            kind = self._kind(entry)
            if kind == "folder":
                names.append(entry.name)
            elif kind == "image":
                self.loose += 1
                self._not_read.add("image(s) beside the class folders, so of no class", entry.name)
        return names

    def images(self, name: str) -> list[str]:
        """Paths of a class's images: folders, and the files in each, in the order of their names."""
        top = os.path.join(self._root, name)
        waiting = [(top, os.path.islink(top))]
        found: dict[str, list[str]] = {}
        while waiting:
            folder, by_link = waiting.pop()
            try:
                self._enter(folder, by_link)
                entries = list(os.scandir(folder))
            except OSError as error:
                self._not_read.add("folder(s) that cannot be read", f"{self.name(folder)}: {error.strerror}")
                continue
            found[folder] = []
            for entry in entries:
                kind = self._kind(entry)
                if kind == "folder":
                    waiting.append((entry.path, by_link or entry.is_symlink()))
                elif kind == "image":
                    self._note_image(entry)
                    found[folder].append(entry.name)
        return [os.path.join(folder, name) for folder in sorted(found) for name in sorted(found[folder])]

    def check_links(self) -> None:
        """Raise :class:`CydasError` where a link leads to an image that is read in its own place as well."""
        for path in self._own if self._linked else ():
            try:
                status = os.stat(path)
            except OSError:
                continue  # gone since: its turn to be read says so
            if (status.st_dev, status.st_ino) in self._linked:
                self._refuse(path, self._linked[status.st_dev, status.st_ino], "image")

    def name(self, path: str) -> str:
        """The path below ``root``."""
        return path[self._prefix :]

    def _kind(self, entry: os.DirEntry) -> str | None:
        """``folder`` or ``image``; None for what is not read, which is noted."""
        try:
            if is_hidden(entry.name):
                self._not_read.add("hidden or of the system", self.name(entry.path))
            elif entry.is_dir():
                return "folder"
            elif entry.is_file():
                if extension(entry.name) in IMAGE_EXTENSIONS:
                    return "image"
                self._not_read.add_file(self.name(entry.path))
            else:
                kind = "broken link(s)" if entry.is_symlink() else "neither file nor folder"
                self._not_read.add(kind, self.name(entry.path))
        except OSError as error:  # a link to itself, say
            self._not_read.add("that cannot be read", f"{self.name(entry.path)}: {error.strerror}")
        return None

    def _enter(self, folder: str, by_link: bool) -> None:
        """Raise :class:`CydasError` where a link leads upwards, or to a folder that is read already."""
        if os.path.islink(folder):
            target, here = os.path.realpath(folder), os.path.realpath(os.path.dirname(folder))
            if os.path.commonpath([target, here]) == target:
                raise CydasError(
                    f"{self._flag}: the link {folder} points upwards, to {target}, so that images would count again "
                    "and again: remove it"
                )
        status = os.stat(folder)
        known, known_by_link = self._folders.setdefault((status.st_dev, status.st_ino), (folder, by_link))
        # Without a link it is another folder: some network file systems give numbers twice.
        if known != folder and (by_link or known_by_link):
            self._refuse(known, folder, "folder")

    def _note_image(self, entry: os.DirEntry) -> None:
        if not entry.is_symlink():
            self._own.append(entry.path)
            return
        status = entry.stat()
        known = self._linked.setdefault((status.st_dev, status.st_ino), entry.path)
        if known != entry.path:
            self._refuse(known, entry.path, "image")

    def _refuse(self, one: str, other: str, what: str) -> None:
        raise CydasError(
            f"{self._flag}: {one} and {other} are the same {what} by a link, so that it would count twice: remove one"
        )
