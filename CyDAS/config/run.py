"""The flags that every program knows: what a run is called, and how and where it computes."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from CyDAS.utils.flags import flag


@dataclass
class RunFlags:
    """Flags of a run, whatever it is for."""

    settings: ClassVar[str] = ""  #: what was given and what was not, as YAML, before anything follows from it

    name: str = flag("default", "name of the run; its files go to OUTPUT_DIR/search/NAME, OUTPUT_DIR/retrain/NAME, ...")
    output_dir: Path = flag(Path("experiments"), "folder of all runs")
    overwrite: bool = flag(False, "start anew in the folder of an earlier run of this name, deleting its files")
    resume: bool = flag(False, "go on from a checkpoint")
    seed: int = flag(0, "seed of every random choice", at_least=0, below=2**63)
    device: str = flag("auto", "where to compute; auto takes a GPU where there is one", ("auto", "cpu", "cuda"))
    threads: int | None = flag(None, "CPU threads of a process (default: PyTorch's choice)", at_least=1)
    workers: int = flag(
        4, "processes that decode images of a folder data set; 0 decodes in the program itself", at_least=0
    )
    print_freq: int = flag(50, "steps between two lines of the log", at_least=1)
    use_amp: bool = flag(False, "compute in mixed precision")
    amp_dtype: str = flag("bf16", "the lower precision of --use_amp", ("bf16", "fp16"))
    channels_last: bool = flag(False, "store images with their channels last (NHWC), what many GPU kernels like best")
    tf32: bool = flag(False, "let GPUs multiply float32 matrices in TensorFloat-32: faster, 10 bits of mantissa")
    deterministic: bool = flag(False, "only operations whose results do not differ from run to run; slower on GPUs")
    max_bad_images: int = flag(0, "damaged images of a folder data set that are named and left out", at_least=0)
    sync_bn: bool = flag(False, "batch norm statistics over all processes (GPUs only)")
    use_apex: bool = flag(False, "take SyncBN from apex where it is installed; everything else is PyTorch's own")
    process_timeout: float = flag(
        60.0, "seconds after which a process that does not answer ends the run (several processes)", above=0
    )
    pixel_range: list[float] | None = flag(
        None,
        "numbers for black and white in images of more than 8 bits that do not say it, as LOW HIGH (default: 0 and the "
        "least of 255, 1023, 4095, 16383, 65535 that the training images keep to; for fractions, of 1 and 255)",
    )

    def fill_in(self, given: set[str]) -> None:
        """Set the flags that follow from others and were not ``given``."""

    def foreign(self) -> set[str]:
        """Flags that mean nothing beside the others, and may differ when a run goes on."""
        return set()
