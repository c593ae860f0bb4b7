"""A run's folder: who holds it, what is deleted in it, and which of its checkpoints is the newest good one."""

import fcntl
import os
import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from CyDAS.runs.about import RECORD
from CyDAS.runs.checkpoint import load_newest
from CyDAS.utils.distributed import Process, gather
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json
from CyDAS.utils.settings import write_settings

#: Who holds a run's folder.
LOCK = "run.lock"


class Lock:
    """A run's hold on its folder; the operating system lets it go when the process ends, however it ends."""

    def __init__(self, folder: Path):
        """Raises :class:`CydasError` where another process holds the folder. ``former``: who held it last, if any."""
        self._file = open(folder / LOCK, "a+", errors="replace")
        self._file.seek(0)
        self.former = self._file.read(200).strip()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise CydasError(f"{folder} is in use by {self.former or 'another process'}") from None
        # A forked worker would hold the folder beyond this process's end.
        os.register_at_fork(after_in_child=self._file.close)

    def claim(self) -> None:
        """Say who holds the folder."""
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {platform.node()}")
        self._file.flush()

    def release(self, ended: bool = True) -> None:
        """``ended``: the run did so by itself, which an empty file says."""
        if ended:
            self._file.truncate(0)
        self._file.close()


def prepare_folder(folder: Path, resume: bool, overwrite: bool) -> Lock:
    """Make the run's folder, take hold of it and remove what a killed run has left half written.

    Raises :class:`CydasError` where it is in use, or holds an earlier run that nobody said to touch. Only a folder with
    a run's record in it is ever deleted.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder)
        try:
            _clear(folder, [path for path in folder.iterdir() if path.name != LOCK], resume, overwrite)
        except CydasError:
            lock.release(ended=False)
            raise
        lock.claim()
        for pattern in (".*.tmp", ".*.old"):
            for path in folder.glob(pattern):
                path.unlink()
        return lock
    except OSError as error:
        raise CydasError(f"cannot use the folder {folder}: {error.strerror}") from None


def take_folder(
    folder: Path,
    config: Any,
    process: Process,
    about: dict[str, Any],
    checkpoint: Path,
    accept: Callable[[dict[str, Any], Path], None],
) -> tuple[Lock | None, dict[str, Any] | None, list[str]]:
    """Take hold of the run's folder, write its record and, with ``resume``, read the newest good of its checkpoints.

    Returns the lock (of the main process), the checkpoint's content and what was passed over on the way to it. All
    processes raise the same :class:`CydasError` where one of them cannot.
    """
    lock, content, problem = None, None, None
    passed_over: list[str] = []
    try:
        if config.resume:
            content = load_newest(checkpoint, accept, passed_over.append)
        if process.is_main:
            lock = prepare_folder(folder, config.resume, config.overwrite)
            if not (folder / RECORD).exists():
                write_settings(folder, folder.parent.name, config.settings)
                write_json(folder / RECORD, about)
    except CydasError as error:
        problem = str(error)
    problems = [text for text in gather(problem) if text]
    if not problems and len(set(gather((tuple(passed_over), _position(content))))) > 1:
        problems = [f"the processes read different checkpoints: {checkpoint} must be the same file for all of them"]
    if problems:
        if lock:
            lock.release(ended=False)
        raise CydasError(problems[0])
    return lock, content, passed_over


def _position(content: dict[str, Any] | None) -> tuple | None:
    """How far a checkpoint's run had come: (steps of a search, epochs of a retraining, steps of its epoch)."""
    if content is None:
        return None
    search, first = content.get("search", {}), content["processes"][0]
    return search.get("step"), content.get("epoch"), first.get("epoch", {}).get("index")


def _clear(folder: Path, content: list[Path], resume: bool, overwrite: bool) -> None:
    """Delete what is in the folder, if that is asked for and may be done."""
    if resume or not content:
        return
    if not overwrite:
        raise CydasError(
            f"{folder} holds an earlier run: --resume goes on with it, --overwrite deletes it, --name takes another"
        )
    if not (folder / RECORD).exists():
        raise CydasError(f"{folder} holds files, but no {RECORD} of a run: it is not deleted; take another --name")
    for path in content:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
