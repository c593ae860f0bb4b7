"""Whether a native step still stands for its modules: the same ones, with the weights and settings it was made for.

All of it is looked at on every call, so everything here is a loop in C over lists made before. A search cell of 650
modules and 420 tensors takes half a millisecond.
"""

from collections.abc import Sequence
from itertools import chain, repeat, starmap
from operator import attrgetter, contains, itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import module as all_modules

from CyDAS.utils.present import present

#: Types of tensors that are numbers in memory and nothing else.
PLAIN_TYPES = frozenset((Tensor, nn.Parameter))
#: What the arithmetic of modules without parameters to check depends on; it must stay as it was.
SETTINGS = {
    nn.Conv2d: itemgetter("stride", "padding", "dilation", "groups", "padding_mode"),
    nn.MaxPool2d: itemgetter("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices"),
    nn.AvgPool2d: itemgetter("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"),
}
#: Settings of a batch norm. They may change, but must be the same in all norms of a step.
NORM_SETTINGS = itemgetter("training", "eps", "momentum", "track_running_stats")
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
#: Hooks of all modules, empty unless there are such. PyTorch's own function that asks for them is younger than 2.6.
GLOBAL_HOOKS = tuple(getattr(all_modules, f"_global{name}") for name in HOOKS)
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
#: What the kernels rely on in a tensor.
_ASPECTS = attrgetter("dtype", "shape", "is_cpu", "layout")


def is_convolution(
    conv: nn.Module | None, c_in: int, c_out: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
) -> bool:
    """Whether a module is this convolution: without bias, and with zeros around so that stride 1 keeps the size."""
    square = (c_out, c_in // groups, kernel, kernel)
    padding = dilation * (kernel - 1) // 2
    settings = (stride, stride), (padding, padding), (dilation, dilation), groups, "zeros"
    return (
        type(conv) is nn.Conv2d
        and conv.bias is None
        and conv.weight.shape == square
        and SETTINGS[nn.Conv2d](vars(conv)) == settings
    )


class _Found(NamedTuple):
    """Dictionaries of the modules, looked up once."""

    attributes: list[dict[str, Any]]
    children: list[dict[str, nn.Module]]
    hooks: list[dict]
    settings: list[tuple[itemgetter, list[dict]]]


class Watch:
    """Trees of modules that a native step replaces; :meth:`holds` says whether calling them would still be the same.

    Replaced children, changed settings, other classes (parametrizations make them), a ``forward`` of an instance's own
    and hooks are noticed.
    """

    def __init__(self, roots: Sequence[nn.Module], holder: nn.Module | None = None):
        """``holder``: the module whose children the roots are, to notice when they are replaced."""
        self._modules = list(dict.fromkeys(module for root in roots for module in root.modules()))
        self._holder = holder._modules if holder else {}
        self._roots = {name: child for name, child in self._holder.items() if child in roots}
        self._types = [*map(type, self._modules)]
        found = self._find()
        self._children = [*chain.from_iterable(map(dict.values, found.children))]
        self._settings = [[*map(read, where)] for read, where in found.settings]
        self._found: _Found | None = found

    def __getstate__(self) -> dict[str, Any]:
        """Without the dictionaries: a copied module has new ones, and its attributes' is not a copy of the old."""
        return vars(self) | {"_found": None}

    def _find(self) -> _Found:
        attributes = [*map(vars, self._modules)]
        by_kind = {
            kind: [own for own, t in zip(attributes, self._types, strict=True) if t is kind] for kind in SETTINGS
        }
        return _Found(
            attributes,
            [own["_modules"] for own in attributes],
            [own[name] for own in attributes for name in HOOKS],
            [(read, by_kind[kind]) for kind, read in SETTINGS.items()],
        )

    def holds(self) -> bool:
        found = self._found = self._found or self._find()
        return (
            not any(found.hooks)
            and not any(GLOBAL_HOOKS)
            and all(self._holder.get(name) is root for name, root in self._roots.items())
            and [*chain.from_iterable(map(dict.values, found.children))] == self._children
            and [*map(type, self._modules)] == self._types
            and not any(map(contains, found.attributes, repeat("forward")))
            and [[*map(read, where)] for read, where in found.settings] == self._settings
        )


class Parts:
    """Parameters and buffers in trees of modules, as a native step takes them."""

    def __init__(
        self,
        places: Sequence[tuple[nn.Module, str] | None],
        norms: Sequence[nn.BatchNorm2d],
        roots: Sequence[nn.Module],
        holder: nn.Module | None = None,
    ):
        """``places``: where each of the step's parameters is, None where it takes none; ``roots``, ``holder``: the
        modules that the step replaces, as :class:`Watch` takes them.

        Raises ``TypeError`` for what the kernels do not know.
        """
        if not all(type(norm) is nn.BatchNorm2d and norm.track_running_stats for norm in norms):
            raise TypeError("only batch norms with running statistics")
        if len(set(norms)) < len(norms):
            raise TypeError("a batch norm occurs twice")
        modules = dict.fromkeys(module for root in roots for module in root.modules())
        optional: list[tuple[nn.Module, str]] = [(m, "bias") for m in modules if type(m) is nn.Conv2d]
        optional += [(norm, name) for norm in norms for name in ("weight", "bias")]
        places = [place if place and place[0]._parameters[place[1]] is not None else None for place in places]
        self.norms = list(norms)
        self.slots = [slot for slot, place in enumerate(places) if place]
        self._size = len(places)
        self._parameters = [(module._parameters, name) for module, name in filter(None, places)]
        self._absent = [(module._parameters, name) for module, name in optional if (module, name) not in places]
        self._buffers = [(norm._buffers, name) for norm in norms for name in BUFFERS]
        self._shapes = [present(tensor).shape for tensor in self.parameters() + self.buffers()]
        self._wanted: dict[torch.dtype, list[tuple]] = {}
        self._watch = Watch(roots, holder)

    def parameters(self) -> list[Tensor | None]:
        """All parameters that the step takes, now."""
        return [own.get(name) for own, name in self._parameters]

    def buffers(self) -> list[Tensor | None]:
        """Running mean, running variance and number of batches of every norm, now."""
        return [own.get(name) for own, name in self._buffers]

    def addresses(self, tensors: Sequence[Tensor | None]) -> list[int]:
        """Where parameters, or their gradients, lie: one number for each place, 0 where there is none."""
        addresses = [0] * self._size
        for slot, tensor in zip(self.slots, tensors, strict=True):
            if tensor is not None:
                addresses[slot] = tensor.data_ptr()
        return addresses

    def eps_and_momentum(self) -> tuple[float, float]:
        """Of all norms."""
        return (self.norms[0].eps, present(self.norms[0].momentum)) if self.norms else (0.0, 0.0)

    def hold(self, dtype: torch.dtype, training: bool) -> bool:
        """Whether modules and tensors are those that the step was made for, the latter in ``dtype`` on a CPU, and all
        norms in the mode ``training``."""
        return self._watch.holds() and self._norms_agree(training) and self._tensors_fit(dtype, training)

    def _norms_agree(self, training: bool) -> bool:
        settings = {*map(NORM_SETTINGS, map(vars, self.norms))}
        if len(settings) != 1:
            return not settings
        in_training, eps, momentum, tracks = settings.pop()
        return in_training is training and type(eps) is float and type(momentum) in (float, int) and tracks is True

    def _tensors_fit(self, dtype: torch.dtype, training: bool) -> bool:
        buffers: list[Any] = self.buffers()  # whose types are the first thing that is looked at
        tensors = self.parameters() + buffers
        return (
            PLAIN_TYPES.issuperset(map(type, tensors))
            and {None}.issuperset(starmap(dict.get, self._absent))
            and [*map(_ASPECTS, tensors)] == self._wanted_aspects(dtype)
            and all(map(Tensor.is_contiguous, buffers))
            and not (training and any(map(Tensor.is_inference, buffers[2::3])))
        )

    def _wanted_aspects(self, dtype: torch.dtype) -> list[tuple]:
        if dtype not in self._wanted:
            parameters = len(self._shapes) - len(self._buffers)
            dtypes = [dtype] * parameters + [dtype, dtype, torch.int64] * len(self.norms)
            self._wanted[dtype] = [*zip(dtypes, self._shapes, repeat(True), repeat(torch.strided))]
        return self._wanted[dtype]
