"""Checkpoints: written whole or not at all, read without running anything in them."""

import pickle
import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from CyDAS.utils.distributed import Process, gather
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_atomically


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors and plain values only) so that ``path`` always holds a whole checkpoint."""
    write_atomically(path, lambda beside: torch.save(content, beside))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises :class:`CydasError` for all but a dict of tensors and plain values."""
    if not path.is_file():
        raise CydasError(f"checkpoint {path}: there is no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise CydasError(
            f"checkpoint {path}: it is damaged or holds more than tensors and plain values, so it is not read"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError, struct.error) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CydasError(f"checkpoint {path}: it is damaged or no checkpoint ({first_line})") from None
    if not isinstance(content, dict):
        raise CydasError(f"checkpoint {path}: a dict is expected, not {type(content).__name__}")
    return content


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn what goes wrong while a checkpoint's content is put in place into a :class:`CydasError` saying ``what``."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise CydasError(f"{what}: {type(error).__name__} {(str(error).splitlines() or [''])[0]}") from None


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load a state dict that must fit exactly. Raises :class:`CydasError` naming the first difference."""
    own = module.state_dict()
    weights = {str(key).removeprefix("module."): value for key, value in weights.items()}
    for key in [*own, *(key for key in weights if key not in own)]:
        problem = None
        if key not in weights:
            problem = f"{key} is missing"
        elif key not in own:
            problem = f"{key} has no place in this network"
        elif not isinstance(weights[key], Tensor) or weights[key].shape != own[key].shape:
            problem = f"{key} is {tuple(getattr(weights[key], 'shape', ()))}, here {tuple(own[key].shape)}"
        if problem:
            raise CydasError(f"checkpoint {source} is of another architecture or size: {problem}")
    module.load_state_dict(weights)


def random_states() -> list[dict[str, Any]]:
    """The state of every random generator of every process; every process must call it."""
    version, keys, python_gauss = random.getstate()
    name, array, position, has_gauss, gauss = np.random.get_state()
    return gather(
        {
            "python": [version, list(keys), python_gauss],
            "numpy": [name, torch.from_numpy(array.astype(np.int64)), position, has_gauss, gauss],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
    )


def set_random_state(states: list[dict[str, Any]], process: Process) -> None:
    """Put this process's random generators back to what :func:`random_states` returned.

    Raises :class:`CydasError` where it was another number of processes.
    """
    if len(states) != process.world_size:
        raise CydasError(f"the checkpoint is of {len(states)} process(es), here are {process.world_size}")
    state = states[process.rank]
    version, keys, gauss = state["python"]
    random.setstate((version, tuple(keys), gauss))
    name, array, *rest = state["numpy"]
    np.random.set_state((name, array.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and process.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"])
