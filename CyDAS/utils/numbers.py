"""Numbers as people write them: Python itself also takes 1_000, +5, ' 5' and the digits of other scripts."""

import re


def whole_number(text: str) -> int:
    """The number that is written in decimal digits alone. Raises ``ValueError`` for anything else."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,17}", text):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)
