"""Flags of a program that starts several runs of itself: which, and where."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import flag


@dataclass
class ManyFlags:
    """Of the programs that train a network of a search space."""

    seeds: list[int] | None = flag(
        None, "one run for each seed, as NAME-seedN, and a table of means and deviations over them", of_many=True
    )
    configs: list[Path] | None = flag(
        None, "YAML files like that of --config, whole or in part: one run for each file and seed, as NAME-FILE-seedN; "
        "flags beside them win over each", of_many=True,
    )  # fmt: skip
    launcher: str = flag(
        "local", "where the runs of --seeds and --configs are: processes here, or jobs of a cluster under Slurm "
        "(package submitit)", ("local", "slurm"), of_many=True,
    )  # fmt: skip
    jobs: int = flag(
        1, "runs of --seeds and --configs at a time; with --launcher slurm, unless given, as many as the cluster lets",
        at_least=1, of_many=True,
    )  # fmt: skip
    slurm: list[str] | None = flag(
        None, "what each job of --launcher slurm asks for, as sbatch names it: partition=gpu time=1440 (minutes) "
        "gpus_per_node=1 cpus_per_task=8 mem=32G ...", of_many=True,
    )  # fmt: skip

    @property
    def is_many(self) -> bool:
        """Whether there are several runs, or one that is called and reported like those of several."""
        return bool(self.seeds or self.configs)

    def of_all(self) -> dict[str, object]:
        """Flags that follow from the name that all runs have in common, not from each one's own."""
        return {}

    def check_many(self, dry_run: bool) -> None:
        """Raise :class:`CydasError` for values that do not go together."""
        if self.is_many and dry_run:
            raise CydasError("--dry_run rehearses one run: leave out --seeds and --configs")
        if self.seeds and (len(set(self.seeds)) < len(self.seeds) or min(self.seeds) < 0):
            raise CydasError(f"--seeds must be different numbers of at least 0, not {self.seeds}")
        if self.launcher == "slurm" and find_spec("submitit") is None:
            raise CydasError("--launcher slurm needs the package: pip install submitit")
        if self.slurm and self.launcher != "slurm":
            raise CydasError("--slurm is for --launcher slurm: give that, or leave it out")
