"""Where the figures of a run go for people to watch: TensorBoard's files, trackio, Weights & Biases, or nowhere.

Whatever it is, it may fail in the middle of a run, which then goes on without it.
"""

import importlib
import warnings
from pathlib import Path
from typing import Any, Protocol

from CyDAS.utils.errors import CydasError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tensorboardX import SummaryWriter


class Tracker(Protocol):
    """Each may raise whatever its program does."""

    def scalars(self, figures: dict[str, float], step: int) -> None: ...
    def picture(self, name: str, pixels: Any, step: int) -> None: ...  # uint8 [H, W, 3]
    def close(self) -> None: ...


class TensorBoard:
    """Files below the run's folder."""

    def __init__(self, folder: Path):
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def scalars(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def picture(self, name: str, pixels: Any, step: int) -> None:
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class Imported:
    """A package with ``init``, ``log`` and ``finish``, as trackio and wandb have them.

    Both want steps that do not fall: figures of a step that was taken again after a resume are left out by them.
    """

    def __init__(self, package: str, folder: Path, config: dict[str, Any]):
        """Raises :class:`CydasError` where the package, which is there, does not start."""
        try:
            self._package = importlib.import_module(package)
            self._package.init(project="CyDAS", name=f"{folder.parent.name} {folder.name}", config=config)
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            raise CydasError(f"--tracker {package} does not start: {type(error).__name__}: {text}") from None

    def scalars(self, figures: dict[str, float], step: int) -> None:
        self._package.log({name: float(value) for name, value in figures.items()}, step=step)

    def picture(self, name: str, pixels: Any, step: int) -> None:
        self._package.log({name: self._package.Image(pixels)}, step=step)

    def close(self) -> None:
        self._package.finish()


class Nowhere:
    """Figures are in the log and in ``figures.jsonl`` alone."""

    def scalars(self, figures: dict[str, float], step: int) -> None: ...
    def picture(self, name: str, pixels: Any, step: int) -> None: ...
    def close(self) -> None: ...


def open_tracker(name: str, folder: Path, config: dict[str, Any]) -> Tracker:
    """What ``--tracker`` names, for a run. Raises :class:`CydasError` where it cannot be had."""
    if name == "none":
        return Nowhere()
    return TensorBoard(folder) if name == "tensorboard" else Imported(name, folder, config)
