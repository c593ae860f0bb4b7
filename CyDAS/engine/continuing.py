"""Whether a checkpoint is one that a search or a training goes on from: made with the same flags, on the same data."""

from pathlib import Path
from typing import Any

from CyDAS.config import DetectConfig, RetrainConfig, SearchConfig, SegmentConfig
from CyDAS.data.classes import check_same_data
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.runs.checkpoint import RuledOut, refusing, set_process_state
from CyDAS.runs.resume import check_continuation
from CyDAS.runs.weights import AVERAGED_KEY, PLAIN_KEY, check_finite
from CyDAS.spaces.choice import SPACES, check_genotype
from CyDAS.utils.distributed import Process


def check_search(config: SearchConfig, data: dict[str, Any], content: dict[str, Any], path: Path) -> None:
    """Raise :class:`CydasError` where a checkpoint is not one of a search with these flags on ``data``, a record."""
    with refusing(f"checkpoint {path} is not one of this search"):
        check_continuation(content["about"]["config"], config, path)
        check_same_data(content, data, path, ("train",))
        _ = content["search"]["round"], content["processes"]
        check_finite(content["search"], f"checkpoint {path}")


def resume_search(search: CyclicSearch, content: dict[str, Any], path: Path, process: Process) -> None:
    """Go on from a checkpoint's content. Raises :class:`CydasError` where it is not of this search."""
    with refusing(f"checkpoint {path} is not one of this search"):
        search.load_state_dict(content["search"])
        search.load_process_state(set_process_state(content["processes"], process))


def check_training(
    config: RetrainConfig | SegmentConfig | DetectConfig, architecture: Any, data: dict[str, Any],
    content: dict[str, Any], path: Path,
) -> None:  # fmt: skip
    """Raise :class:`CydasError` where a checkpoint is not one of a training of this architecture (None: the flags say
    all of it), with these flags and on ``data``, a record.
    """
    with refusing(f"checkpoint {path} is not one to resume a training from"):
        if isinstance(config, RetrainConfig):
            check_genotype(content, architecture, config, path)
        check_continuation(content["config"], config, path, "epochs", "lr_epochs")
        check_same_data(content, data, path, ("train", "test"))
        if config.epochs < content["config"]["epochs"]:
            raise RuledOut(f"checkpoint {path} is of {content['config']['epochs']} epochs: --epochs may only grow")
        plain = SPACES[config.space].weights_name if isinstance(config, RetrainConfig) else PLAIN_KEY
        kept = {name: content[name] for name in (plain, "optimizer", *[AVERAGED_KEY] * (config.ema_decay > 0))}
        for name in ("buffers", *["average_buffers"] * (config.ema_decay > 0)):
            kept[name] = [state[name] for state in content["processes"]]
        check_finite(kept, f"checkpoint {path}")
