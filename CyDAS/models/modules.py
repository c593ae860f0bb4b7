"""``nn.ModuleList`` as a type that says what is in it."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, overload

from torch import nn

if TYPE_CHECKING:
    Kind = TypeVar("Kind", bound=nn.Module, covariant=True)

    class Modules(nn.ModuleList, Generic[Kind]):
        def __init__(self, modules: Iterable[Kind] | None = None) -> None: ...
        def __iter__(self) -> Iterator[Kind]: ...
        @overload
        def __getitem__(self, idx: slice) -> "Modules[Kind]": ...
        @overload
        def __getitem__(self, idx: int) -> Kind: ...
        def __getitem__(self, idx: Any) -> Any: ...

else:

    class _Modules:
        """At run time ``Modules`` is ``nn.ModuleList`` itself, as a constructor, in annotations and as a base."""

        def __call__(self, modules: Iterable[nn.Module] | None = None) -> nn.ModuleList:
            return nn.ModuleList(modules)

        def __getitem__(self, kind: Any) -> type[nn.ModuleList]:
            return nn.ModuleList

    Modules = _Modules()

#: Stages of a network, each a list of cells.
Stages: TypeAlias = Modules[Modules[nn.Module]]
