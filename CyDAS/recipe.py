"""What a retraining's settings follow from where they were not given: the network's size, the data."""

from CyDAS.config import RetrainConfig
from CyDAS.data import DataSet, ImagesInFolders

#: Published rule for CIFAR: below so many parameters (without auxiliary head), (weight decay, drop path).
SIZE_RULE = ((3.0e6, (3e-4, 0.2)), (3.5e6, (3e-4, 0.3)), (float("inf"), (5e-4, 0.3)))


def apply_size_rule(config: RetrainConfig, given: set[str], parameters: int) -> list[str]:
    """Set weight decay and drop path by the network's size, as published for cells on CIFAR; a flag that was given
    wins.

    Returns lines for the log.
    """
    if config.space != "darts" or config.dataset not in ("cifar10", "cifar100"):
        return []
    lines = []
    weight_decay, drop_path = next(values for limit, values in SIZE_RULE if parameters < limit)
    for name, value in (("weight_decay", weight_decay), ("drop_path_prob", drop_path)):
        if name in given:
            lines.append(f"--{name} {getattr(config, name):g} as given ({value:g} by the network's size)")
        else:
            setattr(config, name, value)
            lines.append(f"--{name} {value:g} by the network's size")
    return lines


def fit_auxiliary_head(config: RetrainConfig, given: set[str]) -> None:
    """None where networks have none, unless it was given: then the space says so."""
    if config.space != "darts" and "aux_weight" not in given:
        config.aux_weight = 0.0


def fit_cutout(config: RetrainConfig, given: set[str], data: DataSet) -> list[str]:
    """No cutout for images in folders, unless it was given. Returns warnings: of a square that blanks whole images."""
    if isinstance(data, ImagesInFolders) and "cutout_length" not in given:
        config.cutout_length = 0
    if config.cutout_length < 2 * data.image_size:  # wherever the square's centre lies
        return []
    square = f"--cutout_length {config.cutout_length}"
    return [f"{square} blanks whole images of {data.image_size} pixels: give less"]
