"""What a test takes from a checkpoint: the one rule of given and remembered flags.

A flag that was given wins, together with all that depends on it. What a checkpoint remembers holds only where nothing
was given that replaces it:

- another ``--dataset`` lies elsewhere, so the remembered ``data_dir`` and ``test_dir`` are void;
- ``--data_dir`` says where the test images are (``DATA_DIR/val``), so the remembered ``test_dir`` is void; and where
  test images are named, nothing is taken out of the training's (``test_share``);
- ``image_size`` is what the network was trained at, whatever it is tested on, unless it is given;
- so are ``crop_pct`` and ``test_interpolation`` the ones of its own tests;
- the network's shape is in its weights: a flag that says otherwise is an error;
- the number of classes and channels is what the data say, and is never taken from flags of the training.
"""

from pathlib import Path
from typing import Any

from CyDAS.config import EMBEDDED, FOLDER_PIXELS, IN_MEMORY, EvaluationConfig
from CyDAS.spaces import SPACES, check_genotype, load_architecture
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import recall_network

DATA = (
    "dataset", "data_dir", "test_dir", "train_dir", "test_share", "test_seed", "image_size", "crop_pct",
    "test_interpolation",
)  # fmt: skip


def is_ours(content: dict[str, Any]) -> bool:
    """Whether a checkpoint was written by CyDAS; other programs may have a ``config`` of their own."""
    return "genotype" in content and isinstance(content.get("config"), dict)


def recall(config: EvaluationConfig, given: set[str], saved: dict[str, Any], path: Path) -> list[str]:
    """Complete ``config`` by the settings that the checkpoint ``path`` was made with.

    Returns lines that say what the result cannot be compared with. Raises :class:`CydasError` for a given flag that
    contradicts the network in the checkpoint.
    """
    saved = _completed(saved)
    void = set(given)
    if "dataset" in given and config.dataset != saved.get("dataset"):
        void |= {"data_dir", "test_dir"}
    if "data_dir" in given:
        void |= {"test_dir", "train_dir"}
    if "test_dir" in void and "test_share" not in given:
        void |= {"test_share", "test_seed", "train_dir"}
    recall_network(config, given, saved, [name for name in DATA if name not in void], f"checkpoint {path}")
    trained_on = saved.get("dataset")
    if {trained_on, config.dataset} & set(IN_MEMORY) and trained_on != config.dataset:
        return [
            f"the network was trained on {trained_on}: images of {config.dataset} are resized and normalised in "
            "another way than those were"
        ]
    return []


def _completed(saved: dict[str, Any]) -> dict[str, Any]:
    """Settings with what the training took where they say nothing.

    Earlier versions did not write down which macro-structure that was: the data set decided.
    """
    dataset: Any = saved.get("dataset")
    completed = dict(saved)
    if saved.get("image_size") is None:
        completed["image_size"] = IN_MEMORY.get(dataset, FOLDER_PIXELS)
    if saved.get("model_type") is None and saved.get("space", "darts") == "darts":
        completed["model_type"] = "cifar" if dataset in IN_MEMORY else "imagenet"
    return completed


def find_architecture(config: EvaluationConfig, content: dict[str, Any], path: Path) -> Any:
    """The genotype of ``--cell_file``, else the checkpoint's own."""
    if config.cell_file:
        architecture = load_architecture(config.cell_file, config.layer_num, config.space)
        check_genotype(content, architecture, config, path)
        return architecture
    if "genotype" not in content:
        raise CydasError(
            f"checkpoint {path} does not say which architecture it is of: give its genotype with --cell_file"
        )
    return SPACES[config.space].parse(content["genotype"], config.layer_num, f"checkpoint {path}")


def tested_on(config: EvaluationConfig) -> str:
    """The data set and the place that its test images were read from."""
    if config.dataset in EMBEDDED:
        return f"{config.dataset} (scikit-learn's)"
    place = config.data_dir if config.dataset in IN_MEMORY else config.class_folders("val")
    return f"{config.dataset} in {place.resolve()}"
