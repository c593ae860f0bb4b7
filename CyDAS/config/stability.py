"""Flags of a search that are not in the published method: against chance in what it finds. All are off by default."""

from dataclasses import dataclass

from CyDAS.utils.flags import flag


@dataclass
class StabilityFlags:
    """Each by itself; together they are a recipe (``scripts/run_search_nats_best.sh``)."""

    edge_mutation: float = flag(
        0.0, "probability in the last round that an edge of the search network is one drawn operation alone while its "
        "weights are updated; it grows from 0", at_least=0, at_most=1,
    )  # fmt: skip
    average_rounds: int = flag(
        1, "rounds, the last ones, over which softmax(alpha) is averaged before an architecture is read off it",
        at_least=1,
    )  # fmt: skip
    alpha_lr_schedule: str = flag(
        "constant", "learning rate of the architecture parameters over the rounds; cosine ends at 0",
        ("constant", "cosine"),
    )  # fmt: skip
    keep_moments: bool = flag(
        False, "a cycle's new optimisers keep the moments of those parameters that the last cycle had, too"
    )
    beta_decay: float = flag(
        0.0, "factor in the last round of the mean of logsumexp(alpha), which is added to the loss; it grows from 0",
        at_least=0,
    )  # fmt: skip
    dirichlet: bool = flag(
        False, "the search network's mixtures are samples of Dirichlet(elu(alpha) + 1) instead of softmax(alpha)"
    )
    lone_teacher: bool = flag(
        False, "distillation teaches the search network only: no gradient of it goes into the evaluation network"
    )
    finalists: int = flag(
        1, "architectures, those that most of the last --finalist_rounds preferred, of which the best is found by a "
        "short training of each on train and a test on val; 1: the last round's is found", at_least=1,
    )  # fmt: skip
    finalist_rounds: int = flag(20, "rounds, the last ones, that finalists are from", at_least=1)
    finalist_noise: float = flag(
        0.0, "instead of rounds: the first finalist is what the search prefers, the others what it prefers with Gumbel "
        "noise of this scale on its alphas; 1 draws every choice by its probability", at_least=0,
    )  # fmt: skip
    finalist_sweep: bool = flag(
        False, "after the finalists from rounds: the one that leads with another operation on one edge, the "
        "least decided edge first (of DARTS cells the normal ones'); once all such changes are trained, those of the "
        "best one, up to --finalists in all",
    )  # fmt: skip
    finalist_largest: bool = flag(
        False, "a --finalist_sweep begins with the architecture that has one operation on all edges, of these the one "
        "with most parameters, and its changes (of DARTS cells shortcuts first): all others have to prove themselves",
    )  # fmt: skip
    finalist_margin: float = flag(
        0.0, "points of top-1 by which a finalist must be better than the one that leads to lead instead of it",
        at_least=0,
    )  # fmt: skip
    finalist_size: float = flag(
        0.0, "points of top-1 that twice the multiply-accumulates count for between finalists: short trainings prefer "
        "small networks to those that are better after long ones", at_least=0,
    )  # fmt: skip
    finalist_image_size: int | None = flag(
        None, "height and width of finalists' images, pixels: smaller ones make them faster (default: --image_size)",
        at_least=1,
    )  # fmt: skip
    finalist_val: float = flag(1.0, "share of the val half on which finalists are compared", above=0, at_most=1)
    finalist_epochs: float = flag(1.0, "epochs, or share of one, of a finalist's training on the train half", above=0)
    finalist_runoff: int = flag(
        0, "longer trainings after all others, at least 2, by which the best finalists are compared again; after a "
        "--finalist_sweep: of the leader and of its changes that the best of the others have; 0: none", at_least=0,
    )  # fmt: skip
    finalist_runoff_epochs: float = flag(3.0, "epochs, or share of one, of such a training", above=0)
    finalist_runoff_margin: float | None = flag(
        None, "points, as --finalist_margin, between finalists of these longer trainings, which tell more (default: "
        "--finalist_margin)", at_least=0,
    )  # fmt: skip
    finalist_lr: float = flag(0.1, "learning rate at the start of a finalist's training (SGD, cosine to 0)", above=0)
