"""Several runs of one program, of several configurations and seeds, and what they find together."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from CyDAS.engine.local_jobs import run_all, visible_gpus
from CyDAS.engine.slurm_jobs import parameters_of, run_on_slurm
from CyDAS.reports.groups import HEAD, Group, aligned, figures_of, rows_of
from CyDAS.reports.report import write_comparison
from CyDAS.reports.runs import RESULT, Finished, read_run
from CyDAS.runs.about import RECORD
from CyDAS.runs.resume import MAY_DIFFER
from CyDAS.spaces import SPACES
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_json
from CyDAS.utils.flags import to_arguments
from CyDAS.utils.settings import REST, SETTINGS, as_yaml
from CyDAS.utils.texts import say

#: Flags that a run of several is started with whatever the whole was, or that the whole alone has.
OF_THE_WHOLE = {"seeds", "configs", "launcher", "jobs", "slurm", "seed", "name", "resume", "threads"}


@dataclass
class Member:
    """One of the runs. ``config``: its own, with its name and seed."""

    label: str  #: of its configuration, among several
    config: Any
    given: set[str]
    folder: Path

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def goes_on(self) -> bool:
        return self.config.resume or self.config.resume_or_start

    def command(self, program: Path, threads: int | None) -> list[str]:
        """The command line of the run alone."""
        flags = to_arguments(self.config, self.given)
        flags += ["--resume_or_start"] if self.config.resume else []
        flags += [f"--threads={threads}"] if threads else []
        return [sys.executable, str(program), *flags, "--seed", str(self.config.seed), "--name", self.name]

    def has_ended(self) -> bool:
        """Whether the run is there with a result, of these very flags."""
        if not (self.folder / RESULT).exists() or not (self.folder / SETTINGS).exists():
            return False
        run = read_run(self.folder)
        made = {**run.config, **run.result.get("about", {}).get("config", {})}
        if any(made[name] != run.config.get(name) for name in made.keys() - MAY_DIFFER):
            return False  # it has gone on with other flags than it began with
        try:
            theirs = _what((self.folder / SETTINGS).read_text("utf-8"))
        except (OSError, ValueError, AttributeError, yaml.YAMLError):  # not as a run has left it
            return False
        return theirs == _what(as_yaml(self.config, self.given | {"seed", "name"}))


def _what(settings: str) -> list[dict[str, Any]]:
    """What settings say of a run, given and not, beside where and how it is started."""
    given = yaml.safe_load(settings)
    rest = given.pop(REST, {})
    return [{name: value for name, value in part.items() if name not in OF_THE_WHOLE} for part in (given, rest)]


def run_many(program: Path, variants: Sequence[tuple[Any, set[str]]]) -> None:
    """Run ``program`` for each of its configurations and seeds; print and write what was found.

    ``variants``: configurations with the names of the flags that were given, as :func:`parse_each` reads them. A run
    that has ended is not repeated where the runs are to go on. Raises :class:`CydasError` for runs that cannot be told
    apart, or are there already; where one failed, after the others have ended; and under torchrun, which would start
    every run once for each of its processes.
    """
    whole, given = variants[0]
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise CydasError("--seeds and --configs start processes of their own: leave out torchrun (NGPUS=1)")
    members = plan(program.stem, variants)
    ended = [member.name for member in members if member.goes_on and member.has_ended()]
    for name in ended:
        say(f"{name}: has ended already")
    waiting = [member for member in members if member.name not in ended]
    for member in waiting:
        if (member.folder / RECORD).exists() and not member.goes_on and not member.config.overwrite:
            raise CydasError(
                f"{member.folder} holds an earlier run: --resume goes on with all that are there, --overwrite deletes "
                "them, --name takes another"
            )
    summary = whole.output_dir / program.stem / f"{whole.name}-seeds.json"
    codes: dict[str, int | str] = {}
    if waiting and whole.launcher == "slurm":
        commands = {member.name: member.command(program, member.config.threads) for member in waiting}
        at_a_time = whole.jobs if "jobs" in given else None
        asked = parameters_of(whole.slurm or [], whole.name, whole.device != "cpu", at_a_time)
        codes = run_on_slurm(commands, summary.with_name(f"{whole.name}-jobs"), asked, all(m.goes_on for m in members))
    elif waiting:
        jobs = min(whole.jobs, len(waiting))
        share = max(1, torch.get_num_threads() // jobs)
        commands = {member.name: member.command(program, member.config.threads or share) for member in waiting}
        codes |= run_all(commands, jobs, whole.threads or share, visible_gpus() if whole.device != "cpu" else [])
    failed = {member.name: why for member in members if (why := _why(codes.get(member.name, 0), member.folder))}
    sum_up(members, failed, summary)
    if failed:
        raise CydasError(f"failed: {', '.join(f'{name} ({why})' for name, why in failed.items())}")


def _why(code: int | str, folder: Path) -> str:
    """Why a run counts as failed, if it does. ``code``: its exit code, or words in the place of one."""
    if code:
        return f"code {code}" if isinstance(code, int) else code
    return "" if (folder / RESULT).exists() else "no result"


def plan(kind: str, variants: Sequence[tuple[Any, set[str]]]) -> list[Member]:
    """The runs. Raises :class:`CydasError` where two of them would have one name."""
    files = variants[0][0].configs or []
    labels = [path.resolve().parent.name if path.name == SETTINGS else path.stem for path in files] or [""]
    for number, label in enumerate(labels):
        if label in labels[:number]:
            first = files[labels.index(label)]
            raise CydasError(f"--configs {first} {files[number]}: runs of both would be {label}: rename one")
    members = []
    for label, (config, given) in zip(labels, variants, strict=True):
        if config.seeds and "seed" in given:
            raise CydasError("--seeds gives every run a seed of its own: leave out --seed")
        of_all, name = config.of_all(), "-".join([config.name, *[label] * bool(files)])
        for seed in config.seeds or [config.seed]:
            own = replace(config, name=f"{name}-seed{seed}", seed=seed, **of_all)
            folder = own.output_dir / kind / own.name
            members.append(Member(label, own, (given - OF_THE_WHOLE) | of_all.keys(), folder))
    return members


def sum_up(members: Sequence[Member], failed: dict[str, str], path: Path) -> None:
    """Print and write what is known of the runs that have ended; without them, nothing."""
    runs = {member.name: read_run(member.folder) for member in members if member.name not in failed}
    if not runs:
        return
    for name, run in runs.items():
        if run.kind == "search":
            say(f"{name}: {_found(run)}")
    several = len({member.label for member in members}) > 1
    whole = path.name.removesuffix("-seeds.json")
    groups = [
        Group(label or whole, [runs[m.name] for m in members if m.label == label and m.name in runs])
        for label in dict.fromkeys(member.label for member in members)
    ]
    groups = [group for group in groups if group.runs]
    for line in aligned(HEAD, rows_of(groups)):
        say(line)
    keys = {m.name: f"{m.label}-seed{m.config.seed}" if m.label else str(m.config.seed) for m in members}
    table = {group.label: {name: each.as_dict() for name, each in figures_of(group).items()} for group in groups}
    summary = {"seeds": {keys[name]: run.result for name, run in runs.items()}, "table": table, "failed": failed}
    accuracies = next(iter(runs.values())).result.get("benchmark", {}).get("accuracies", {})
    if accuracies and not several:
        of_all = table[groups[0].label]
        summary["benchmark"] = {name: [of_all[name]["mean"], of_all[name]["std"] or 0.0] for name in accuracies}
    write_json(path, summary)
    say(f"written: {path}")
    if members[0].config.report:
        warnings = [f"{name} failed: {why}" for name, why in failed.items()]
        for file in write_comparison(groups, warnings, path.with_suffix("")):
            say(f"written: {file}")


def _found(run: Finished) -> str:
    space = SPACES[run.config["space"]]
    return space.brief(space.parse(run.result["genotype"], None, f"the result of {run.folder}"))
