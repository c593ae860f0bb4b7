"""The model card of an exported classifier: what it is, how it was trained, how accurate it is, how it is loaded."""

from typing import Any

from CyDAS.config import RetrainConfig
from CyDAS.exporting.subject import Subject
from CyDAS.runs.resume import MAY_DIFFER
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import read_json
from CyDAS.utils.flags import plain
from CyDAS.utils.settings import as_words
from CyDAS.utils.texts import few, printable

HEAD = """---
license: mit
library_name: timm
tags:
- image-classification
- timm
- neural-architecture-search
---
"""


def model_card(subject: Subject, example: dict[str, str]) -> str:
    """The text of ``README.md``. ``example``: timm's name and arguments of the network."""
    facts = subject.facts
    channels, height, width = subject.image
    classes = f"{len(subject.classes)}: {few(subject.classes, 20)}" if subject.classes else "not named"
    rows = [
        ("space", facts["space"]),
        ("parameters", f"{facts['parameters']:,}"),
        ("multiply-accumulates", f"{facts['macs'] / 1e6:.2f} M for one image"),
        ("images", f"{channels} x {height} x {width}, in 0 to 1, normalised by mean {subject.mean}, std {subject.std}"),
        ("classes", classes),
        ("data", facts["dataset"]),
    ]
    table = "\n".join(f"| {name} | {printable(value)} |" for name, value in rows)
    architecture = "\n".join(dict.fromkeys(facts["architecture"].values()))
    return f"""{HEAD}
# {printable(subject.config.get("name") or subject.path.stem)}

An image classifier whose architecture is one of a search space of CyDAS, cyclic differentiable architecture search.

| | |
|---|---|
{table}

```
{architecture}
```

## How it was trained

{training(subject)}

## How accurate it is

{accuracy(subject)}

## How it is loaded

```python
import CyDAS  # before or after timm: it teaches timm the network
import timm

model = timm.create_model("local-dir:THIS_FOLDER", pretrained=True).eval()  # or "hf-hub:USER/NAME"
```

Without the weights it is `timm.create_model("{example["name"]}", **arguments)` with these arguments:

```json
{example["arguments"]}
```

Licence: MIT.
"""


def training(subject: Subject) -> str:
    """The training's flags, but for those that say where things lie."""
    if not subject.config:
        return "The checkpoint does not say."
    flags = " ".join(_flags(subject.config)) or "(the defaults)"
    epochs = "" if subject.epoch is None else f" after {subject.epoch} epochs"
    return f"`retrain.py {printable(flags)}`\n\nThe weights are those under `{subject.where}`{epochs}."


def _flags(saved: dict[str, Any]) -> list[str]:
    """Those that differ from their defaults, as they are written on a command line."""
    defaults = {name: value for name, value in plain(RetrainConfig()).items() if name not in MAY_DIFFER}
    own = {name: saved[name] for name, default in defaults.items() if saved.get(name, default) != default}
    return as_words(own, "the checkpoint's flags")


def accuracy(subject: Subject) -> str:
    """What the run's result says; the best epoch is marked as what it is."""
    try:
        result = read_json(subject.path.parent / "result.json", "result")
        last, best = result["last"], result["best"]
        rows = [("last epoch", last), ("best epoch (chosen on the test images, so it flatters)", best)]
        if "last_plain" in result:
            rows.insert(1, ("last epoch without averaging", result["last_plain"]))
        lines = [f"| {name} | {float(row['top1']):.2f} % | {float(row['top5']):.2f} % |" for name, row in rows]
        images, epochs = int(last["images"]), int(result["epochs"])
    except (CydasError, KeyError, TypeError, ValueError):
        return "Not known: there is no result of the training beside the checkpoint."
    return "\n".join(
        [
            f"On {images} test images, of a training of {epochs} epochs:",
            "",
            "| | top-1 | top-5 |",
            "|---|---|---|",
            *lines,
        ]
    )
