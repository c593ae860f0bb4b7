"""Search an architecture: ``python CyDAS/search.py --help``."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean, stdev
from typing import Any

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import SearchConfig, parse, to_arguments
from CyDAS.data import load_data
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import Precision
from CyDAS.spaces import make_space
from CyDAS.utils import run
from CyDAS.utils.checkpoint import load_checkpoint, random_states, refusing, save_checkpoint, set_random_state
from CyDAS.utils.distributed import Process, copy_from_main, place, stop_process
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.logs import RunLog
from CyDAS.utils.nats_table import FIGURES, NatsTable
from CyDAS.utils.profile import count_parameters

CHECKPOINT = "search_resume.pth.tar"
RESULT = "result.json"


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(SearchConfig, "Search an architecture with CDARTS.", arguments)
    if config.seeds:
        search_with_seeds(config, given)
        return
    folder = config.output_dir / "search" / config.name
    table = NatsTable.read(config.nats_table) if config.nats_table else None
    process = run.start(config)
    data = load_data(config, process)
    space = make_space(config, data)
    train_part, val_part = data.halves()
    train, val = data.train_batches(train_part, stream=1), data.train_batches(val_part, stream=2)
    checkpoint = load_checkpoint(folder / CHECKPOINT) if config.resume else None
    if process.is_main:
        run.prepare_folder(folder, config.resume, config.overwrite)
        run.record(folder, config, process)
    log = RunLog(folder if process.is_main else None, "search.log")
    run.introduce(config, process, log)

    joint = place(space.build(), config, process.device)
    copy_from_main(joint)
    log.info("%s: %d training images, %d classes", config.dataset, data.train_size, data.n_classes)
    log.info("search network: %.3f M parameters, %d pixels", count_parameters(joint) / 1e6, data.image_size)
    search = CyclicSearch(space, joint, config, Precision(process.device, config.use_amp, config.amp_dtype))
    if checkpoint:
        log.last_checkpoint = folder / CHECKPOINT
        resume(search, checkpoint, log.last_checkpoint, process)
    else:
        run.seed_everything(config.seed + process.rank)  # from here on the processes' choices differ

    def end_round(search: CyclicSearch) -> None:
        random = random_states()
        if process.is_main:
            show(search, folder, log, table)
            content = {"search": search.state_dict(), "random": random, "config": run.plain(config)}
            save_checkpoint(folder / CHECKPOINT, content)
            log.last_checkpoint = folder / CHECKPOINT

    try:
        search.run(train, val, log, end_round)
        if process.is_main:
            architecture = space.to_strings(space.discretise(joint))
            write_json(folder / "genotype.json", architecture)
            write_json(folder / RESULT, collect_result(folder, architecture, table))
            log.info("found: %s", architecture["0"])
            log.info("written: %s", folder / "genotype.json")
    finally:
        log.close()
        stop_process()


def show(search: CyclicSearch, folder: Path, log: RunLog, table: NatsTable | None) -> None:
    """What the alphas now say: to the log, TensorBoard, ``alphas/`` and ``cells/``."""
    space, joint = search.space, search.joint
    architecture = space.discretise(joint)
    counts, entropy = space.describe(architecture), space.alpha_entropy(joint)
    log.info("round %d: alpha entropy %.4f, operations %s", search.round, entropy, counts)
    scalars = {f"operations/{name}": count for name, count in counts.items()}
    log.scalars(scalars | {"alphas/entropy": entropy}, search.step)
    alphas = {name: alpha.tolist() for name, alpha in joint.super_layers_arch.state_dict().items()}
    name = f"round_{search.round:03d}"
    found = {"round": search.round, "entropy": entropy, "genotype": space.to_strings(architecture), "alphas": alphas}
    if table:
        known = table.find(found["genotype"]["0"])
        log.info("round %d: %s; in the benchmark: %s", search.round, known.arch, known)
        log.scalars({f"benchmark/{key}": value for key, value in known.accuracies.items()}, search.step)
        found["benchmark"] = known.as_dict()
    write_json(folder / "alphas" / f"{name}.json", found)
    space.draw(architecture, folder / "cells", name)


def collect_result(folder: Path, genotype: dict[str, str], table: NatsTable | None) -> dict[str, Any]:
    """What was found and, with a table, how accurate the benchmark says it is and each round's cell was."""
    result: dict[str, Any] = {"genotype": genotype}
    if table:
        rounds = [read_json(file, "round") for file in sorted((folder / "alphas").glob("round_*.json"))]
        result["benchmark"] = table.find(genotype["0"]).as_dict()
        result["trajectory"] = [
            {"round": r["round"], "genotype": r["genotype"], "benchmark": r["benchmark"]} for r in rounds
        ]
    return result


def search_with_seeds(config: SearchConfig, given: set[str]) -> None:
    """One search for each of ``--seeds`` in a process of its own; then mean and deviation of what was found.

    Raises :class:`CydasError` where a search failed, after the others have ended.
    """
    names = {seed: f"{config.name}-seed{seed}" for seed in config.seeds}
    flags = to_arguments(config, given - {"seeds", "jobs", "seed", "name", "resume", "threads"})
    threads = config.threads or max(1, (os.cpu_count() or 1) // config.jobs)

    def search(seed: int) -> int:
        command = [sys.executable, str(Path(__file__).resolve()), *flags, "--seed", str(seed), "--name", names[seed]]
        checkpoint = config.output_dir / "search" / names[seed] / CHECKPOINT
        resume = ["--resume"] if config.resume and checkpoint.exists() else []
        # PyTorch reads the number of threads where it is imported
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        return subprocess.run([*command, *resume, "--threads", str(threads)], env=environment).returncode

    with ThreadPoolExecutor(config.jobs) as pool:
        codes = dict(zip(config.seeds, pool.map(search, config.seeds), strict=True))
    failed = [str(seed) for seed, code in codes.items() if code]
    if failed:
        raise CydasError(f"the search failed for seed {', '.join(failed)}; --resume goes on with all of them")
    results = {seed: read_json(config.output_dir / "search" / name / RESULT, "result") for seed, name in names.items()}
    for seed, result in results.items():
        print(f"seed {seed}: {result['genotype']['0']}")
    summary = {"seeds": {str(seed): result for seed, result in results.items()}}
    if config.nats_table:
        summary["benchmark"] = summarise([result["benchmark"] for result in results.values()])
        for key, (mean, deviation) in summary["benchmark"].items():
            print(f"{key} {mean:.2f} ± {deviation:.2f}")
    path = config.output_dir / "search" / f"{config.name}-seeds.json"
    write_json(path, summary)
    print(f"written: {path}")


def summarise(found: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Mean and standard deviation (of the sample; 0 for a single one) of each accuracy."""
    values = {key: [entry["accuracies"][key] for entry in found] for key in FIGURES}
    return {key: (mean(some), stdev(some) if len(some) > 1 else 0.0) for key, some in values.items()}


def resume(search: CyclicSearch, content: dict, path: Path, process: Process) -> None:
    """Go on from a checkpoint's content. Raises :class:`CydasError` where it is not of this search."""
    with refusing(f"checkpoint {path} is not one of this search"):
        run.check_continuation(content["config"], search.config, path)
        search.load_state_dict(content["search"])
        set_random_state(content["random"], process)


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
