"""From the official files of NATS-Bench and NAS-Bench-201 to a table of :mod:`CyDAS.spaces.nats_table`."""

import pickle
from pathlib import Path
from typing import Any

from tqdm import tqdm

from CyDAS.runs.checkpoint import load_checkpoint
from CyDAS.spaces.nats_table import DATASETS, NatsTable, write_table
from CyDAS.utils.errors import CydasError


def export(official: Path, target: Path) -> int:
    """Make a table from the official NATS-Bench folder or file, or the NAS-Bench-201 file. Returns its rows.

    Needs the package nats_bench, which unpickles NATS-Bench's files: use those of the benchmark's authors only.
    Raises :class:`CydasError` where the package or the file is missing, or the file is another.
    """
    try:
        import nats_bench  # noqa: F401
    except ImportError:
        raise CydasError("export needs the package nats_bench: pip install nats_bench") from None
    if not official.exists():
        raise CydasError(f"there is no {official}")
    try:
        api = _open_official(official)
        rows = [_official_row(api, index) for index in tqdm(range(len(api)), unit="architecture", disable=None)]
    except (
        OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.PickleError,
        ImportError, AssertionError, RuntimeError, ArithmeticError,
    ) as error:  # fmt: skip
        reason = (str(error).splitlines() or [""])[0]
        raise CydasError(f"{official} is no file of NATS-Bench ({type(error).__name__} {reason})") from None
    write_table(target, rows)
    NatsTable.read(target)
    return len(rows)


def _open_official(path: Path):
    import nats_bench

    if path.suffix == ".pth":
        content = load_checkpoint(path)
        hours = {"less": "12", "full": "200"}  # NAS-Bench-201's names of the schedules
        content["arch2infos"] = {
            index: {hours.get(key, key): value for key, value in infos.items()}
            for index, infos in content["arch2infos"].items()
        }
        return nats_bench.create(content, "tss", fast_mode=False, verbose=False)
    return nats_bench.create(str(path), "tss", fast_mode=path.is_dir(), verbose=False)


def _official_row(api, index: int) -> dict[str, Any]:
    """A table's row; validation accuracy of CIFAR-10 is of the network trained on half of it, as is the custom."""

    def figures(dataset: str) -> dict[str, Any]:
        return api.get_more_info(index, dataset, hp="200", is_random=False)

    half, whole, hundred, imagenet = map(figures, ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120"))
    row = {"index": index, "arch_str": api.arch(index), "cifar10_val": half["valid-accuracy"]}
    row |= {"cifar10_test": whole["test-accuracy"]}
    for name, values in (("cifar100", hundred), ("imagenet16", imagenet)):
        row |= {f"{name}_val": values["valid-accuracy"], f"{name}_test": values["test-accuracy"]}
    for name, dataset in zip(DATASETS, ("cifar10", "cifar100", "ImageNet16-120"), strict=True):
        cost = api.get_cost_info(index, dataset, hp="200")
        row |= {f"params_M_{name}": cost["params"], f"flops_M_{name}": cost["flops"]}
    times = zip(("cifar10valid", "cifar100", "imagenet16"), (half, hundred, imagenet), strict=True)
    api.arch2infos_dict.pop(index)  # the API keeps whatever it has read
    seconds = {f"train_time_s_200ep_{name}": values["train-all-time"] for name, values in times}
    return row | {name: "nan" if value is None else value for name, value in seconds.items()}
