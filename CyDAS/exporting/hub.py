"""A folder for the Hugging Face hub as timm writes it: all that timm makes the network from, and a model card."""

import json
from pathlib import Path
from typing import Any

from CyDAS.exporting.card import model_card
from CyDAS.exporting.formats import difference
from CyDAS.exporting.subject import Subject
from CyDAS.utils.errors import CydasError


def timm_name(subject: Subject) -> tuple[str, dict[str, Any]]:
    """The name under which timm makes the network, and its arguments, in plain values.

    Raises :class:`CydasError` for anything but a classifier.
    """
    if subject.task != "classification":
        raise CydasError(
            f"--format hf is for classifiers: timm makes no networks for {subject.task}; take onnx or torch"
        )
    facts = subject.facts
    stages = list(facts["architecture"].values())
    arguments = facts["sizes"] | {"num_classes": facts["n_classes"], "in_chans": subject.image[0]}
    if facts["space"] == "darts":
        is_one = all(stage == stages[0] for stage in stages)
        return "cydas_cell", {"genotype": stages[0] if is_one else facts["architecture"], **arguments}
    own = {"nats": ("cydas_nats", "arch"), "chain": ("cdarts_chain", "architecture")}
    if facts["space"] not in own:
        raise CydasError(f"--format hf: timm has no name for networks of --space {facts['space']}; take onnx or torch")
    name, key = own[facts["space"]]
    return name, {key: stages[0], **arguments}


def write_hub_folder(subject: Subject, folder: Path) -> float:
    """Write ``config.json``, ``model.safetensors`` and ``README.md``, and let timm make the network from them.

    Returns the largest :func:`difference`.
    """
    import timm
    from timm.models import save_for_hf

    name, arguments = timm_name(subject)
    settings = settings_of(subject, arguments["num_classes"])
    model = timm.create_model(name, pretrained_cfg_overlay=settings, **arguments).eval()
    model.load_state_dict(subject.network.state_dict())
    labels = {"label_names": subject.classes} if subject.classes else {}
    save_for_hf(model, str(folder), model_config=labels, model_args=arguments, safe_serialization=True)
    weights = folder / "model.safetensors"
    content = weights.read_bytes()
    weights.unlink()
    weights.write_bytes(content)  # with the usual permissions: none but the user could read the first
    example = {"name": name, "arguments": json.dumps(arguments)}
    (folder / "README.md").write_text(model_card(subject, example), encoding="utf-8")
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return difference(subject.plain(), lambda images: (again(images),), subject, folder.name)


def settings_of(subject: Subject, n_classes: int) -> dict[str, Any]:
    """What timm wants to know of the images that the network takes."""
    return {
        "num_classes": n_classes,
        "input_size": subject.image,
        "pool_size": None,
        "mean": subject.mean,
        "std": subject.std,
        "crop_pct": subject.facts["crop_pct"],
        "interpolation": subject.facts["interpolation"],
    }
