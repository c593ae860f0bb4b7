"""Runs as processes of this machine, some at a time."""

import os
import subprocess
import time
from collections.abc import Sequence

import torch

from CyDAS.utils.errors import stopping
from CyDAS.utils.texts import say


def visible_gpus() -> list[str]:
    """The GPUs that this program sees, as CUDA_VISIBLE_DEVICES names them (numbers or UUIDs); none is started."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if named is None else named.split(",")
    return [name.strip() for name in names[:count]]


def run_all(commands: dict[str, list[str]], jobs: int, threads: int, gpus: Sequence[str] = ()) -> dict[str, int]:
    """Run the commands, ``jobs`` at a time, and return their exit codes. Should this program end, so do they.

    Those that run at the same time see one of the ``gpus`` each, in turn where there are fewer GPUs than jobs. With
    several at a time only their errors are shown: lines of different runs would mix. Raises :class:`Stopped` for a
    signal, when all have saved and ended.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}  # read where PyTorch is imported
    output = subprocess.DEVNULL if jobs > 1 else None
    waiting, codes = dict(commands), dict[str, int]()
    running: dict[str, subprocess.Popen] = {}
    places: dict[str, int] = {}  #: of those that run: which of the jobs they are
    with stopping("the runs have saved and ended; to go on: the same command with --resume"):
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    name = next(iter(waiting))
                    say(f"{name}: started")
                    places[name] = min(set(range(jobs)) - {places[other] for other in running})
                    gpu = {"CUDA_VISIBLE_DEVICES": gpus[places[name] % len(gpus)]} if gpus and jobs > 1 else {}
                    # In sessions of their own: a Ctrl-C reaches them through this program, once.
                    running[name] = subprocess.Popen(
                        waiting.pop(name), env=environment | gpu, stdout=output, start_new_session=True
                    )
                for name, process in list(running.items()):
                    if process.poll() is not None:
                        codes[name] = running.pop(name).returncode
                        say(f"{name}: ended" + (f" with code {codes[name]}" if codes[name] else ""))
                time.sleep(0.2)
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                process.wait()
    return codes
