"""Search an architecture: ``python CyDAS/search.py --help``."""

import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a file: the package lies one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from CyDAS.config import SearchConfig, parse
from CyDAS.data import load_data
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import Precision
from CyDAS.spaces import DartsSpace
from CyDAS.utils import run
from CyDAS.utils.checkpoint import load_checkpoint, random_state, refusing, save_checkpoint, set_random_state
from CyDAS.utils.distributed import copy_from_main, stop_process
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.logs import RunLog
from CyDAS.utils.profile import count_parameters

CHECKPOINT = "search_resume.pth.tar"


def main(arguments: list[str] | None = None) -> None:
    config, _ = parse(SearchConfig, "Search an architecture with CDARTS.", arguments)
    folder = config.output_dir / "search" / config.name
    process = run.start(config)
    data = load_data(config, process)
    space = DartsSpace.from_config(config, data)
    train_part, val_part = data.halves()
    train, val = data.train_batches(train_part, stream=1), data.train_batches(val_part, stream=2)
    if not len(train) or not len(val):
        raise CydasError(f"{data.train_size} training images are too few to be cut in two halves")
    if process.is_main:
        run.prepare_folder(folder, config.resume, config.overwrite)

    joint = space.build().to(process.device)
    copy_from_main(joint)
    search = CyclicSearch(space, joint, config, Precision(process.device, config.use_amp, config.amp_dtype))
    log = RunLog(folder if process.is_main else None, "search.log")
    if config.resume:
        resume(search, folder / CHECKPOINT, config)
        log.last_checkpoint = folder / CHECKPOINT
    else:
        run.seed_everything(config.seed + process.rank)  # from here on the processes' choices differ
    if process.is_main:
        run.record(folder, config, process)
    log.info("device %s, %d process(es)", run.device_name(process.device), process.world_size)
    log.info("%s: %d training images, %d classes", config.dataset, data.train_size, data.n_classes)
    log.info("search network: %.3f M parameters, %d pixels", count_parameters(joint) / 1e6, data.image_size)

    def end_round(search: CyclicSearch) -> None:
        if process.is_main:
            show(search, folder, log)
            content = {"search": search.state_dict(), "random": random_state(), "config": run.plain(config)}
            save_checkpoint(folder / CHECKPOINT, content)
            log.last_checkpoint = folder / CHECKPOINT

    try:
        search.run(train, val, log, end_round)
        if process.is_main:
            architecture = space.discretise(joint)
            space.save(architecture, folder / "genotype.json")
            log.info("found: %s", space.to_strings(architecture)["0"])
            log.info("written: %s", folder / "genotype.json")
    finally:
        log.close()
        stop_process()


def show(search: CyclicSearch, folder: Path, log: RunLog) -> None:
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
    write_json(folder / "alphas" / f"{name}.json", found)
    space.draw(architecture, folder / "cells", name)


#: Flags that may differ between a search and its continuation.
MAY_DIFFER = {"resume", "overwrite", "print_freq", "workers", "device", "threads", "name", "output_dir",
              "data_dir", "train_dir", "test_dir"}  # fmt: skip


def resume(search: CyclicSearch, path: Path, config: SearchConfig) -> None:
    """Go on from ``path``. Raises :class:`CydasError` where it is not a checkpoint of this search."""
    content = load_checkpoint(path)
    with refusing(f"checkpoint {path} is not one of this search"):
        saved, here = content["config"], run.plain(config)
        differing = [key for key in here if key not in MAY_DIFFER and saved.get(key) != here[key]]
        if differing:
            listed = ", ".join(f"--{key} was {saved.get(key)}, is {here[key]}" for key in differing)
            raise CydasError(f"checkpoint {path} was made with other flags: {listed}")
        search.load_state_dict(content["search"])
        set_random_state(content["random"])


def run_main() -> None:
    run_program(main)


if __name__ == "__main__":
    run_main()
