"""CyDAS: cyclic differentiable architecture search (CDARTS, IEEE TPAMI 2022) on today's PyTorch."""

import importlib
import os
from typing import Any

from CyDAS.utils.after_import import import_after

__version__ = "0.1.0"

# How long a thread of OpenMP spins before it sleeps, unless the user said so; read when torch is first imported.
# By default it spins so long that one more busy program on the same cores slows a step down a hundredfold.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# timm.create_model("cdarts_a") and ("cydas_dartsv2") work wherever both are imported. timm itself takes seconds to
# import, and most programs here do not need it; it has no list of plug-ins that it would look into by itself.
import_after("timm", "CyDAS.models.chain.registry")
import_after("timm", "CyDAS.spaces.registry")

#: What Python programs use, and where it is: imported when it is asked for.
_API = {"search": "CyDAS.search", "retrain": "CyDAS.retrain", "load": "CyDAS.api", "Run": "CyDAS.api"}


def __getattr__(name: str) -> Any:
    """``CyDAS.search(...)``, ``CyDAS.retrain(...)``, ``CyDAS.load(...)``: see ``CyDAS/api.py``."""
    if name not in _API:
        raise AttributeError(f"module 'CyDAS' has no attribute {name!r}")
    module = importlib.import_module(_API[name])
    return module if _API[name] == f"CyDAS.{name}" else getattr(module, name)
