"""Images that a user names one by one, or by their folders."""

from collections.abc import Sequence
from pathlib import Path

from CyDAS.data.contents import IMAGE_EXTENSIONS, extension, is_hidden
from CyDAS.utils.errors import CydasError


def image_files(paths: Sequence[Path], flag: str) -> list[Path]:
    """The files, and the images in the folders (not in folders below them) in the order of their names.

    Raises :class:`CydasError`, which begins with ``flag``, for a path where there is nothing, and for a folder without
    images.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            if not path.is_file():
                raise CydasError(f"{flag}: there is no file {path}")
            files.append(path)
            continue
        own = [file for file in sorted(path.iterdir()) if file.is_file() and not is_hidden(file.name)]
        images = [file for file in own if extension(file.name) in IMAGE_EXTENSIONS]
        if not images:
            raise CydasError(f"{flag}: there are no images in the folder {path}")
        files += images
    return files
