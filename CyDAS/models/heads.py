"""Classifiers: of both networks of a search, distillation heads, the auxiliary head of a retraining."""

from typing import NamedTuple

from torch import Tensor, nn


def distillation_pooling(size: int) -> tuple[int, int]:
    """(kernel, stride) of a distillation head's pooling for an input of ``size`` x ``size``.

    Gives the published kernels (6 at 16 and 8, 6 at 14, 5 at 7, 14 at 28, stride 2) and leaves at least 2x2 at every
    other size. Raises ``ValueError`` below 2.
    """
    if size < 2:
        raise ValueError(f"a distillation head needs an input of at least 2x2, not {size}x{size}")
    if size == 2:
        return 1, 1
    return (min(size - 2, 6) if size <= 16 else size // 2), 2


def auxiliary_pooling(size: int, stride: int) -> tuple[int, int]:
    """(kernel, stride) that pool ``size`` x ``size`` to exactly 2x2, with the published stride where it fits.

    Gives the published kernels: stride 3, 5 at 8; stride 2, 5 at 7 and 12 at 14. Raises ``ValueError`` below 2.
    """
    if size < 2:
        raise ValueError(f"the auxiliary head needs an input of at least 2x2, not {size}x{size}")
    stride = min(stride, size - 1)
    return size - stride, stride


class DistillationHead(nn.Module):
    """Logits from the features of an inner stage, shared by both networks: ``[N, C, S, S]`` to ``[N, classes]``."""

    def __init__(self, c_in: int, size: int, n_classes: int, affine: bool = False):
        super().__init__()
        kernel, stride = distillation_pooling(size)
        self.features = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(kernel, stride, count_include_pad=False),
            nn.Conv2d(c_in, 128, 1, bias=False),
            nn.BatchNorm2d(128, affine=affine),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768, affine=affine),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(768, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class MeanClassifier(nn.Linear):
    """Logits of the mean over the pixels: ``[N, C, H, W]`` to ``[N, classes]``."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean(dim=(2, 3)))


class RetrainOutput(NamedTuple):
    """What a retrained network says of a batch of N images."""

    logits: Tensor  #: [N, classes]
    auxiliary: Tensor | None  #: [N, classes] while training a network with an auxiliary head


class RetrainedNetwork(nn.Module):
    """A found network as it is retrained: ``[N, C, H, W]`` to :class:`RetrainOutput`."""

    def count_parameters(self) -> int:
        """Parameters of the network that is used in the end: without an auxiliary head."""
        return sum(p.numel() for p in self.parameters())

    def set_drop_path(self, p: float) -> None:
        """Probability with which a path is dropped, per sample; of a network without drop path it changes nothing."""


class AuxiliaryHead(nn.Module):
    """The auxiliary classifier of the retrained network: ``[N, C, S, S]`` to ``[N, classes]``.

    The published ImageNet head has no batch norm after its last convolution.
    """

    def __init__(self, c_in: int, size: int, n_classes: int, model_type: str):
        super().__init__()
        cifar = model_type == "cifar"
        kernel, stride = auxiliary_pooling(size, 3 if cifar else 2)
        layers = [
            nn.ReLU(),
            nn.AvgPool2d(kernel, stride, count_include_pad=False),
            nn.Conv2d(c_in, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
        ]
        self.features = nn.Sequential(*layers, *([nn.BatchNorm2d(768)] if cifar else []), nn.ReLU())
        self.classifier = nn.Linear(768, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))
