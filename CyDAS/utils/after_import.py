"""Something to do once another package has been imported, without importing it for that."""

import importlib.util
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType


class _Follower(MetaPathFinder):
    """Finds one package as all other finders do, and lets ``follower`` be imported right after it."""

    def __init__(self, package: str, follower: str):
        self._package, self._follower = package, follower
        self._is_asking = False  # the others, which does not make it one of them

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._package or self._is_asking:
            return None
        self._is_asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_asking = False
        if spec is not None and spec.loader is not None:
            # Of this one loader: an attribute hides its class's method.
            spec.loader.exec_module = self._following(spec.loader.exec_module)  # type: ignore[method-assign,assignment]
        return spec

    def _following(self, execute: Callable[[ModuleType], None]) -> Callable[[ModuleType], None]:
        def exec_module(module: ModuleType) -> None:
            execute(module)
            sys.meta_path[:] = [finder for finder in sys.meta_path if finder is not self]
            importlib.import_module(self._follower)

        return exec_module


def import_after(package: str, follower: str) -> None:
    """Import the module ``follower`` as soon as ``package`` is imported by whomever; now, where it already is."""
    if package in sys.modules:
        importlib.import_module(follower)
    else:
        sys.meta_path.insert(0, _Follower(package, follower))
