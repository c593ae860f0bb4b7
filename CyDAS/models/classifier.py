"""What timm asks of a classifier, for the found networks of cells: logits alone, and a last layer that can be replaced.

Each family has its own in its folder.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class Classifier(nn.Module):
    """Mixed into a network with a last layer ``fc``: [N, C, H, W] to logits [N, classes], with timm's methods.

    A subclass has ``forward_features``. Its state dict is the network's; the weights of an auxiliary head are left out.
    """

    head_parts = ("aux_head.",)
    global_pool = "avg"
    fc: nn.Module
    set_drop_path: Callable[[float], None]  #: of the network

    def adopt(self, in_chans: int, drop_rate: float, drop_path_rate: float) -> None:
        """Take over what timm asks for beside the network's shape.

        ``drop_rate``: dropout before the last layer; ``drop_path_rate``: what ``set_drop_path`` takes.
        """
        self.in_chans, self.drop_rate = in_chans, drop_rate
        assert isinstance(self.fc, nn.Linear)  # it has not been replaced yet
        self.num_classes = self.fc.out_features
        self.num_features = self.head_hidden_size = self.fc.in_features
        self.set_drop_path(drop_path_rate)

    def forward_features(self, x: Tensor) -> Tensor:
        """``x``: [N, C, H, W]. The last feature, [N, num_features, h, w]."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """A feature [N, num_features, h, w] to logits or, with ``pre_logits``, to its mean, [N, num_features]."""
        x = F.dropout(x.mean(dim=(2, 3)), self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh last layer; for 0 classes none: the network then gives [N, num_features].

        Raises ``ValueError`` for another pooling than the mean.
        """
        if global_pool not in (None, "avg"):
            raise ValueError(f"networks of cells have the mean as their pooling, global_pool avg, not {global_pool!r}")
        self.num_classes = num_classes
        self.fc = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.grad_checkpointing = enable
