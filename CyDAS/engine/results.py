"""What a search and a training leave in their run's folder: rounds, pictures, checkpoints, results."""

from pathlib import Path
from typing import Any

from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.entrants import Judged
from CyDAS.engine.training import Training
from CyDAS.reports.report import report_at_end
from CyDAS.reports.runs import RESULT
from CyDAS.runs.checkpoint import process_states
from CyDAS.runs.opening import Run
from CyDAS.spaces.base import SearchSpace
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.present import present

#: Where a search goes on from, in its folder.
CHECKPOINT = "search_resume.pth.tar"


class SearchProgress:
    """Saves a search, shows what it has found, and stops it when it is told to."""

    def __init__(self, run: Run):
        self.run = run
        self.keeper = run.keeper

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
            self.keeper.try_to("the round's results are not all kept", show, search, self.run)
        self._save(search)
        if search.round < search.config.search_iter and self.keeper.must_stop():
            self.keeper.stop()

    def _save(self, search: CyclicSearch) -> None:
        if not search.averages.is_finite_everywhere():  # which the report says, and ends the run
            search.averages.report(self.run.log, f"round {search.round + 1}", search.step)
        states = process_states(**search.process_state())
        self.keeper.save({"search": search.state_dict(), "processes": states, "about": self.run.about})


def show(search: CyclicSearch, run: Run) -> None:
    """What the alphas now say: to the log, TensorBoard, ``alphas/`` and ``cells/``."""
    space, joint, log = search.space, search.joint, run.log
    architecture = search.preferred()
    counts, entropy = space.describe(architecture), space.alpha_entropy(joint)
    log.info("round %d: alpha entropy %.4f, operations %s", search.round, entropy, counts)
    scalars = {f"operations/{name}": count for name, count in counts.items()}
    further = space.figures(joint, architecture)
    if further:
        log.info("round %d: %s", search.round, ", ".join(f"{name} {value:.4g}" for name, value in further.items()))
    log.scalars(scalars | {"alphas/entropy": entropy} | further, search.step)
    alphas = {name: alpha.tolist() for name, alpha in joint.super_layers_arch.state_dict().items()}
    name = f"round_{search.round:03d}"
    found = {"round": search.round, "entropy": entropy, "genotype": space.to_strings(architecture), "alphas": alphas}
    found |= further
    known = space.known(architecture)
    if known:
        log.info("round %d: %s; in the benchmark: %s", search.round, known.arch, known)
        log.scalars({f"benchmark/{key}": value for key, value in known.accuracies.items()}, search.step)
        found["benchmark"] = known.as_dict()
    write_json(run.folder / "alphas" / f"{name}.json", found | {"about": run.about})
    space.draw(architecture, run.folder / "cells", name)


def finish_search(search: CyclicSearch, architecture: Any, run: Run) -> None:
    """The found architecture, to its files and the log."""
    space = search.space
    path = run.folder / "genotype.json"
    write_json(path, space.to_strings(architecture))
    result = {"genotype": space.to_strings(architecture)} | space.costs(architecture)
    if search.judged:
        result["finalists"] = [Judged(*each)._asdict() for each in search.judged]
    write_json(run.folder / RESULT, result | look_up(space, architecture, run.folder) | {"about": run.about})
    run.log.info("found: %s", space.brief(architecture))
    run.log.info("written: %s", path)
    _report(run)


def look_up(space: SearchSpace, architecture: Any, folder: Path) -> dict[str, Any]:
    """How accurate a benchmark of the space, where there is one, says that the found cell is, and each round's was."""
    known = space.known(architecture)
    if not known:
        return {}
    trajectory = []
    for file in sorted((folder / "alphas").glob("round_*.json")):
        entry = read_json(file, "round")
        of_round = space.known(space.parse(entry["genotype"], None, f"round {file}"))
        benchmark = present(of_round).as_dict()
        trajectory.append({"round": entry["round"], "genotype": entry["genotype"], "benchmark": benchmark})
    return {"benchmark": known.as_dict(), "trajectory": trajectory}


def report_training(training: Training, found: dict[str, Any], run: Run) -> None:
    """The last epoch first: picking the best on the test set flatters the result."""
    last, best = training.last, training.best
    for line in last.table():
        run.log.info("last epoch: %s", line)
    run.log.info("last epoch: %s on %d test images", last.words(), last.images)
    run.log.info("best epoch: %s %% (chosen on the test set)", best.headline())
    result = {"last": last._asdict(), "best": best._asdict(), "epochs": training.epoch}
    if training.extent.ema_decay:
        run.log.info("last epoch without averaging: %s", training.last_plain.words())
        result["last_plain"] = training.last_plain._asdict()
    write_json(run.folder / RESULT, result | found)
    _report(run)


def _report(run: Run) -> None:
    if run.about["config"]["report"]:
        report_at_end(run.folder, run.log)
