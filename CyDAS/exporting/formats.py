"""Files of a trained network: safetensors, ONNX, a program of torch.export. Each is read back and compared."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from CyDAS.exporting.subject import Plain, Subject
from CyDAS.utils.errors import CydasError
from CyDAS.utils.files import write_atomically
from CyDAS.utils.present import present

#: The largest difference from PyTorch's own logits, in logits (of boxes: in longer sides of the image).
TOLERANCE = 1e-4
#: How many random images an exported network is asked about at a time.
BATCHES = (1, 3)
#: What each format needs beside PyTorch, by the names under which they are imported.
NEEDS = {
    "safetensors": ("safetensors",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
    "torch": (),
    "hf": ("safetensors", "huggingface_hub"),
}


def check_packages(formats: list[str]) -> None:
    """Raise :class:`CydasError` where a format's packages are not installed."""
    for name in formats:
        missing = [package for package in NEEDS[name] if find_spec(package) is None]
        if missing:
            raise CydasError(
                f"--format {name} needs {' and '.join(missing)}, not installed here: pip install CyDAS[export], or "
                f"pip install {' '.join(missing)}"
            )


def difference(plain: Plain, other: Callable[[Tensor], tuple[Tensor, ...]], subject: Subject, what: str) -> float:
    """The largest difference between the answers of two networks to random images, several batch sizes.

    Raises :class:`CydasError` naming ``what`` where it is above :data:`TOLERANCE`, or an answer is not finite.
    """
    generator, largest = torch.Generator().manual_seed(0), 0.0
    for count in BATCHES:
        images = torch.randn(count, *subject.image, generator=generator)
        with torch.no_grad():
            expected, said = plain(images), other(images)
        for name, one, two, scale in zip(plain.outputs, expected, said, plain.scales, strict=True):
            if one.shape != two.shape:
                raise CydasError(f"{what}: {name} of {count} images are {tuple(two.shape)}, not {tuple(one.shape)}")
            own = float((one - two).abs().max()) / scale
            if not own <= TOLERANCE:  # not a number is not, either
                raise CydasError(
                    f"{what}: {name} of random images differ from PyTorch's by {own:.2g}; at most {TOLERANCE:g} is "
                    "allowed, so nothing is written"
                )
            largest = max(largest, own)
    return largest


def tensors_of(subject: Subject) -> dict[str, Tensor]:
    """The network's state dict, each tensor with memory of its own."""
    return {name: value.detach().clone().contiguous() for name, value in subject.network.state_dict().items()}


def write_safetensors(subject: Subject, path: Path) -> None:
    """The weights and, as metadata, all facts, each a text of JSON."""
    from safetensors.torch import load_file, save

    tensors = tensors_of(subject)
    facts = subject.facts | {"task": subject.task, "image": subject.image, "mean": subject.mean, "std": subject.std}
    metadata = {"format": "pt"} | {name: json.dumps(value) for name, value in facts.items()}

    def prove(beside: Path) -> None:
        read = load_file(beside)
        if read.keys() != tensors.keys() or not all(torch.equal(read[name], tensors[name]) for name in tensors):
            raise CydasError(f"cannot write {path}: what was written is not what is read back")

    # as bytes: what the package writes itself, none but the user can read
    write_atomically(path, lambda beside: beside.write_bytes(save(tensors, metadata)), prove)


def traced(plain: Plain, subject: Subject) -> torch.export.ExportedProgram:
    """The network as a graph of PyTorch's own operations, for any number of images.

    Native steps of cells apply to eager execution alone, so that none of them is in it. Raises :class:`CydasError` for
    a network that cannot be traced, as some of timm's backbones.
    """
    images = torch.zeros(2, *subject.image)
    with torch.no_grad(), _quiet(), _blaming("torch.export"):
        return torch.export.export(plain, (images,), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}})


def write_torch(program: torch.export.ExportedProgram, plain: Plain, subject: Subject, path: Path) -> float:
    """The program as a file of ``torch.export.load``. Returns the largest :func:`difference`."""
    content = io.BytesIO()
    with _quiet():
        torch.export.save(program, content)
        content.seek(0)
        read = torch.export.load(content).module()
    largest = difference(plain, read, subject, path.name)
    write_atomically(path, lambda beside: beside.write_bytes(content.getvalue()))
    return largest


def write_onnx(program: torch.export.ExportedProgram, plain: Plain, subject: Subject, path: Path) -> float:
    """The program in ONNX, its input ``images`` with any batch size. Returns the largest :func:`difference`."""
    import onnx
    import onnxruntime

    with torch.no_grad(), _quiet(), _blaming("torch.onnx"):
        exported = torch.onnx.export(
            program, dynamo=True, input_names=["images"], output_names=list(plain.outputs), verbose=False
        )
        model = present(exported).model_proto
    _name_batch(model)
    onnx.helper.set_model_props(
        model, {"cydas": json.dumps(subject.facts | {"mean": subject.mean, "std": subject.std})}
    )
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(map(torch.from_numpy, session.run(list(plain.outputs), {"images": images.numpy()})))

    largest = difference(plain, run, subject, path.name)
    write_atomically(path, lambda beside: beside.write_bytes(content))
    return largest


def _name_batch(model: Any) -> None:
    """The number of images by a name that says what it is, wherever the graph has it."""
    graph = model.graph
    old = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param == old:
                side.dim_param = "batch"


@contextmanager
def _blaming(exporter: str) -> Iterator[None]:
    """Turn what PyTorch's exporters raise for a network that they cannot take into one line."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, AssertionError, NotImplementedError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CydasError(f"{exporter} cannot take this network: {reason}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what PyTorch's exporters say of themselves: it is nothing that the person at the terminal can change."""
    disabled = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)
