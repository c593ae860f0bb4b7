"""The network of an architecture of NATS-Bench as timm takes it."""

from itertools import chain

from torch import Tensor

from CyDAS.models import checkpointing
from CyDAS.models.classifier import Classifier
from CyDAS.models.nats.networks import NatsNetwork


class NatsClassifier(Classifier, NatsNetwork):  # type: ignore[misc]  # timm asks for logits alone
    """The benchmark's network."""

    def forward_features(self, x: Tensor) -> Tensor:
        state = self.feature_extractor(x)
        for block in chain.from_iterable(self.nas_layers):
            state = checkpointing.run(block, self.grad_checkpointing, state)
        return self.lastact(state[0])
