"""Opening a run that can go on: one context gives its process, folder, record, log, checkpoint and keeper."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from CyDAS.runs.about import device_name, how_made, other_bits
from CyDAS.runs.folder import Lock, take_folder
from CyDAS.runs.keeper import Keeper
from CyDAS.runs.logs import RunLog
from CyDAS.runs.resume import choose_checkpoint, find_file
from CyDAS.runs.start import seed_everything
from CyDAS.runs.trackers import open_tracker
from CyDAS.utils.distributed import Process, has_apex


@dataclass
class Run:
    """A run whose folder is held, and whose log has said what it should of that."""

    folder: Path
    process: Process
    log: RunLog
    keeper: Keeper
    about: dict[str, Any]  #: how it was made, for all that it writes
    checkpoint: dict[str, Any] | None  #: what to go on from
    source: Path  #: the checkpoint's file

    def begin(self, seed: int, resume: Callable[[dict[str, Any], Path, Process], None]) -> None:
        """``resume(content, file, process)`` from the checkpoint; where there is none, start with ``seed``."""
        if self.checkpoint:
            self.log.last_checkpoint = self.source
            resume(self.checkpoint, self.source, self.process)
        else:
            seed_everything(seed + self.process.rank)  # from here on the processes' choices differ


@contextmanager
def opened(
    kind: str,
    config: Any,
    process: Process,
    file: str,
    accept: Callable[[dict[str, Any], Path], None],
    data: dict[str, Any],
    kernels: Callable[[], dict[str, Any]],
    notes: list[str],
    *,
    may_be_path: bool = False,
) -> Iterator[Run]:
    """The run ``OUTPUT_DIR/kind/NAME``, held for as long as the context lasts; a signal in it saves before it stops.

    ``file``: its checkpoint's name, which ``may_be_path``: another run's; ``accept(content, file)`` raises
    :class:`CydasError` for a checkpoint of something else; ``data``: the record of what is read; ``kernels``: says
    which native kernels there are; ``notes``: warnings for the log. Raises :class:`CydasError` where the folder or the
    checkpoint cannot be used, and at the end where the last checkpoint could not be written.
    """
    folder = config.output_dir / kind / config.name
    own = folder / Path(file).name
    source = choose_checkpoint(config, folder, own, find_file(file, folder, may_be_path, notes.append))
    about = how_made(config, process, kernels) | {"data": data}
    lock, content, passed_over = take_folder(folder, config, process, about, source, accept)
    try:
        tracker = open_tracker(config.tracker, folder, about["config"]) if process.is_main else None
        log = RunLog(folder if process.is_main else None, f"{kind}.log", tracker)
        try:
            introduce(config, process, log, lock, passed_over)
            changes = other_bits(content.get("about"), about) if content else []
            if changes:
                log.warning("from here on other bits than without the interruption: %s", "; ".join(changes))
            for line in notes:
                log.warning("%s", line)
            is_own = own.resolve() == source.resolve()
            keep, again = not (is_own and passed_over), [] if is_own else ["--resume_name", own.name]
            with Keeper(own, config.checkpoint_minutes, process, log, keep=keep, again=again) as keeper:
                yield Run(folder, process, log, keeper, about, content, source)
                keeper.finish()
        finally:
            log.close()
    finally:
        if lock:
            lock.release()


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
