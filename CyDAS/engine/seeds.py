"""Several searches that differ in their seeds, each in a process of its own, and what they find together."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from CyDAS.config import SearchConfig
from CyDAS.engine.results import RESULT
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.flags import to_arguments
from CyDAS.utils.present import present
from CyDAS.utils.texts import say


def search_with_seeds(program: Path, config: SearchConfig, given: set[str], space: Any) -> None:
    """Run ``program`` for each of ``--seeds``, ``--jobs`` at a time; print and write what was found.

    ``given``: the names of the flags that were given; ``space``: the class of the search space. Raises
    :class:`CydasError` where a search failed, after the others have ended, and under torchrun, which would start every
    search once for each of its processes.
    """
    if "seed" in given:
        raise CydasError("--seeds gives every search a seed of its own: leave out --seed")
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CydasError("--seeds starts processes of its own: leave out torchrun (NGPUS=1), or start seed by seed")
    names = {seed: f"{config.name}-seed{seed}" for seed in present(config.seeds)}
    jobs = min(config.jobs, len(names))
    threads = config.threads or max(1, torch.get_num_threads() // jobs)
    flags = to_arguments(config, given - {"seeds", "jobs", "seed", "name", "resume", "threads"})
    flags += ["--resume_or_start"] if config.resume else []
    commands = {
        seed: [
            *(sys.executable, str(program), *flags, "--seed", str(seed), "--name", name, "--threads", str(threads)),
        ]
        for seed, name in names.items()
    }
    codes = run_all(commands, jobs, threads, visible_gpus() if config.device != "cpu" else [])
    failed = [str(seed) for seed in names if codes[seed]]
    if failed:
        raise CydasError(f"the search failed for seed {', '.join(failed)}: what it said stands above")
    results = {s: read_json(config.output_dir / "search" / name / RESULT, "result") for s, name in names.items()}
    for seed, result in results.items():
        print(f"seed {seed}: {space.brief(space.parse(result['genotype'], None, f'seed {seed}'))}")
    summary: dict[str, Any] = {"seeds": {str(seed): result for seed, result in results.items()}}
    known = space.summarise(list(results.values()))
    if known:
        summary["benchmark"] = known
        for key, (average, deviation) in known.items():
            print(f"{key} {average:.2f} ± {deviation:.2f}")
    path = config.output_dir / "search" / f"{config.name}-seeds.json"
    write_json(path, summary)
    say(f"written: {path}")


def visible_gpus() -> list[str]:
    """The GPUs that this program sees, as CUDA_VISIBLE_DEVICES names them (numbers or UUIDs); none is started."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(number) for number in range(count)] if named is None else named.split(",")
    return [name.strip() for name in names[:count]]


def run_all(commands: dict[int, list[str]], jobs: int, threads: int, gpus: Sequence[str] = ()) -> dict[int, int]:
    """Run the commands, ``jobs`` at a time, and return their exit codes. Should this program end, so do they.

    Those that run at the same time see one of the ``gpus`` each, in turn where there are fewer GPUs than jobs. With
    several at a time only their errors are shown: lines of different searches would mix.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}  # read where PyTorch is imported
    output = subprocess.DEVNULL if jobs > 1 else None
    waiting, codes = dict(commands), {}
    running: dict[int, subprocess.Popen] = {}
    places: dict[int, int] = {}  #: of those that run: which of the jobs they are
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                seed = next(iter(waiting))
                print(f"seed {seed}: started", flush=True)
                places[seed] = min(set(range(jobs)) - {places[other] for other in running})
                gpu = {"CUDA_VISIBLE_DEVICES": gpus[places[seed] % len(gpus)]} if gpus and jobs > 1 else {}
                # In sessions of their own: a Ctrl-C reaches them through this program, once.
                running[seed] = subprocess.Popen(
                    waiting.pop(seed), env=environment | gpu, stdout=output, start_new_session=True
                )
            for seed, process in list(running.items()):
                if process.poll() is not None:
                    codes[seed] = running.pop(seed).returncode
                    print(f"seed {seed}: ended" + (f" with code {codes[seed]}" if codes[seed] else ""), flush=True)
            time.sleep(0.2)
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
        signal.signal(signal.SIGTERM, before)
    return codes
