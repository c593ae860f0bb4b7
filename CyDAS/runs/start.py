"""How a process of a run starts: its device, its threads, its seeds, and how it leaves the others."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from CyDAS.utils.distributed import Process, start_process, stop_process
from CyDAS.utils.lost import leave_word


@contextmanager
def started(config: Any) -> Iterator[Process]:
    """This process among the run's, which it leaves however the program ends; by an error, it tells them which."""
    process = start(config)
    try:
        yield process
    except BaseException as error:
        leave_word(error)
        raise
    finally:
        stop_process()


def start(config: Any) -> Process:
    """Choose device and threads and seed every generator, alike on all processes."""
    if config.threads:
        torch.set_num_threads(config.threads)
    process = start_process(config.device, config.process_timeout)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    elif process.device.type == "cuda":
        # shapes are alike in all steps: trying cuDNN's kernels once pays, though another one may win in the next run
        torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = config.tf32  # PyTorch's own default is to allow it for convolutions
    torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
    seed_everything(config.seed)
    return process


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
