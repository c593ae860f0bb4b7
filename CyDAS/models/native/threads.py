"""How many threads compute a native step: fewer where other programs keep the cores busy.

The threads of a step wait for each other some ten times in it. One that shares its core with another program makes all
others wait for it, and two of them are slower than one. What is computed depends on the number of parts alone, which is
that of the threads that were asked for.
"""

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import torch

#: Seconds between two looks at the machine.
EVERY = 0.1
#: How much of the mean over all looks is the last one.
WEIGHT = 0.2


def shares(images: int) -> tuple[int, int]:
    """In how many parts a step's images are computed, and by how many threads."""
    wanted = torch.get_num_threads()
    parts = min(wanted, images)
    if parts == 1:
        return 1, 1
    return parts, max(1, min(parts, wanted - NEIGHBOURS.on_our_cores(wanted)))


class Neighbours:
    """Threads of other processes that compute while this one does, a mean over the last second. Linux tells, others
    do not: there, and with the environment variable ``CYDAS_SHARE_CORES=0``, there are none.
    """

    def __init__(self, look: Callable[[], int], cores: int, clock: Callable[[], float] = time.monotonic):
        """``look``: how many there are now; raises ``OSError`` where nobody knows."""
        self._look, self._cores, self._clock = look, cores, clock
        self._due = 0.0 if os.environ.get("CYDAS_SHARE_CORES") != "0" else float("inf")
        self._mean = 0.0

    def on_our_cores(self, wanted: int) -> int:
        """How many of them find no core where this process has ``wanted`` threads."""
        if (now := self._clock()) >= self._due:
            self._due = now + EVERY
            try:
                self._mean += WEIGHT * (self._look() - self._mean)
            except OSError:
                self._due, self._mean = float("inf"), 0.0
        return max(0, round(self._mean - max(0, self._cores - wanted)))


def computing_elsewhere() -> int:
    """Threads of other processes that have a core or wait for one, at this moment.

    Raises ``OSError`` where that says nothing: not on Linux, or where this process may not use all of the machine's
    cores, so that others' threads may have cores of their own.
    """
    if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) != os.cpu_count():
        raise OSError("this process has a part of the machine")
    own = 0  # counted first: one that falls asleep meanwhile is not taken for another process's
    for task in os.listdir("/proc/self/task"):
        try:
            own += Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0] == "R"
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    found = re.search(r"(\d+)/\d+", Path("/proc/loadavg").read_text())
    if found is None:
        raise OSError("/proc/loadavg does not count threads")
    return max(0, int(found[1]) - own)


NEIGHBOURS = Neighbours(computing_elsewhere, os.cpu_count() or 1)
