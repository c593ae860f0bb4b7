"""The published networks of the chain space, by the names under which timm creates them."""

from typing import NamedTuple

from CyDAS.models.chain.architecture import Architecture, as_published, parse_architecture

_A = "[[0], [3], [3, 3], [3, 1, 3], [3, 3, 3, 3], [3, 3, 3], [0]]"


class Published(NamedTuple):
    """A network of a paper."""

    architecture: Architecture
    c_last: int = 960  #: channels of stage 6
    image_size: int = 224  #: pixels
    says: str = ""  #: what the paper prints


def _built(text: str) -> Architecture:
    """What the published code built of a list: see ``as_published``."""
    return as_published(parse_architecture(text))


def _cream(text: str, image_size: int = 224, says: str = "") -> Published:
    return Published(_built(text), 320, image_size, says)


#: CDARTS-a and -b (Yu et al. 2022), and the networks of the same space that Cream (Peng et al. 2020) publishes.
PUBLISHED = {
    "cdarts_a": Published(_built(_A), says="7.0 M parameters, 294 M FLOPs, 77.4 % top-1 on ImageNet"),
    # As the figure draws it: 5x5 and expansion 6 in stage 1, which the published code did not build.
    "cdarts_a_drawn": Published(parse_architecture(_A)),
    "cdarts_b": Published(
        _built("[[0], [3, 4, 2, 0], [5, 2, 4, 0], [4, 3, 2, 2], [1, 3, 0, 1], [2, 4, 4, 2], [0]]"),
        says="6.4 M parameters, 394 M FLOPs, 78.2 % top-1 on ImageNet",
    ),
    # What the published detector has: its file builds the last block of stage 3 twice.
    "cdarts_b_22blocks": Published(
        _built("[[0], [3, 4, 2, 0], [5, 2, 4, 0], [4, 3, 2, 2, 2], [1, 3, 0, 1], [2, 4, 4, 2], [0]]")
    ),
    "cream_14": _cream("[[0], [3], [3, 3], [3, 3], [3], [3], [0]]", 64, "14 M FLOPs at 64 pixels"),
    "cream_43": _cream("[[0], [3], [3, 1], [3, 1], [3, 3, 3], [3, 3], [0]]", 96, "43 M FLOPs at 96 pixels"),
    "cream_114": _cream("[[0], [3], [3, 3], [3, 3], [3, 3, 3], [3, 3], [0]]", 160, "114 M FLOPs at 160 pixels"),
    "cream_287": _cream(_A, says="287 M FLOPs"),
    "cream_481": _cream(
        "[[0], [3, 4, 3, 1], [3, 2, 3, 0], [3, 3, 3, 1, 1], [3, 3, 3, 3], [3, 3, 3, 3], [0]]", says="481 M FLOPs"
    ),
    "cream_604": _cream(
        "[[0], [3, 3, 2, 3, 3], [3, 2, 3, 2, 3], [3, 2, 3, 2, 3], [3, 3, 2, 2, 3, 3], [3, 3, 2, 3, 3, 3], [0]]",
        says="604 M FLOPs",
    ),
}
