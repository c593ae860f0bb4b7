"""Runs as jobs of a cluster under Slurm, by way of submitit: submitted, waited for, found again by a later command.

Each run is one process. It saves before its job's time is up, and the job queues again and goes on.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from CyDAS.utils.errors import CydasError, stopping
from CyDAS.utils.files import read_json, write_json
from CyDAS.utils.texts import say

#: Which run has which job, in the folder of the jobs.
JOBS = "jobs.json"
#: States of a job that will go on, or start, by itself.
ALIVE = {"PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "RESIZING"}
#: Unless --slurm says otherwise: minutes of a job, and seconds before their end at which its run is told to save.
MINUTES, WARNING = 24 * 60, 180
#: A job queues again so often, at most.
TIMES = 100
#: What would make another number of processes of a run, or is submitit's to say.
NOT_ASKED = {"nodes", "ntasks", "ntasks_per_node", "array", "output", "error", "signal", "open_mode"}
#: Seconds for the cluster to end a job whose run it has told to end.
PATIENCE = 600.0


class Job:
    """One run, as submitit calls it on its machine: the program as a process of its own."""

    def __init__(self, command: list[str], again: bool = False):
        """``again``: the job has been there before."""
        self.command, self.again = command, again
        self.process: subprocess.Popen | None = None

    def __call__(self) -> int:
        """The exit code."""
        again = self.again or int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
        cores = os.environ.get("SLURM_CPUS_PER_TASK")
        self.process = subprocess.Popen(
            [*self.command, *["--resume_or_start"] * again],
            env=os.environ | ({"OMP_NUM_THREADS": cores} if cores else {}),
            # Slurm's warning that time is short goes to all processes of the job; the run is told by SIGTERM.
            preexec_fn=lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN),
        )
        while (code := self.process.poll()) is None:
            time.sleep(0.5)
        if code in (128 + signal.SIGTERM, -signal.SIGTERM):
            time.sleep(PATIENCE)  # told by the cluster: whether the job is over or queues again is not ours to say
        return code

    def checkpoint(self) -> Any:
        """What is to be queued again, when the run has saved; submitit asks for it as the job's time is nearly up."""
        from submitit.helpers import DelayedSubmission

        if self.process:
            self.process.terminate()
            with suppress(ChildProcessError):  # it has just ended, and its code was asked for
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(Job(self.command, again=True))


def parameters_of(words: Sequence[str], name: str, gpu: bool, at_a_time: int | None) -> dict[str, Any]:
    """What submitit is told of ``--slurm KEY=VALUE ...``; what sbatch alone knows is handed on to it.

    Raises :class:`CydasError` for what is no such thing.
    """
    asked: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        key = key.strip("-").replace("-", "_")
        if not key.isidentifier():
            raise CydasError(f"--slurm {word}: NAME=VALUE is expected, as sbatch has it: partition=gpu")
        if key in NOT_ASKED:
            raise CydasError(f"--slurm {word}: each run is one process of one job; scripts/slurm has larger ones")
        asked[key] = (int(value) if value.isdecimal() else value) if equals else True
    for key in ("time", "signal_delay_s"):
        if type(asked.get(key, 0)) is not int:
            raise CydasError(f"--slurm {key}={asked[key]}: a whole number is expected, of minutes for time")
    if gpu and not any("gpu" in key or key == "gres" for key in asked):
        asked["gpus_per_node"] = 1
    own = {"job_name": name, "time": MINUTES, "signal_delay_s": WARNING}
    own |= {key: asked.pop(key) for key in own if key in asked}
    limit = {"array_parallelism": at_a_time} if at_a_time else {}
    return own | limit | {"additional_parameters": asked}


def make_executor(folder: Path, parameters: dict[str, Any]) -> Any:
    """Slurm, as submitit has it. Raises :class:`CydasError` where its commands are missing."""
    from submitit import SlurmExecutor

    try:
        executor = SlurmExecutor(folder, max_num_timeout=TIMES)
    except RuntimeError:
        raise CydasError("--launcher slurm: there is no srun here; start this where Slurm's commands are") from None
    executor.update_parameters(**parameters)
    return executor


def run_on_slurm(
    commands: dict[str, list[str]], folder: Path, parameters: dict[str, Any], resume: bool
) -> dict[str, int | str]:
    """Submit the commands, those that are not in the queue already, wait for all, and return their exit codes.

    In the place of another code than 0 stands in words what has become of the job. ``folder``: for submitit's files,
    as all machines see it. A signal ends the waiting alone. Raises :class:`CydasError` where nothing can be submitted,
    or a run has a job already and is not to ``resume``.
    """
    executor = make_executor(folder, parameters)
    known = read_json(folder / JOBS, "list of jobs") if (folder / JOBS).exists() else {}
    jobs = {name: executor.job_class(folder, known[name]) for name in commands if name in known}
    jobs = {name: job for name, job in jobs.items() if str(job.state).upper() in ALIVE}
    if jobs and not resume:
        name, job = next(iter(jobs.items()))
        raise CydasError(f"{name} is in the queue as job {job.job_id}: --resume waits for it, scancel ends it")
    submitted = _submit(executor, {name: command for name, command in commands.items() if name not in jobs})
    for name, job in (jobs | submitted).items():
        say(f"{name}: job {job.job_id}" + (", in the queue already" if name in jobs else ""))
    jobs |= submitted
    write_json(folder / JOBS, known | {name: job.job_id for name, job in jobs.items()})
    whole = " ".join(sorted({job.job_id.partition("_")[0] for job in jobs.values()}))
    with stopping(f"the jobs stay in the queue, --resume waits for them again, scancel {whole} ends them"):
        return _wait(jobs)


def _submit(executor: Any, commands: dict[str, list[str]]) -> dict[str, Any]:
    if not commands:
        return {}
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the package need not be installed over there
    try:
        with executor.batch():  # one array of jobs
            return {name: executor.submit(Job(command)) for name, command in commands.items()}
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        said = [line for line in str(error).splitlines() if line.strip()]
        raise CydasError(f"--launcher slurm: nothing was submitted: {said[-1] if said else error}") from None


def _wait(jobs: dict[str, Any]) -> dict[str, int | str]:
    codes: dict[str, int | str] = {}
    while len(codes) < len(jobs):
        for name, job in jobs.items():
            if name not in codes and job.done():
                codes[name] = _code_of(job)
                say(f"{name}: ended" + (f" with {codes[name]}" if codes[name] else ""))
        time.sleep(1)
    return codes


def _code_of(job: Any) -> int | str:
    error = job.exception()
    code = f"state {job.state}" if error else job.result()
    return f"{code if error else f'code {code}'}, log {job.paths.stderr}" if code else 0
