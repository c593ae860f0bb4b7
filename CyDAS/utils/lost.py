"""When a process of a run ends before the others: they say which one it was, and why.

A process that ends by an error leaves it in the store where the processes have found each other.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.distributed as dist

from CyDAS.utils.errors import CydasError, Stopped

#: What gloo, NCCL and the store say where another process is gone; all else that they say is an error of this one.
_GONE = re.compile(
    r"gloo/transport|ncclRemoteError|ncclSystemError|connection (was )?(closed|reset|refused|aborted)|broken pipe|"
    r"reset by peer|closed by peer|remote worker|timed?[ -]?out|failed to (recv|send)",
    re.IGNORECASE,
)
_FIRST = "first error"


class LostProcess(CydasError):
    """Another process of this run is gone."""


class _Meeting(NamedTuple):
    """Where the processes leave notes for each other."""

    store: dist.Store
    rank: int
    world_size: int


_meeting: _Meeting | None = None


def meet(store: dist.Store, rank: int, world_size: int) -> None:
    """Leave notes for the other processes in this ``store`` from now on."""
    global _meeting
    _meeting = _Meeting(dist.PrefixStore("notes", store), rank, world_size)


def forget() -> None:
    """Leave no more notes."""
    global _meeting
    _meeting = None


def leave_word(error: BaseException) -> None:
    """Tell the other processes by what error this one ends; the first to do so is the one that they believe.

    Best effort: where the store is gone nothing happens.
    """
    if _meeting is None or isinstance(error, LostProcess | Stopped | SystemExit | GeneratorExit):
        return
    text = str(error) if isinstance(error, CydasError) else f"{type(error).__name__} {error}".strip()
    try:
        _meeting.store.compare_set(_FIRST, "", f"{_meeting.rank} {text.splitlines()[0] if text else ''}")
    except RuntimeError:  # all of torch.distributed's errors are
        pass


@contextmanager
def together() -> Iterator[None]:
    """A message between processes. Raises :class:`LostProcess` where another process has gone, and says which and why.

    gloo notices it at once; NCCL's own watchdog ends the process after the time-out.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if not _is_gone(error):
            raise
        raise LostProcess(_what_happened(str(error).splitlines()[0])) from None


def _is_gone(error: RuntimeError) -> bool:
    if "enforce fail" in str(error):  # gloo's word for messages that do not fit together
        return False
    return isinstance(error, dist.DistNetworkError | dist.DistStoreError) or bool(_GONE.search(str(error)))


def _what_happened(reason: str) -> str:
    word = _first_word()
    if word:
        first, _, text = word.partition(" ")
        return f"{text} (in process {first}, which has ended this run)"
    rank = dist.get_rank()
    # with more than two it cannot be told from here; torchrun says which one it has lost
    who = f"process {1 - rank}" if _meeting and _meeting.world_size == 2 else "it"
    return (
        f"process {rank} has lost another process of this run: {who} has ended or does not answer ({reason}). "
        "Go on with --resume; torchrun --max-restarts N does so by itself"
    )


def _first_word() -> str | None:
    try:
        if _meeting and _meeting.store.check([_FIRST]):
            return _meeting.store.get(_FIRST).decode(errors="replace")
    except RuntimeError:
        pass
    return None
