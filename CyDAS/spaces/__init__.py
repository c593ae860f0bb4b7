"""Search spaces: each builds both networks, owns the architecture parameters and discretises them."""

from CyDAS.spaces.darts import DartsSpace

__all__ = ["DartsSpace"]
