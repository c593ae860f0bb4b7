"""The commands in README.md and docs: how they are found, and what each would start."""

import re
import shlex
import subprocess
from pathlib import Path
from typing import NamedTuple

from conftest import ROOT

#: What a command needs that is not there by itself: a comment that starts so, beside it or on a line above it.
NEEDS = re.compile(r"#\s*needs (.*)")
#: How commands within a sentence start.
INLINE = re.compile(r"`((?:python|bash|pip) [^`\n]*)`")
PYTHON_STAND_IN = """#!/bin/sh
if [ "$1" = -c ]; then echo "${GPUS:-8}"; else printf '<%s>\\n' "$@" "END"; fi
"""
#: What a job of Slurm finds; the job's step is run at once.
SLURM = {
    "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "n",
    "SLURM_NODEID": "0",
}  # fmt: skip


class Command(NamedTuple):
    document: str
    text: str  #: without comments and continuations
    needs: str = ""  #: what the document says that it needs

    @property
    def words(self) -> list[str]:
        return [word for word in shlex.split(self.text) if word != "..."]

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


class Start(NamedTuple):
    """A program of Python that a command starts."""

    program: str  #: a file, or a module
    arguments: list[str]
    processes: int = 1


def blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands_of(path: Path) -> list[Command]:
    """All commands of a document: of its blocks in bash, and those within its sentences."""
    text = path.read_text()
    found = []
    for language, content in blocks(text):
        if language == "bash":
            found += _of_block(path.name, content)
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return found + [Command(path.name, line) for line in INLINE.findall(plain)]


def _of_block(document: str, content: str) -> list[Command]:
    found, variables, needs = [], {}, ""
    for line in content.replace("\\\n", " ").splitlines():
        said = NEEDS.search(line)
        code = _without_comment(line)
        if not code:
            needs = said[1] if said else needs
            continue
        if variable := re.fullmatch(r"(\w+)=(\"[^\"]*\"|\S*)", code):
            variables[variable[1]] = variable[2].strip('"')
            continue
        for name, value in variables.items():
            code = code.replace(f"${name}", value)
        for part in re.split(r"\s*&&\s*|\s*;\s*", code):
            found.append(Command(document, " ".join(part.split()), said[1] if said else needs))
    return found


def _without_comment(line: str) -> str:
    """Up to a ``#`` that follows white space, or starts the line."""
    return re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()


def starts(command: Command, folder: Path) -> list[Start] | None:
    """The Python programs that a command starts, with all their flags; None where it is no command of this kind.

    Scripts are run with a stand-in for Python that writes down what it is asked for, on a machine with eight GPUs or,
    where the command names processes on CPUs, with none.
    """
    words, environment = command.words, {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        name, _, value = words.pop(0).partition("=")
        environment[name] = value
    match words:
        case ["python" | ".venv/bin/python", "-m", module, *arguments]:
            return [Start(module, arguments)]
        case ["python" | ".venv/bin/python", file, *arguments]:
            return [Start(file, arguments)]
        case [program, *arguments] if program.startswith("cydas-"):
            return [Start(f"CyDAS.{program.removeprefix('cydas-').replace('-', '_')}", arguments)]
        case ["bash" | "sbatch" as how, script, *arguments]:
            assert (ROOT / script).is_file(), f"{command}: there is no {script}"
            slurm = SLURM if how == "sbatch" else {}
            gpus = {"GPUS": "0" if "CPU_PROCESSES" in environment else "8"}
            return _of_script(script, arguments, environment | slurm | gpus, folder)
    return None


def _of_script(script: str, arguments: list[str], environment: dict[str, str], folder: Path) -> list[Start]:
    tools = folder / "tools"
    if not tools.exists():
        tools.mkdir()
        for name, content in {
            "python": PYTHON_STAND_IN,
            "srun": '#!/bin/sh\nexec "$@"\n',
            "scontrol": "#!/bin/sh\necho node0\n",
        }.items():
            (tools / name).write_text(content)
            (tools / name).chmod(0o755)
    environment = {"PYTHON": str(tools / "python"), "PATH": f"{tools}:/usr/bin:/bin", "OUT": "runs", **environment}
    done = subprocess.run(
        ["bash", script, *arguments], cwd=ROOT, capture_output=True, text=True, env=environment, timeout=60
    )
    assert done.returncode == 0, f"{script}: {done.stderr}"
    said = re.findall(r"^<(.*)>$", done.stdout, re.MULTILINE)
    found, words = [], []
    for word in said:
        if word != "END":
            words.append(word)
            continue
        processes = 1
        if words[:2] == ["-m", "torch.distributed.run"]:
            processes = int(words[words.index("--nproc_per_node") + 1])
            at = next(place for place, each in enumerate(words) if each.startswith("CyDAS/"))
            words = words[at:]
        words = words[1:] if words[0] == "-m" else words
        found.append(Start(words[0], words[1:], processes))
        words = []
    return found


def check_pip(words: list[str]) -> None:
    """``pip install`` of packages that this project knows, or of itself with extras that it has."""
    project = (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^(\w+) = \[", project.partition("[project.optional-dependencies]")[2], re.MULTILINE))
    assert words[:1] == ["install"], words
    for word in (word for word in words[1:] if not word.startswith("-")):
        name, _, own = word.partition("[")
        if name in (".", "CyDAS"):
            assert set(filter(None, own.rstrip("]").split(","))) <= extras, f"{word}: extras are {extras}"
        else:
            assert word == "ruff" or re.search(rf'"{re.escape(word)}[>\[]', project), f"pip install {word}"
