"""How many threads compute a native step: fewer where other programs keep the cores busy.

The threads of a step wait for each other some ten times in it. One that shares its core with another program makes all
others wait for it, and two of them are slower than one. Results do not depend on how many there are.
"""

import os
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
    parts = min(torch.get_num_threads(), images)
    return parts, max(1, parts - NEIGHBOURS.on_our_cores(torch.get_num_threads())) if parts > 1 else 1


class Neighbours:
    """Threads of other programs that compute while this one does, a mean over the last second. Linux tells, others
    do not: there, and with the environment variable ``CYDAS_SHARE_CORES=0``, there are none.
    """

    def __init__(self, look: Callable[[], int], cores: int, clock: Callable[[], float] = time.monotonic):
        """``look``: how many there are now; raises ``OSError`` or ``ValueError`` where nobody knows."""
        self._look, self._cores, self._clock = look, cores, clock
        self._due = 0.0 if os.environ.get("CYDAS_SHARE_CORES") != "0" else float("inf")
        self._mean = 0.0

    def on_our_cores(self, wanted: int) -> int:
        """How many of them find no core where this process has ``wanted`` threads."""
        if (now := self._clock()) >= self._due:
            self._due = now + EVERY
            try:
                self._mean += WEIGHT * (self._look() - self._mean)
            except (OSError, ValueError):
                self._due, self._mean = float("inf"), 0.0
        return max(0, round(self._mean - max(0, self._cores - wanted)))


def computing_elsewhere() -> int:
    """Threads of other processes that have a core or wait for one, at this moment."""
    everywhere = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    own = 0
    for task in os.listdir("/proc/self/task"):
        try:
            own += Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[0] == "R"
        except OSError:  # it has ended meanwhile
            continue
    return max(0, everywhere - own)


NEIGHBOURS = Neighbours(computing_elsewhere, os.cpu_count() or 1)
