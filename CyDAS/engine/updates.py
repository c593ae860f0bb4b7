"""The single updates of a search: which network sees which half of the data, and which parameters move.

This file knows no cell. A *space* (see ``CyDAS/spaces/base.py``) builds the two networks and turns the architecture
parameters into an architecture.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor
from torch.optim import Optimizer

from CyDAS.config import SearchConfig
from CyDAS.data.loaders import Batch
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.losses import kd_loss
from CyDAS.engine.optim import Figures, LossOf, Precision, SearchOptimisers, learn
from CyDAS.engine.stability import (
    SAMPLING,
    STREAM,
    alphas_of,
    growing,
    mean_logsumexp,
    mutate,
    sample_mixtures,
)
from CyDAS.models.joint import JointNetwork
from CyDAS.spaces.base import SearchSpace
from CyDAS.spaces.penalty import Progress
from CyDAS.tasks.classification import classification_loss, top1


class ValLosses(NamedTuple):
    """The terms of the val update's loss, each as it enters the sum."""

    cls: Tensor  #: (CE(S) + CE(E)) / loss_alpha
    kd: Tensor  #: loss_alpha * KD(S, E)
    reg: Tensor  #: the space's penalty

    @property
    def total(self) -> Tensor:
        return self.cls + self.kd + self.reg


class SearchUpdates:
    """Both networks, their optimisers, and the updates that move them. A batch is x [N, C, H, W] and y [N]."""

    def __init__(self, space: SearchSpace, joint: JointNetwork, config: SearchConfig, precision: Precision):
        self.space = space
        self.joint = joint
        self.config = config
        self.precision = precision
        self.optimisers = SearchOptimisers(joint, config)
        self.guard = StepGuard(config.on_nan)
        self.round = 0  #: finished rounds
        self.step = 0  #: steps so far, of whatever kind; the x axis of TensorBoard

    def val_losses(self, x: Tensor, y: Tensor, epoch: int) -> tuple[ValLosses, Figures]:
        """The loss by which both networks learn from each other (paper eq. 5 and 6) and figures for the log.

        ``epoch`` counts from the start of the search.
        """
        config = self.config
        with self.precision.autocast():
            search, evaluation = self.joint(x, mixtures=self._sampled(0))
        ce_search = classification_loss(search.logits, y)
        ce_evaluation = classification_loss(evaluation.logits, y)
        taught = evaluation.kd_input.detach() if config.lone_teacher else evaluation.kd_input
        kd = kd_loss(search.kd_input, taught, config.interactive_type, config.loss_T)
        losses = ValLosses(
            cls=(ce_search + ce_evaluation) / config.loss_alpha,
            kd=config.loss_alpha * kd,
            reg=self.regularisation(epoch),
        )
        figures = {
            "val/loss_search": ce_search,
            "val/loss_evaluation": ce_evaluation,
            "val/loss_kd": losses.kd,
            "val/loss_regulariser": losses.reg,
            "val/top1_search": top1(search.logits, y),
            "val/top1_evaluation": top1(evaluation.logits, y),
        }
        return losses, figures

    def regularisation(self, epoch: int) -> Tensor:
        """The space's penalty in an epoch, counted from the start of the search, and the term of ``--beta_decay``."""
        penalty = self.space.penalty(self.joint, Progress(self.config, epoch))
        factor = self._beta_decay(epoch)
        return penalty + factor * mean_logsumexp(alphas_of(self.joint.super_layers_arch)) if factor else penalty

    def penalty_constants(self, epoch: int) -> Hashable:
        """What that is computed with beside tensors."""
        return self.space.penalty_constants(Progress(self.config, epoch)), self._beta_decay(epoch)

    def _beta_decay(self, epoch: int) -> float:
        """By rounds, as all that grows over the search."""
        config = self.config
        return growing(config.beta_decay, epoch // config.search_iter_epochs, config.search_iter)

    def val_update(self, x: Tensor, y: Tensor, epoch: int) -> tuple[ValLosses, Figures]:
        """Both networks on val: moves the evaluation network, stem, heads and the architecture parameters."""

        def loss_of(batch: Batch) -> tuple[Tensor, Figures]:
            losses, figures = self.val_losses(*batch, epoch)
            return losses.total, figures | losses._asdict()

        optimisers = (self.optimisers.nas, self.optimisers.alpha)
        figures = self._update(loss_of, x, y, optimisers, "val", apart=self.config.clip_apart)
        losses = ValLosses(*(figures.pop(name) for name in ValLosses._fields))
        return losses, figures

    def train_update(self, x: Tensor, y: Tensor) -> Figures:
        """The search network alone on train: moves its weights and the stem."""
        probability = growing(self.config.edge_mutation, self.round, self.config.search_iter)

        def mixtures() -> Any:
            own = self._sampled(1)
            if not probability:
                return own
            own = self.joint.super_layers_arch.mixtures() if own is None else own
            return mutate(own, probability, self.config.seed, STREAM, self.step)

        return self._classify(x, y, "search", self.optimisers.w, "train", mixtures=mixtures)

    def _sampled(self, part: int) -> Any:
        """With ``--dirichlet`` the mixtures of a step's update; ``part`` tells those of one step apart."""
        if self.config.dirichlet:
            return sample_mixtures(self.joint.super_layers_arch, self.config.seed, SAMPLING, self.step, part)
        return None

    def evaluation_update(self, x: Tensor, y: Tensor) -> Figures:
        """The evaluation network alone on val: moves its weights and the stem."""
        return self._classify(x, y, "evaluation", self.optimisers.nas, "warmup")

    def alpha_update(self, x: Tensor, y: Tensor, epoch: int) -> Figures:
        """The search network on val, as first-order DARTS has it: moves the architecture parameters alone."""
        penalty, mixtures = partial(self.regularisation, epoch), partial(self._sampled, 0)
        return self._classify(x, y, "search", self.optimisers.alpha, "val", penalty, mixtures)

    def _classify(
        self,
        x: Tensor,
        y: Tensor,
        network: str,
        optimiser: Optimizer,
        part: str,
        penalty: Callable[[], Tensor | float] = float,
        mixtures: Callable[[], Any] = lambda: None,
    ) -> Figures:
        """``penalty``: what is added to the classification's loss; ``mixtures``: makes what :class:`JointNetwork`
        takes by this name.
        """

        def loss_of(batch: Batch) -> tuple[Tensor, Figures]:
            x, y = batch
            is_search = network == "search"
            with self.precision.autocast():
                outputs = self.joint(x, search=is_search, evaluation=not is_search, heads=False, mixtures=mixtures())
            logits = (outputs.search if is_search else outputs.evaluation).logits
            loss = classification_loss(logits, y)
            return loss + penalty(), {f"{part}/loss_{network}": loss, f"{part}/top1_{network}": top1(logits, y)}

        return self._update(loss_of, x, y, [optimiser], part)

    def _update(
        self, loss_of: LossOf, x: Tensor, y: Tensor, optimisers: Sequence[Optimizer], part: str, apart: bool = False
    ) -> Figures:
        config = self.config
        figures, norm = learn(
            loss_of, (x, y), config.accum_steps, optimisers, config.w_grad_clip, self.precision.scaler, apart,
            self.guard.skips,
        )  # fmt: skip
        return figures | {f"{part}/gradient_norm": norm}
