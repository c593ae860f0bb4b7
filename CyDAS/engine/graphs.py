"""CUDA graphs: a search's updates are recorded once and then replayed, without the host's work for each kernel.

Shapes are alike in all steps of a cycle, while the evaluation network, its optimisers and so all addresses change with
it: what was recorded is dropped when a cycle starts. Whatever the host reads while it records (learning rates, the
regulariser's factor) is part of the recording, so that each of their values has a recording of its own.
"""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from CyDAS.engine.optim import Figures

#: Updates of a kind that are taken as ever before one is recorded: buffers are made and kernels are chosen in them.
WARM_UP = 3

#: From a batch, x [N, C, H, W] and y [N], to the figures of the update that was taken with it.
Update = Callable[[Tensor, Tensor], Figures]


class CudaRecorder:
    """All that is asked of CUDA. One stream and one pool of memory serve every recording of a search."""

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()

    def aside(self, action: Callable[[], Any]) -> Any:
        """Do it in the stream of the recordings, as what is to be recorded next must have been done before."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            result = action()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return result

    def record(self, action: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """How to do the action again, and where its result then lies. It has not been done by recording it."""
        graph = torch.cuda.CUDAGraph()
        # other threads, as the one that pins a loader's batches, may go on meanwhile
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = action()
        return graph.replay, result


class _Recording:
    """One update in fixed memory."""

    def __init__(self, recorder: CudaRecorder, update: Update, x: Tensor, y: Tensor):
        self._x, self._y = x.clone(), y.clone()
        self._names: list[str] = []
        self._replay, self._values = recorder.record(lambda: self._take(update))

    def _take(self, update: Update) -> Tensor:
        figures = update(self._x, self._y)
        self._names = list(figures)
        return torch.stack([value.detach() for value in figures.values()]).to(torch.float64)

    def take(self, x: Tensor, y: Tensor) -> Figures:
        self._x.copy_(x)
        self._y.copy_(y)
        self._replay()
        values = self._values.clone()  # the next replay, of whichever update, writes over it
        return dict(zip(self._names, values.unbind(), strict=True))


class UpdateGraphs:
    """Takes updates: the first :data:`WARM_UP` of a kind as they are, the others by replaying what was recorded."""

    def __init__(self, recorder: CudaRecorder):
        self._recorder = recorder
        self._recordings: dict[str, tuple[Hashable, _Recording]] = {}
        self._seen: dict[str, tuple[Hashable, int]] = {}

    def reset(self) -> None:
        """Forget all recordings: networks or optimisers are others now."""
        self._recordings.clear()
        self._seen.clear()

    def take(self, kind: str, constants: Hashable, update: Update, x: Tensor, y: Tensor) -> Figures:
        """The figures of one ``update``. ``constants``: whatever else it depends on beside tensors that stay in place.

        One recording of each ``kind`` is kept, that of the last constants.
        """
        key = constants, x.shape, x.dtype, x.stride(), y.shape, y.dtype
        known, recording = self._recordings.get(kind, (None, None))
        if recording is None or known != key:
            last, count = self._seen.get(kind, (None, 0))
            count = count if last == key else 0
            self._seen[kind] = key, count + 1
            if count < WARM_UP:
                return self._recorder.aside(lambda: update(x, y))
            self._recordings.pop(kind, None)  # its memory first
            recording = _Recording(self._recorder, update, x, y)
            self._recordings[kind] = key, recording
        return recording.take(x, y)
