"""A Python file of the user's own that adds a search space or a data set: it is run before flags are read."""

import argparse
import importlib.util
import sys
from pathlib import Path

from CyDAS.utils.errors import CydasError
from CyDAS.utils.present import present


def add_extension_flag(parser: argparse.ArgumentParser, what: str) -> None:
    """``--extension`` of a program without a configuration: the file is run as soon as the flag is read."""
    text = f"Python file of your own that adds {what}"
    parser.add_argument("--extension", type=load_extension, metavar="PATH", help=text)


def load_extension(path: Path | str) -> None:
    """Import the file, once, as a module of its own name; what it imports may lie beside it.

    It is run only where the user names it, on the command line or in a file of settings: what a checkpoint says of it
    is never followed. Raises :class:`CydasError` for no such file or a name that another module has; what the file
    itself raises is its author's to see.
    """
    path = Path(path)
    if path.suffix != ".py" or not path.is_file():
        raise CydasError(f"--extension {path}: there is no such Python file")
    known = sys.modules.get(path.stem)
    file = getattr(known, "__file__", None)
    if file and Path(file).resolve() == path.resolve():
        return
    if known or path.stem in sys.stdlib_module_names or not path.stem.isidentifier():
        raise CydasError(f"--extension {path}: another module is called {path.stem}, or none can be: rename the file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = present(importlib.util.spec_from_file_location(path.stem, path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        present(spec.loader).exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
