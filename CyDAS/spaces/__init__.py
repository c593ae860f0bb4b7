"""Search spaces: each builds the networks, owns the architecture parameters and discretises them.

The names of :mod:`CyDAS.spaces.choice` are this package's own. They are loaded when they are first asked for: a look
into a table of NATS-Bench, which needs no network, is not to wait for PyTorch.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    return getattr(import_module("CyDAS.spaces.choice"), name)
