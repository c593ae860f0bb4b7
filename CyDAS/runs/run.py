"""A run: its seed, its device, its folder with lock and log."""

import fcntl
import os
import platform
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from CyDAS.runs.about import RECORD, device_name, other_bits
from CyDAS.runs.checkpoint import load_newest
from CyDAS.runs.logs import RunLog
from CyDAS.utils.distributed import Process, gather, has_apex, start_process, stop_process
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json
from CyDAS.utils.lost import leave_word

#: Who holds a run's folder.
LOCK = "run.lock"


@contextmanager
def started(config: Any) -> Iterator[Process]:
    """This process among the run's, which it leaves however the program ends; by an error, it tells them which."""
    process = start(config)
    try:
        yield process
    except BaseException as error:
        leave_word(error)
        raise
    finally:
        stop_process()


def start(config: Any) -> Process:
    """Choose device and threads and seed every generator, alike on all processes."""
    if config.threads:
        torch.set_num_threads(config.threads)
    process = start_process(config.device, config.process_timeout)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    if config.tf32:
        torch.set_float32_matmul_precision("high")  # convolutions take TensorFloat-32 by PyTorch's own default
    seed_everything(config.seed)
    return process


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


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


class Opened(NamedTuple):
    """A run's folder in use."""

    log: RunLog
    checkpoint: dict[str, Any] | None  #: what to go on from
    passed_over: list[str]  #: newer files that are no checkpoint of this run


@contextmanager
def opened(
    folder: Path,
    config: Any,
    process: Process,
    about: dict[str, Any],
    checkpoint: Path,
    accept: Callable,
    log_name: str,
) -> Iterator[Opened]:
    """The run's folder, held for as long as the context lasts, and its log, which says first what it should.

    ``log_name``: the log's file name; the other arguments are those of :func:`open_run`.
    """
    lock, content, passed_over = open_run(folder, config, process, about, checkpoint, accept)
    try:
        log = RunLog(folder if process.is_main else None, log_name)
        try:
            introduce(config, process, log, lock, passed_over)
            changes = other_bits(content.get("about"), about) if content else []
            if changes:
                log.warning("from here on other bits than without the interruption: %s", "; ".join(changes))
            yield Opened(log, content, passed_over)
        finally:
            log.close()
    finally:
        if lock:
            lock.release()


def open_run(
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
    lock, content, passed_over, problem = None, None, [], None
    try:
        if config.resume:
            content = load_newest(checkpoint, accept, passed_over.append)
        if process.is_main:
            lock = prepare_folder(folder, config.resume, config.overwrite)
            if not (folder / RECORD).exists():
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


def introduce(config: Any, process: Process, log: RunLog, lock: Lock | None, passed_over: list[str]) -> None:
    """The first lines of a run's log: where it computes, and what the user should know of its folder and flags."""
    log.info("device %s, %d process(es)", device_name(process.device), process.world_size)
    log.info("an update sees %d images: %d at a time, %d of these one after the other, in %d process(es)",
             config.global_batch(process.world_size), config.batch_size, config.accum_steps,
             process.world_size)  # fmt: skip
    if lock and lock.former:
        log.warning("%s held this folder and has ended without a word: taken over", lock.former)
    for reason in passed_over:
        log.warning("%s", reason)
    if config.sync_bn and process.device.type == "cpu" and process.world_size > 1:
        log.warning("--sync_bn: PyTorch has it on GPUs only; each process goes on with its own statistics")
    if config.use_apex and not has_apex():
        log.warning("--use_apex: apex is not installed; PyTorch's own SyncBatchNorm takes its place")
