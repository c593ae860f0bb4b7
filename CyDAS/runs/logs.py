"""What a run says: console, log file, figures, tracker, progress bar. Only rank 0 speaks."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from CyDAS.runs.trackers import Nowhere, Tracker
from CyDAS.utils.texts import OneLine, fitting

#: A run's figures, in its folder: a line for each step that has some, {"step": N, "figures": {NAME: VALUE}}.
FIGURES = "figures.jsonl"


class _ConsoleHandler(logging.Handler):
    """Lines that do not tear the progress bar apart."""

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        try:
            tqdm.write(fitting(line, sys.stdout), file=sys.stdout)
            sys.stdout.flush()
        except (OSError, ValueError, AttributeError):
            pass  # the terminal or the pipe has gone; the run need not go with it, and its file has the line


class RunLog:
    """The voice of one run. With ``folder`` None (a process that is not rank 0) it says nothing."""

    def __init__(self, folder: Path | None, file_name: str = "run.log", tracker: Tracker | None = None):
        self._logger = logging.getLogger("CyDAS")
        self._logger.setLevel(logging.INFO if folder else logging.ERROR)
        self._logger.propagate = False
        self._tracker: Tracker | None = None
        self._bar: tqdm | None = None
        self._speaks = folder is not None
        self._folder = folder
        self._unwritten = False  #: whether the last figures could not be written
        self.last_checkpoint: Path | None = None  #: what to go on from, should the run stop
        for handler in list(self._logger.handlers):
            self._logger.removeHandler(handler)
            handler.close()
        console = _ConsoleHandler()
        console.setFormatter(OneLine("%(asctime)s %(message)s", "%H:%M:%S"))
        if folder:  # before the console: a terminal that has gone must not cost the file a line
            file = logging.FileHandler(folder / file_name, encoding="utf-8", errors="backslashreplace")
            file.setFormatter(OneLine("%(asctime)s %(message)s"))
            self._logger.addHandler(file)
            self._tracker = Nowhere() if tracker is None else tracker
        self._logger.addHandler(console)

    def info(self, message: str, *values) -> None:
        self._logger.info(message, *values)

    def warning(self, message: str, *values) -> None:
        self._logger.warning(message, *values)

    def scalars(self, figures: dict[str, float], step: int) -> None:
        """Write figures to :data:`FIGURES` and to the tracker under their names."""
        if self._folder is None:
            return
        try:
            with open(self._folder / FIGURES, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, "figures": {n: float(v) for n, v in figures.items()}}) + "\n")
            if self._unwritten:
                self.warning("figures are in %s again from step %d on", FIGURES, step)
            self._unwritten = False
        except OSError as error:
            if not self._unwritten:  # of a disk that stays full one line is enough
                self.warning("figures of step %d and on are not in %s: %s", step, FIGURES, error)
            self._unwritten = True
        self._track("scalars", figures, step)

    def picture(self, name: str, pixels: Any, step: int) -> None:
        """Give a picture, uint8 [H, W, 3], to the tracker."""
        self._track("picture", name, pixels, step)

    def _track(self, what: str, *arguments: Any) -> None:
        """Where the tracker fails, the run goes on without it."""
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, what)(*arguments)
        except Exception as error:
            self._tracker = None
            self.warning("nothing more is tracked: %s: %s", type(error).__name__, " ".join(str(error).split())[:300])

    def start_progress(self, total: int, unit: str = "step") -> None:
        """Show a bar with the time left on a terminal; nothing elsewhere."""
        if self._speaks:
            self._bar = tqdm(total=total, unit=unit, disable=None, dynamic_ncols=True)

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._track("close")
