"""Images that a user names, one by one or by their folders."""

import os
from pathlib import Path

from CyDAS.data.contents import IMAGE_EXTENSIONS, extension, is_hidden
from CyDAS.utils.errors import CydasError
from CyDAS.utils.texts import few


def find_images(paths: list[Path]) -> list[tuple[Path, str]]:
    """Image files, those of folders in the order of their names, and what predictions of each are called.

    Raises :class:`CydasError` for a path that is not there, and for two files whose predictions would have one name.
    """
    found: dict[str, Path] = {}
    for path in paths:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        if not path.exists():
            raise CydasError(f"--predict: there is no {path}")
        for file in files:
            if path.is_dir() and (is_hidden(file.name) or extension(file.name) not in IMAGE_EXTENSIONS):
                continue
            inner = file.relative_to(path) if path.is_dir() else Path(file.name)
            name = str(inner.with_suffix("")).replace(os.sep, "__")
            if found.setdefault(name, file) != file:
                raise CydasError(f"--predict: {found[name]} and {file} would both be written as {name}")
    if not found:
        raise CydasError(f"--predict: there are no images in {few([str(path) for path in paths])}")
    return [(file, name) for name, file in found.items()]
