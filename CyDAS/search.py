"""Search an architecture: ``python CyDAS/search.py --help``."""

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
from CyDAS.config import SearchConfig
from CyDAS.data import LabelledImages, load_data
from CyDAS.data.dataset import say_data
from CyDAS.data.halves import what_halves_lack
from CyDAS.effects import idle_flags
from CyDAS.engine.continuing import check_search, resume_search
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.estimate import estimate_search, print_estimate
from CyDAS.engine.finalists import check_finalists, choose, finalists_batches
from CyDAS.engine.many import run_many
from CyDAS.engine.optim import Precision, scale_learning_rates
from CyDAS.engine.results import CHECKPOINT, SearchProgress, finish_search
from CyDAS.models import native
from CyDAS.runs.opening import opened
from CyDAS.runs.start import started
from CyDAS.spaces import make_space
from CyDAS.tasks.classification import Classification
from CyDAS.utils.callable_module import make_callable
from CyDAS.utils.distributed import Process, copy_from_main, place
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.flags import parse_each
from CyDAS.utils.profile import count_parameters


def main(arguments: list[str] | None = None) -> None:
    variants = parse_each(SearchConfig, "Search an architecture with CDARTS.", arguments)
    config, given = variants[0]
    if config.is_many:
        run_many(Path(__file__).resolve(), variants)
        return
    with started(config) as process:
        search_once(config, process, idle_flags(config, given, process))


def search_once(config: SearchConfig, process: Process, notes: list[str]) -> None:
    """One search in this process, or together with the others. ``notes``: warnings for the log."""
    scaled = scale_learning_rates(config, process.world_size)
    data = load_data(config, process)
    space = make_space(config, data)
    train_part, val_part = data.halves(config.split, config.seed)
    lacking = what_halves_lack(data.train_labels, (train_part, val_part), data.classes)
    train, val = data.train_batches(train_part, stream=1), data.train_batches(val_part, stream=2)
    finals = finalists_data(config, data, process)
    of_finals = partial(finalists_batches, config, finals, train_part, val_part)
    joint = place(space.build(), config, process.device)
    copy_from_main(joint)
    search = CyclicSearch(space, joint, config, Precision(process.device, config.use_amp, config.amp_dtype))
    shape = finals.input_channels, finals.image_size, finals.image_size
    check_finalists(search, shape)
    if config.dry_run:
        estimate = estimate_search(search, train, val, of_finals)
        print_estimate([*notes, *data.report("train"), *lacking, *estimate], process)
        return
    record = data.record()
    accept = partial(check_search, config, record)
    with opened("search", config, process, CHECKPOINT, accept, record, native.record, notes) as run:
        for line in scaled:
            run.log.info("%s", line)
        say_data(data, ("train",), run.checkpoint, process, run.log)
        for line in lacking:
            run.log.warning("%s", line)
        run.log.info("search network: %.3f M parameters, %d pixels", count_parameters(joint) / 1e6, data.image_size)
        run.begin(config.seed, partial(resume_search, search))
        progress = SearchProgress(run)
        search.run(train, val, run.log, progress)
        found = search.preferred()
        if config.finalists > 1:
            found = choose(search, *of_finals(), Classification(data.n_classes), shape, run.log, progress)
        if process.is_main:
            finish_search(search, found, run)


def finalists_data(config: SearchConfig, data: LabelledImages, process: Process) -> LabelledImages:
    """The images on which finalists are trained and judged: the search's own, unless they are to have another size."""
    if config.finalists == 1 or config.finalist_image_size in (None, data.image_size):
        return data
    finals = load_data(replace(config, image_size=config.finalist_image_size), process)
    if finals.record() != data.record():
        raise CydasError("--finalist_image_size: the data, read a second time, are other images or in another order")
    return finals


def run_main() -> None:
    run_program(main, lasting=True)


make_callable(__name__)  # for CyDAS.search(...)

if __name__ == "__main__":
    run_main()
