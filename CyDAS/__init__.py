"""CyDAS: cyclic differentiable architecture search (CDARTS, IEEE TPAMI 2022) on today's PyTorch."""

import os

__version__ = "0.1.0"

# How long a thread of OpenMP spins before it sleeps, unless the user said so; read when torch is first imported.
# By default it spins so long that one more busy program on the same cores slows a step down a hundredfold.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
