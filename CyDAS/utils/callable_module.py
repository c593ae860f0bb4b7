"""Programs are modules, and functions of Python programs by the same name: ``CyDAS.search`` is both."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """Calls the function of ``CyDAS.api`` that is called like the module."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module("CyDAS.api"), self.__name__.rpartition(".")[2])(*arguments, **options)


def make_callable(name: str) -> None:
    """Let a module, which is being imported, be called; not one that is loaded without a place among the others."""
    if name in sys.modules:
        sys.modules[name].__class__ = _Callable
