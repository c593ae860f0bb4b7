"""What holds on a GPU, and how fast it is there: everything in one command of at most ten minutes.

    python benchmarks/gpu.py                           # all parts, on the first GPU
    python benchmarks/gpu.py --only resume search
    python benchmarks/gpu.py --device cpu --quick      # the same code at small sizes, without a GPU

Reference values come from the file that CYDAS_FIXTURES names. Every part runs in a process of its own, since one failed
kernel spoils CUDA for the rest of a process: a part that fails, hangs or dies hides nothing of the others. The result
is a table, and a JSON file that is written anew after each part. Ends with code 1 where a part has failed.
"""

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import CyDAS  # noqa: F401  before torch: it says how long waiting threads spin

#: Packages that draw, log and count, and that a bare machine may lack: nothing here is measured by them.
REPLACEABLE = ("tensorboardX", "thop", "graphviz", "tqdm")
MISSING = [name for name in REPLACEABLE if importlib.util.find_spec(name) is None]


def stand_in(name: str) -> MagicMock:
    """A package that does nothing, where the real one is missing."""
    module = MagicMock(name=name, __spec__=ModuleSpec(name, None), __path__=[])
    module.profile.return_value = (0.0, 0.0)  # thop's
    module.Digraph.return_value.source = ""  # graphviz's
    module.ExecutableNotFound, module.CalledProcessError = OSError, subprocess.CalledProcessError
    return module


INNER = ("thop.vision", "thop.vision.basic_hooks")  # what is imported from within them
sys.modules.update({name: stand_in(name) for name in (*MISSING, *INNER) if name.split(".")[0] in MISSING})

# isort: split
import torch

from benchmarks import gpu_times
from benchmarks.gpu_checks import CHECKS
from benchmarks.speed import record
from CyDAS.utils.errors import CydasError, run_program
from CyDAS.utils.files import write_json
from CyDAS.utils.numbers import whole_number

#: Every part: (device, quick) to figures. What is checked comes before what is timed.
PARTS = CHECKS | gpu_times.TIMES
#: Seconds after which a part is ended: none takes the others' time.
LIMITS = dict.fromkeys(PARTS, 60) | {
    "reference": 130, "nats": 90, "search": 180, "retrain": 90, "chain": 120, "compiled": 180,
}  # fmt: skip


def run_part(name: str, device: torch.device, quick: bool) -> dict[str, Any]:
    """One part's figures, or how it failed."""
    start = time.perf_counter()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        figures = PARTS[name](device, quick)
        failed = list(errors_in(figures))
        result = {"ok": not failed, "figures": figures} | ({"error": "; ".join(failed)} if failed else {})
    except Exception as error:
        message = f"{type(error).__name__}: {error}".strip()
        result = {"ok": False, "error": message, "trace": traceback.format_exc()[-4000:]}
    return result | {"seconds": round(time.perf_counter() - start, 1)}


def errors_in(figures: dict[str, Any]) -> Iterator[str]:
    """What failed within a part that went on."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from ([f"{name}: {value['error']}"] if "error" in value else errors_in(value))


def run_apart(name: str, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """The same in a process of its own, which is ended after so many ``seconds``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        command = [sys.executable, __file__, "--device", options.device, "--part", name, "--output", str(file)]
        command += ["--quick"] if options.quick else []
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True, **pipes)
        seconds, problem = max(min(seconds, LIMITS[name]), 1), None
        try:
            lines = [line for line in process.communicate(timeout=seconds)[0].splitlines() if line.strip()]
            if process.returncode:
                problem = f"ended with code {process.returncode}: {(lines or ['silently'])[-1][:300]}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that it has started
            process.communicate()
            problem = f"not ended after {seconds:.0f} s"
        found = json.loads(file.read_text()) if file.exists() else {}
        return found | ({"ok": False, "error": problem, "seconds": round(seconds, 1)} if problem or not found else {})


def say(name: str, result: dict[str, Any]) -> None:
    """A part's lines of the table."""
    state = "holds" if result["ok"] else "FAILED"
    print(f"{name:<20} {state:<7} {result.get('seconds', 0):>6} s  {result.get('error', '').splitlines()[:1] or ''}")
    for key, value in result.get("figures", {}).items():
        print(f"    {key:<44} {value}", flush=True)


def about(device: torch.device) -> dict[str, Any]:
    """How the figures were measured."""
    found = record() | {"device": str(device), "stand_ins": MISSING}
    if device.type == "cuda":
        found |= {
            "card": torch.cuda.get_device_name(device), "capability": list(torch.cuda.get_device_capability(device)),
            "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(),
        }  # fmt: skip
    return found


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where to run (default: cuda)")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repeats: does it run at all?")
    parser.add_argument("--only", nargs="+", metavar="PART", help=f"parts to run, of {', '.join(PARTS)}")
    parser.add_argument(
        "--seconds", type=whole_number, metavar="N", default=590, help="for all parts together (default: 590)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/gpu.json")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = set(options.only or ()) - set(PARTS)
    if unknown:
        raise CydasError(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        raise CydasError("no GPU is available to PyTorch here; --device cpu --quick runs the same code on the CPU")
    return options


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    device = torch.device(options.device, 0) if options.device == "cuda" else torch.device("cpu")
    if options.part:
        gpu_times.note = lambda figures: write_json(options.output, {"ok": False, "figures": figures})
        write_json(options.output, run_part(options.part, device, options.quick))
        return
    if MISSING:
        print(f"not installed, and replaced by what does nothing: {', '.join(MISSING)}")
    end, results = time.monotonic() + options.seconds, {}
    for name in options.only or PARTS:
        results[name] = run_apart(name, options, end - time.monotonic())
        say(name, results[name])
        write_json(options.output, about(device) | {"quick": options.quick, "parts": results})
    print(f"written: {options.output}")
    failed = [name for name, result in results.items() if not result["ok"]]
    if failed:
        raise CydasError(f"failed: {', '.join(failed)}")


def run_main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    run_program(main)


if __name__ == "__main__":
    run_main()
