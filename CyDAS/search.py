"""Search an architecture: ``python CyDAS/search.py --help``."""

import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import SearchConfig, parse
from CyDAS.data import load_data
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import Precision
from CyDAS.engine.seeds import CHECKPOINT, RESULT, search_with_seeds
from CyDAS.spaces import make_space
from CyDAS.utils import run
from CyDAS.utils.checkpoint import load_checkpoint, random_states, refusing, save_checkpoint, set_random_state
from CyDAS.utils.distributed import Process, copy_from_main, place, stop_process
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.logs import RunLog
from CyDAS.utils.nats_table import NatsTable
from CyDAS.utils.profile import count_parameters


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(SearchConfig, "Search an architecture with CDARTS.", arguments)
    if config.seeds:
        search_with_seeds(Path(__file__).resolve(), config, given)
        return
    folder = config.output_dir / "search" / config.name
    table = NatsTable.read(config.nats_table, complete=True) if config.nats_table else None
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
            content = {"search": search.state_dict(), "random": random, "config": run.plain(config)}
            save_checkpoint(folder / CHECKPOINT, content)
            log.last_checkpoint = folder / CHECKPOINT
            show(search, folder, log, table)

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
            {
                "round": r["round"],
                "genotype": r["genotype"],
                "benchmark": table.find(r["genotype"]["0"]).as_dict(),
            }
            for r in rounds
        ]
    return result


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
