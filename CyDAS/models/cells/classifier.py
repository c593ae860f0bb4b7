"""The network of a genotype as timm takes it."""

from itertools import chain

from torch import Tensor

from CyDAS.models import checkpointing
from CyDAS.models.cells.nasnet import RetrainNetwork
from CyDAS.models.classifier import Classifier


class CellClassifier(Classifier, RetrainNetwork):  # type: ignore[misc]  # timm asks for logits alone
    """The retrained network without its auxiliary head."""

    def forward_features(self, x: Tensor) -> Tensor:
        state = self.feature_extractor(x)
        for cell in chain.from_iterable(self.nas_layers):
            state = checkpointing.run(cell, self.grad_checkpointing, state)
        return state[1]
