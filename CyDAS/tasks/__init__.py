"""What a network is trained for. A task says what its loss is and what is measured; the loops of ``engine`` ask it.

A batch is (images, targets); what targets are is the task's business.
"""

from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor


class Result(Protocol):
    """What a test has measured, a ``NamedTuple`` of plain values; without arguments: before any test."""

    @property
    def images(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def _asdict(self) -> dict[str, Any]: ...
    def is_better_than(self, other: Any) -> bool: ...
    def words(self, between: str = ", ") -> str: ...  # with units
    def brief(self) -> str: ...  # for a line of the log
    def headline(self) -> str: ...  # the figure by which results are compared
    def table(self) -> list[str]: ...  # a line for each class, where the classes' own figures are worth one
    def scalars(self) -> dict[str, float]: ...  # for TensorBoard
    def record(self) -> dict[str, float]: ...  # of the best one, for checkpoints


R_co = TypeVar("R_co", bound=Result, covariant=True)


class Metrics(Protocol[R_co]):
    """What is summed over the batches of a test, and over processes when :meth:`result` is asked for."""

    def add(self, output: Any, targets: Any) -> None: ...
    def result(self) -> R_co: ...


class Task(Protocol[R_co]):
    """What the loops of training and test need to know of what a network is for."""

    @property
    def result(self) -> type[R_co]: ...
    def prepare(self, images: Any, targets: Any) -> tuple[Any, Any]: ...  # of a training batch, for the network
    def loss(self, output: Any, targets: Any) -> Tensor: ...  # of prepared targets; the mean over the images
    def figures(self, output: Any, targets: Any) -> dict[str, Tensor]: ...  # of a training batch, by its own targets
    def training_words(self, means: dict[str, float]) -> str: ...  # an epoch's means of these, for a line of the log
    def metrics(self, device: torch.device) -> Metrics[R_co]: ...
