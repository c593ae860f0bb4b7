"""CyDAS: cyclic differentiable architecture search (CDARTS, IEEE TPAMI 2022) on today's PyTorch."""

__version__ = "0.1.0"
