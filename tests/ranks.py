"""What two processes do together, started by ``test_distributed.py``: ``python tests/ranks.py MODE FOLDER``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

# isort: split
import torch

from CyDAS.config import SearchConfig
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.optim import Precision
from CyDAS.models.cells.layout import Layout
from CyDAS.spaces import DartsSpace
from CyDAS.utils.distributed import is_same_everywhere, start_process, stop_process
from CyDAS.utils.errors import run_program

SIZE = 8  #: images of a process


def make_search(*, statistics: bool, **flags) -> CyclicSearch:
    """In double precision; without ``statistics`` batch norms use running ones, which no batch moves."""
    torch.manual_seed(0)
    layout = Layout("imagenet", 4, 1, image_size=64)
    space = DartsSpace(layout, repeat_cell=True, ensemble_param=True)
    joint = space.build().double().train()
    config = SearchConfig(search_iter=10, pretrain_epochs=2, search_iter_epochs=1, regular=True, **flags)
    search = CyclicSearch(space, joint, config, Precision(torch.device("cpu"), False, "bf16"))
    search.architecture = space.discretise(joint)
    space.set_evaluation(joint, search.architecture)
    joint.double()
    search.optimisers = type(search.optimisers)(joint, config)
    if not statistics:
        for module in joint.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
    return search


def batches(step: int, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(count, 3, 64, 64, generator=generator, dtype=torch.float64)
    return x, torch.randint(0, 10, (count,), generator=generator)


def take_steps(search: CyclicSearch, steps: int, rank: int = 0, ranks: int = 1) -> list[torch.Tensor]:
    """Warm-up, val and train updates by this process's share of ``2 * SIZE`` images; the gradients' norms."""
    norms = []
    for step in range(steps):
        x, y = batches(step, 2 * SIZE)
        x, y = x[rank::ranks], y[rank::ranks]
        norms.append(search.evaluation_update(x, y)["warmup/gradient_norm"])
        norms.append(search.val_update(x, y, epoch=2)[1]["val/gradient_norm"])
        norms.append(search.train_update(x, y)["train/gradient_norm"])
    return norms


def main(arguments: list[str] | None) -> None:
    mode, folder = sys.argv[1:]
    torch.set_num_threads(1)
    process = start_process("cpu", 30.0)
    if mode == "split":
        search = make_search(statistics=False)
        norms = take_steps(search, 1, process.rank, process.world_size)
    elif mode == "statistics":
        search = make_search(statistics=True)
        norms = take_steps(search, 20, process.rank, process.world_size)
    elif mode == "apart":
        search = make_search(statistics=False)
        with torch.no_grad():
            next(search.joint.super_layers_arch.parameters()).add_(1e-9 * process.rank)
        search._check_alphas()
    parameters = torch.cat([p.detach().flatten() for p in search.joint.parameters()])
    assert is_same_everywhere(parameters), "the processes' parameters differ"
    if process.is_main:
        torch.save({"parameters": dict(search.joint.named_parameters()), "norms": norms}, Path(folder) / f"{mode}.pt")
    stop_process()


if __name__ == "__main__":
    run_program(main)
