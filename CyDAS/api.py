"""CyDAS from Python: the programs as functions, and what they leave as objects.

    import CyDAS

    run = CyDAS.search(dataset="cifar10", data_dir="data", search_iter=32, name="mine")
    trained = CyDAS.retrain(run, epochs=600)
    network = CyDAS.load(trained)
    logits = network(network.preprocess(image)[None])

Flags are those of the programs. Nothing is read from the command line, and errors are :class:`CydasError`.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from CyDAS.config import RetrainConfig, SearchConfig
from CyDAS.exporting.subject import Subject
from CyDAS.reports.report import of_data, write_report
from CyDAS.reports.runs import RESULT, read_run
from CyDAS.retrain import main as retrain_main
from CyDAS.search import main as search_main
from CyDAS.trained import find_checkpoint, open_trained
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json
from CyDAS.utils.settings import as_words

OUTPUT = Path("experiments")


@dataclass(frozen=True)
class Run:
    """A finished search or retraining."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def result(self) -> dict[str, Any]:
        """What ``result.json`` says. Raises :class:`CydasError` where the run has not ended."""
        return read_json(self.folder / RESULT, "result")

    @property
    def genotype(self) -> dict[str, str]:
        """The architecture, as genotype files hold it."""
        return self.result["genotype"]

    @property
    def config(self) -> dict[str, Any]:
        """All flags."""
        return read_run(self.folder).config

    @property
    def alphas(self) -> dict[str, Tensor]:
        """The architecture parameters after the last round of a search, by their names."""
        rounds = read_run(self.folder).rounds
        if not rounds:
            raise CydasError(f"{self.folder} has no rounds: it is not of a search")
        return {name: torch.tensor(values) for name, values in rounds[-1]["alphas"].items()}

    def report(self) -> Path:
        """Write the report anew; returns the HTML file."""
        return write_report([self.folder], self.folder / "report")[0]


class Trained(nn.Module):
    """A trained network in eval mode: images [N, C, H, W], preprocessed, to logits [N, classes]."""

    def __init__(self, subject: Subject):
        super().__init__()
        self.network = subject.network
        self.classes = subject.classes  #: names, in the order of the logits; None where nobody wrote them down
        self.architecture: dict[str, str] = subject.facts["architecture"]
        channels, size, _ = subject.image
        resize = round(size / subject.facts["crop_pct"])
        #: From one image, Pillow's or a tensor [C, H, W], to [C, H, W]
        self.preprocess: Callable[[Any], Tensor] = v2.Compose(
            [
                v2.ToImage(),
                v2.RGB() if channels == 3 else v2.Grayscale(channels),
                v2.Resize(resize, InterpolationMode(subject.facts["interpolation"]), antialias=True),
                v2.CenterCrop(size),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(subject.mean, subject.std),
            ]
        )
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images).logits


def search(**flags: Any) -> Run:
    """Search an architecture. Raises :class:`CydasError`, and ``TypeError`` for a flag that there is not."""
    _run(SearchConfig, search_main, "search", flags)
    return Run(Path(flags.get("output_dir", OUTPUT)) / "search" / flags.get("name", "default"))


def retrain(found: Run | str | Path, **flags: Any) -> Run:
    """Train the architecture of a search, or of a genotype file.

    Of a search, data and space are the same, and so are name and output folder, unless they are given.
    """
    if isinstance(found, Run):
        own = {"name": found.name, "output_dir": found.folder.parents[1], "cell_file": found.folder / "genotype.json"}
        flags = {**of_data(found.config), **own, **flags}
    else:
        flags = {"cell_file": found, **flags}
    _run(RetrainConfig, retrain_main, "retrain", flags)
    return Run(Path(flags.get("output_dir", OUTPUT)) / "retrain" / flags.get("name", "default"))


def load(run: Run | str | Path, weights_key: str | None = None) -> Trained:
    """The network of a retraining: a :class:`Run`, its folder, its name, or a checkpoint.

    ``weights_key``: as ``test.py`` has it. Raises :class:`CydasError`; detectors and segmenters are not for this.
    """
    path = find_checkpoint(str(run.folder if isinstance(run, Run) else run), OUTPUT)
    subject, _ = open_trained(path, weights_key)
    if subject.task != "classification":
        raise CydasError(f"{path} is for {subject.task}: detect.py and segment.py have --predict, export.py the rest")
    return Trained(subject)


def _run(kind: type, main: Callable[[list[str]], None], name: str, flags: dict[str, Any]) -> None:
    if flags.get("seeds") is not None or flags.get("configs") is not None:
        raise CydasError(f"one {name} at a time: call CyDAS.{name} for each seed, with a name of its own")
    known = {item.name for item in fields(kind)} | {"config"}
    if unknown := sorted(set(flags) - known):
        raise TypeError(f"{name}() got unexpected flags: {', '.join(unknown)}")
    values = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items()}
    values = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    try:
        main(as_words(values, f"{name}()"))
    except SystemExit:
        raise CydasError(f"{name}() has a flag with a value of the wrong kind: what was printed names it") from None
