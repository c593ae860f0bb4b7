"""Nothing is lost: when a run saves, what it does when that fails, and how it stops when it is told to."""

import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from CyDAS.runs.checkpoint import save_checkpoint
from CyDAS.runs.logs import RunLog
from CyDAS.utils.distributed import Process, any_of, gather, is_distributed
from CyDAS.utils.errors import CydasError, Stopped
from CyDAS.utils.lost import LostProcess

SIGNALS = (signal.SIGTERM, signal.SIGINT)
#: Several processes agree on what to do every so many steps only: it costs a message.
AGREE_EVERY = 10
#: Under torchrun one signal may come twice, from torchrun and from a scheduler: so many seconds it is the same one.
ECHO = 5.0


class Keeper:
    """Saves a run's checkpoint after every phase, and within it every so many minutes or when a signal says stop.

    A context in which SIGTERM and SIGINT are noted; a second one acts at once.
    """

    def __init__(self, path: Path, minutes: float, process: Process, log: RunLog, *, keep: bool, again: list[str]):
        """``keep``: the file at ``path`` is good, so that it may become the one before; ``again``: flags to go on."""
        self.path = path
        self.process = process
        self.log = log
        self._keep = keep
        self._again = again
        self._seconds = minutes * 60
        self._saved_at = time.monotonic()
        self._signal = 0
        self._told_at: float | None = None  #: when the first signal came, under torchrun
        self._steps = 0
        self._failure: str | None = None
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> "Keeper":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # who has lost another process ends anyway, and has to say so: torchrun's signal may come before that
        speaks = isinstance(error, LostProcess) and "TORCHELASTIC_RUN_ID" in os.environ
        for number, handler in self._handlers.items():
            signal.signal(number, signal.SIG_IGN if speaks else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._told_at is not None:
            if now - self._told_at >= ECHO:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        if "TORCHELASTIC_RUN_ID" in os.environ:
            self._told_at = now
        else:
            for known in SIGNALS:  # the next one acts as if nobody listened
                signal.signal(known, signal.SIG_DFL)
        self._signal = number
        if self.process.is_main:
            name = signal.Signals(number).name
            os.write(2, f"{name}: finishing the step, then saving; a second signal stops at once\n".encode())

    def wants(self) -> tuple[bool, bool]:
        """(whether to save now, whether to stop then), the same on all processes; asked after every step."""
        self._steps += 1
        due = self._seconds > 0 and time.monotonic() - self._saved_at >= self._seconds
        if not is_distributed():
            return due or self._signal > 0, self._signal > 0
        if self._steps % AGREE_EVERY:
            return False, False
        due = any_of(due)
        stop = self.must_stop()
        return due or stop, stop

    def must_stop(self) -> bool:
        """Whether a signal has come to any process; asked where all of them stand at the same place."""
        if is_distributed():
            self._signal = max(gather(self._signal))
        return self._signal > 0

    def save(self, content: dict[str, Any]) -> None:
        """Write the checkpoint (the main process does). Where that fails the run goes on, and the next one is tried."""
        self._saved_at = time.monotonic()
        if not self.process.is_main:
            return
        try:
            save_checkpoint(self.path, content, keep=self._keep)
        except CydasError as error:
            self._failure = str(error)
            self.log.warning("%s. The run goes on, earlier checkpoints are kept, the next save tries again", error)
        else:
            self._failure, self._keep = None, True
            self.log.last_checkpoint = self.path

    def try_to(self, what: str, action: Any, *arguments: Any) -> None:
        """Do something that the run does not depend on; where it cannot be done, say so."""
        try:
            action(*arguments)
        except (CydasError, OSError) as error:
            self.log.warning("%s: %s", what, error)

    def stop(self) -> None:
        """End the run as the signal wants it. Raises :class:`Stopped`, always."""
        number = self._signal or signal.SIGTERM
        argv = [argument for argument in sys.argv if argument != "--overwrite"]
        again = [*argv, *([] if "--resume" in argv else ["--resume"]), *self._again]
        how = "the same command with --resume" if is_distributed() else f"python {shlex.join(again)}"
        saved = f"NOT saved ({self._failure})" if self._failure else f"saved in {self.path}"
        if not self.process.is_main:
            raise Stopped(number, "")
        raise Stopped(number, f"stopped by {signal.Signals(number).name}, {saved}; to go on: {how}")

    def finish(self) -> None:
        """Raise :class:`CydasError` where the last checkpoint could not be written."""
        if self._failure:
            raise CydasError(f"the run has ended, but its last checkpoint is missing: {self._failure}")
