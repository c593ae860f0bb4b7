"""Which classes and images a network was trained on: recorded in checkpoints, compared, mapped by name."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from CyDAS.utils.errors import CydasError
from CyDAS.utils.texts import few


def places(own: Sequence[str], trained: Sequence[str], where: str, hint: str = "") -> dict[str, int]:
    """The number that a trained network has for each of the classes ``own``.

    Raises :class:`CydasError` for classes that it does not know.
    """
    number = {name: index for index, name in enumerate(trained)}
    unknown = [name for name in own if name not in number]
    if unknown:
        raise CydasError(
            f"{where} has images of classes that the network was not trained on: {few(unknown)}; it knows "
            f"{len(trained)}: {few(trained)}{hint}"
        )
    return {name: number[name] for name in own}


def digest(names: Iterable[str], labels: Iterable[int]) -> str:
    """A number in hexadecimal that any other name, label or order would change."""
    total = hashlib.sha256()
    for name, label in zip(names, labels, strict=True):
        total.update(f"{name}\0{label}\0".encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def has_record(content: dict[str, Any]) -> bool:
    """Whether a checkpoint says which data it was made with; published ones do not."""
    return _record(content) is not None


def _record(content: dict[str, Any]) -> Any:
    about = content.get("about")
    return content.get("data", about.get("data") if isinstance(about, dict) else None)


def recorded_data(content: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """What a checkpoint says of the data it was made with: :meth:`LabelledImages.record`, or None.

    Raises :class:`CydasError` for something else in its place.
    """
    data = _record(content)
    if data is None:
        return None
    classes = data.get("classes") if isinstance(data, dict) else None
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise CydasError(f"checkpoint {path}: its record of the data holds no list of class names")
    if not classes or len(set(classes)) < len(classes):
        raise CydasError(f"checkpoint {path}: its record of the data names no classes, or one of them twice")
    return data


def check_same_data(content: dict[str, Any], here: dict[str, Any], path: Path, parts: Sequence[str]) -> None:
    """Raise :class:`CydasError` where a checkpoint was made with other images or classes than there are here, as
    :meth:`LabelledImages.record` says.

    ``parts``: those that matter, ``train`` or ``test``. A checkpoint that says nothing passes.
    """
    saved = recorded_data(content, path)
    if saved is None:
        return
    differences = list(_class_differences(saved["classes"], here["classes"]))
    for part in parts:
        for key, what in ((f"{part}_images", f"{part} images"), (f"{part}_of_class", f"{part} images of")):
            if key not in saved or saved[key] == here[key]:
                continue
            if key.endswith("images"):
                differences.append(f"{what} were {saved[key]}, are {here[key]}")
            elif not differences:
                pairs = zip(here["classes"], saved[key], here[key], strict=True)
                changed = [f"{name} were {old}, are {new}" for name, old, new in pairs if old != new]
                differences.append(f"{what} {few(changed)}")
        if not differences and saved.get(f"{part}_digest", here[f"{part}_digest"]) != here[f"{part}_digest"]:
            differences.append(f"as many {part} images, but others: other names, or of other classes")
    if differences:
        raise CydasError(
            f"checkpoint {path} was made with other data: {'; '.join(differences)}. Go on with the data it was made "
            "with, or start a run of another --name"
        )


def _class_differences(saved: Sequence[str], here: Sequence[str]) -> Iterable[str]:
    gone, new = ([name for name in one if name not in set(other)] for one, other in ((saved, here), (here, saved)))
    if gone:
        yield f"class(es) {few(gone)} are missing"
    if new:
        yield f"class(es) {few(new)} are new"
    if not gone and not new and list(saved) != list(here):
        yield "the classes are in another order"


def check_outputs(weights: dict[str, Any], n_classes: int, where: str, path: Path) -> None:
    """Raise :class:`CydasError` where a checkpoint's classifier tells another number of classes apart than there are.

    ``weights``: a network's state dict, its keys with any prefix.
    """
    for key, value in weights.items():
        outputs: Sequence[int] = getattr(value, "shape", ())
        is_last = f".{key}".endswith((".fc.bias", ".classifier.bias")) and "aux_head." not in key
        if is_last and len(outputs) == 1 and outputs[0] != n_classes:
            raise CydasError(
                f"checkpoint {path} is of a network for {outputs[0]} classes, but {where} has {n_classes}: test it on "
                "images of its own classes"
            )
