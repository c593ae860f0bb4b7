"""Search and evaluation network around one stem and two distillation heads (paper section 3.3)."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from CyDAS.models import checkpointing
from CyDAS.models.modules import Modules, Stages

#: Flags of :class:`JointNetwork` that every space passes on.
JOINT_OPTIONS = ("share_fc", "ensemble_param", "ensemble_sum", "fix_head", "grad_checkpointing")


class NetworkOutput(NamedTuple):
    """What one of the two networks says of a batch of N images."""

    logits: Tensor  #: [N, classes]
    kd_input: Tensor | None  #: [3N, classes], or [N, classes] with ``ensemble_sum``; None where heads were not run


class JointOutput(NamedTuple):
    search: NetworkOutput | None
    evaluation: NetworkOutput | None


class Alphas(nn.Module):
    """The architecture parameters of a space."""

    def mixtures(self) -> list[Any]:
        """What the search network's cells mix their operations by, for each of its stages."""
        raise NotImplementedError


Own = TypeVar("Own", bound=Alphas)


class JointNetwork(nn.Module, Generic[Own]):
    """Both networks of the cyclic search, of any space.

    A space gives the parts: a ``stem`` (image to state), ``search_stages`` (lists of cells; a cell takes a state and
    the mixture of its stage, and returns the next state), ``architecture`` (its ``mixtures()`` gives one mixture a
    stage), the two distillation ``heads``, each behind the stage (counted from 0) that it is given with, and
    ``make_classifier``, what makes the last layers of a network: its last cell's output to logits, [N, classes]. A
    state is a tuple whose last element is the latest cell's output, [N, C, H, W].
    The evaluation network's stages are put in, cycle by cycle, with :meth:`set_evaluation`.
    """

    def __init__(
        self,
        stem: nn.Module,
        search_stages: Stages,
        architecture: Own,
        heads: Mapping[int, nn.Module],
        make_classifier: Callable[[], nn.Module],
        *,
        share_fc: bool = False,
        ensemble_param: bool = False,
        ensemble_sum: bool = False,
        fix_head: bool = False,
        grad_checkpointing: bool = False,
    ):
        super().__init__()
        self.feature_extractor = stem
        self.super_layers = search_stages
        self.super_layers_arch = architecture
        self.nas_layers: Stages = Modules()
        self.head_stages = tuple(heads)
        self.distill_aux_head1, self.distill_aux_head2 = (head.requires_grad_(not fix_head) for head in heads.values())
        self.fc_super = make_classifier()
        self.fc_nas = self.fc_super if share_fc else make_classifier()
        initial = 0.333 * torch.rand(3) if ensemble_param else torch.full((3,), 0.333)
        self.ensemble_param = nn.Parameter(initial, requires_grad=ensemble_param)
        self.ensemble_sum = ensemble_sum
        self.grad_checkpointing = grad_checkpointing

    def set_evaluation(self, stages: Stages) -> None:
        """Put in the cells of a new evaluation network, which must lie on this network's device (see ``place``)."""
        self.nas_layers = stages

    def parameters_of(self, role: str) -> list[nn.Parameter]:
        """The parameters that an update of ``search``, ``evaluation`` or ``alphas`` changes; frozen ones left out.

        Stem and, with ``share_fc``, the last layer belong to both networks; heads and ensemble_param move with the
        evaluation network only.
        """
        modules: dict[str, tuple[nn.Module, ...]] = {
            "search": (self.feature_extractor, self.super_layers, self.fc_super),
            "evaluation": (
                self.feature_extractor,
                self.nas_layers,
                self.fc_nas,
                self.distill_aux_head1,
                self.distill_aux_head2,
            ),
            "alphas": (self.super_layers_arch,),
        }
        parameters = [p for module in modules[role] for p in module.parameters()]
        if role == "evaluation":
            parameters.append(self.ensemble_param)
        return [p for p in parameters if p.requires_grad]

    def forward(
        self, x: Tensor, search: bool = True, evaluation: bool = True, heads: bool = True, mixtures: Any = None
    ) -> JointOutput:
        """``x``: [N, C, H, W]. The stem runs once; networks and heads that are not asked for do not run.

        ``mixtures``: of the search network's stages, in the place of those that the architecture parameters say.
        """
        state = self.feature_extractor(x)
        searched = evaluated = None
        if search:
            mixtures = self.super_layers_arch.mixtures() if mixtures is None else mixtures
            searched = self._network(state, self.super_layers, mixtures, self.fc_super, heads)
        if evaluation:
            evaluated = self._network(state, self.nas_layers, None, self.fc_nas, heads)
        return JointOutput(searched, evaluated)

    def _network(self, state, stages, mixtures, classifier, heads) -> NetworkOutput:
        head_at = dict(zip(self.head_stages, (self.distill_aux_head1, self.distill_aux_head2), strict=True))
        votes = []
        for stage, cells in enumerate(stages):
            for cell in cells:
                inputs = (state, mixtures[stage]) if mixtures else (state,)
                state = checkpointing.run(cell, self.grad_checkpointing, *inputs)
            if heads and stage in head_at:
                votes.append(head_at[stage](state[-1]))
        logits = classifier(state[-1])
        return NetworkOutput(logits, self._ensemble([*votes, logits]) if heads else None)

    def _ensemble(self, votes: list[Tensor]) -> Tensor:
        """KD input: each classifier's logits times ``softmax(ensemble_param)``, along the batch or summed."""
        weighted = [weight * vote for weight, vote in zip(self.ensemble_param.softmax(dim=0), votes, strict=True)]
        return sum(weighted) if self.ensemble_sum else torch.cat(weighted)
