"""The folders of runs, read for a report."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from CyDAS.runs.about import RECORD
from CyDAS.runs.logs import FIGURES
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json

#: Flags in which runs of one setting may differ.
OF_ITS_OWN = {
    "name", "seed", "output_dir", "overwrite", "resume", "resume_or_start", "data_dir", "seeds", "configs", "launcher",
    "jobs", "slurm",
}  # fmt: skip
#: A run's results, whatever it is.
RESULT = "result.json"


@dataclass
class Finished:
    """A run's folder. ``result`` is empty where the run has not ended."""

    folder: Path
    kind: str  #: search, retrain, detect, segment
    about: dict[str, Any]
    result: dict[str, Any]
    figures: dict[str, dict[int, float]] = field(default_factory=dict)  #: by name, then step
    rounds: list[dict[str, Any]] = field(default_factory=list)  #: of a search

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> dict[str, Any]:
        return self.about["config"]

    @property
    def setting(self) -> str:
        """The same for runs that differ in their seed alone."""
        return json.dumps({key: value for key, value in self.config.items() if key not in OF_ITS_OWN}, sort_keys=True)


def read_run(folder: Path) -> Finished:
    """Raises :class:`CydasError` where that is no run's folder, or a file in it cannot be read."""
    if not (folder / RECORD).exists():
        raise CydasError(f"{folder} is no run: there is no {RECORD}")
    about = read_json(folder / RECORD, "record of a run")
    if not isinstance(about, dict) or not isinstance(about.get("config"), dict):
        raise CydasError(f"{folder / RECORD} is no record of a run")
    result = read_json(folder / RESULT, "result") if (folder / RESULT).exists() else {}
    run = Finished(folder, kind_of(folder), about, result, read_figures(folder / FIGURES))
    run.rounds = [read_json(path, "round") for path in sorted((folder / "alphas").glob("round_*.json"))]
    return run


def kind_of(folder: Path) -> str:
    """By the log that it has, whatever the folder above it is called."""
    for kind in ("search", "retrain", "detect", "segment"):
        if (folder / f"{kind}.log").exists():
            return kind
    raise CydasError(f"{folder} is no run: there is no log of a search, retrain, detect or segment")


def read_figures(path: Path) -> dict[str, dict[int, float]]:
    """What was written while the run went on; steps that were taken twice count once. A torn last line is left out."""
    found: dict[str, dict[int, float]] = {}
    if not path.exists():
        return found
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            for name, value in entry["figures"].items():
                found.setdefault(name, {})[int(entry["step"])] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # a run that was killed while it wrote, or another's line
    return {name: dict(sorted(points.items())) for name, points in found.items()}


def differences(runs: list[Finished]) -> dict[str, list[Any]]:
    """The flags in which the runs differ, each with the value of every run."""
    names = dict.fromkeys(name for run in runs for name in run.config)
    values = {name: [run.config.get(name) for run in runs] for name in names if name not in OF_ITS_OWN - {"seed"}}
    return {name: each for name, each in values.items() if any(value != each[0] for value in each)}
