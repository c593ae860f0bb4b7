"""Search an architecture: ``python CyDAS/search.py --help``."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import SearchConfig
from CyDAS.data import load_data
from CyDAS.data.classes import check_same_data
from CyDAS.data.dataset import say_data
from CyDAS.data.halves import what_halves_lack
from CyDAS.effects import idle_flags
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.estimate import estimate_search, print_estimate
from CyDAS.engine.optim import Precision, scale_learning_rates
from CyDAS.engine.seeds import CHECKPOINT, RESULT, search_with_seeds
from CyDAS.models import native
from CyDAS.runs import run
from CyDAS.runs.about import how_made
from CyDAS.runs.checkpoint import process_states, refusing, set_process_state
from CyDAS.runs.keeper import Keeper
from CyDAS.runs.logs import RunLog
from CyDAS.runs.resume import check_continuation, choose_checkpoint
from CyDAS.runs.weights import check_finite
from CyDAS.spaces import make_space
from CyDAS.spaces.nats_table import NatsTable
from CyDAS.utils.distributed import Process, copy_from_main, place
from CyDAS.utils.errors import run_program
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.flags import parse
from CyDAS.utils.profile import count_parameters


def main(arguments: list[str] | None = None) -> None:
    config, given = parse(SearchConfig, "Search an architecture with CDARTS.", arguments)
    if config.seeds:
        search_with_seeds(Path(__file__).resolve(), config, given)
        return
    folder = config.output_dir / "search" / config.name
    table = NatsTable.read(config.nats_table, complete=True) if config.nats_table else None
    with run.started(config) as process:
        search_once(config, process, folder, table, idle_flags(config, given, process))


def search_once(
    config: SearchConfig, process: Process, folder: Path, table: NatsTable | None, notes: list[str]
) -> None:
    """One search in this process, or together with the others. ``notes``: warnings for the log."""
    scaled = scale_learning_rates(config, process.world_size)
    data = load_data(config, process)
    space = make_space(config, data)
    train_part, val_part = data.halves(config.split, config.seed)
    lacking = what_halves_lack(data.train_labels, (train_part, val_part), data.classes)
    train, val = data.train_batches(train_part, stream=1), data.train_batches(val_part, stream=2)
    joint = place(space.build(), config, process.device)
    copy_from_main(joint)
    search = CyclicSearch(space, joint, config, Precision(process.device, config.use_amp, config.amp_dtype))
    if config.dry_run:
        print_estimate([*notes, *data.report("train"), *lacking, *estimate_search(search, train, val)], process)
        return
    path = folder / CHECKPOINT
    choose_checkpoint(config, folder, path, path)
    about = how_made(config, process, native.record) | {"data": data.record()}
    accept = partial(check_search, config, about["data"])
    with run.opened(folder, config, process, about, path, accept, "search.log") as (log, checkpoint, passed_over):
        for line in notes:
            log.warning("%s", line)
        for line in scaled:
            log.info("%s", line)
        say_data(data, ("train",), checkpoint, process, log)
        for line in lacking:
            log.warning("%s", line)
        log.info("search network: %.3f M parameters, %d pixels", count_parameters(joint) / 1e6, data.image_size)
        keeper = Keeper(path, config.checkpoint_minutes, process, log, keep=not passed_over, again=[])
        with keeper:
            if checkpoint:
                log.last_checkpoint = path
                resume(search, checkpoint, path, process)
            else:
                run.seed_everything(config.seed + process.rank)  # from here on the processes' choices differ
            search.run(train, val, log, SearchProgress(keeper, about, folder, log, table))
            if process.is_main:
                finish(search, about, folder, log, table)
            keeper.finish()


class SearchProgress:
    """Saves a search, shows what it has found, and stops it when it is told to."""

    def __init__(self, keeper: Keeper, about: dict[str, Any], folder: Path, log: RunLog, table: NatsTable | None):
        self.keeper = keeper
        self.about = about
        self.folder = folder
        self.log = log
        self.table = table

    def end_step(self, search: CyclicSearch) -> None:
        save, stop = self.keeper.wants()
        if save:
            self._save(search)
        if stop:
            self.keeper.stop()

    def end_phase(self, search: CyclicSearch) -> None:
        self._save(search)
        if self.keeper.must_stop():
            self.keeper.stop()

    def end_round(self, search: CyclicSearch) -> None:
        if self.keeper.process.is_main:  # before the checkpoint, after which this round does not end again
            where = self.about, self.folder, self.log, self.table
            self.keeper.try_to("the round's results are not all kept", show, search, *where)
        self._save(search)
        if search.round < search.config.search_iter and self.keeper.must_stop():
            self.keeper.stop()

    def _save(self, search: CyclicSearch) -> None:
        if not search.averages.is_finite_everywhere():  # which the report says, and ends the run
            search.averages.report(self.log, f"round {search.round + 1}", search.step)
        states = process_states(**search.process_state())
        self.keeper.save({"search": search.state_dict(), "processes": states, "about": self.about})


def finish(search: CyclicSearch, about: dict, folder: Path, log: RunLog, table: NatsTable | None) -> None:
    """The found architecture, to its files and the log."""
    architecture = search.space.to_strings(search.space.discretise(search.joint))
    write_json(folder / "genotype.json", architecture)
    write_json(folder / RESULT, collect_result(folder, architecture, table) | {"about": about})
    log.info("found: %s", architecture["0"])
    log.info("written: %s", folder / "genotype.json")


def check_search(config: SearchConfig, data: dict[str, Any], content: dict[str, Any], path: Path) -> None:
    """Raise :class:`CydasError` where a checkpoint is not one of a search with these flags on ``data``, a record."""
    with refusing(f"checkpoint {path} is not one of this search"):
        check_continuation(content["about"]["config"], config, path)
        check_same_data(content, data, path, ("train",))
        _ = content["search"]["round"], content["processes"]
        check_finite(content["search"], f"checkpoint {path}")


def show(search: CyclicSearch, about: dict, folder: Path, log: RunLog, table: NatsTable | None) -> None:
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
    write_json(folder / "alphas" / f"{name}.json", found | {"about": about})
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
        search.load_state_dict(content["search"])
        search.load_process_state(set_process_state(content["processes"], process))


def run_main() -> None:
    run_program(main, lasting=True)


if __name__ == "__main__":
    run_main()
