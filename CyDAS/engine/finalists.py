"""The last choice of a search: among architectures that it nearly prefers, by a short training of each.

What a search network prefers by a hair may be worse than what it preferred a round before. Finalists are trained at
the depth of the network that will be retrained, on the train half, and compared on the val half: the search sees no
other image, and no benchmark.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from CyDAS.config import SearchConfig
from CyDAS.data.batch import images_in
from CyDAS.data.dataset import LabelledImages
from CyDAS.data.loaders import Batches, seeded_generator
from CyDAS.engine.cycle import CyclicSearch, Progress
from CyDAS.engine.entrants import Entrant, Judged, changes_of, entrants, largest, leading
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.guard import StepGuard
from CyDAS.engine.optim import Figures, cosine, learn, make_optimiser
from CyDAS.runs.logs import RunLog
from CyDAS.tasks.classification import Classification, retrain_loss
from CyDAS.utils.distributed import copy_from_main, place
from CyDAS.utils.errors import CydasError
from CyDAS.utils.profile import count_macs

#: What finalists' random numbers depend on beside the search's seed.
STREAM = 8


def choose(
    search: CyclicSearch, train: Batches, val: Batches, task: Classification, shape: Sequence[int], log: RunLog,
    progress: Progress,
) -> Any:  # fmt: skip
    """The best finalist. ``train``, ``val``: batches of the halves, the latter in order and not augmented; ``shape``:
    an image's, [C, H, W].

    ``search.judged`` grows with every one of them, and ``progress`` is told: what was judged is not judged again.
    """
    config, space = search.config, search.space
    for number, entrant in enumerate(entrants(search)):
        architecture, rounds, change_of, again = entrant
        name = f"finalist {number + 1}"
        if number < len(search.judged):
            if space.to_state(architecture) == Judged(*search.judged[number]).architecture:
                continue
            log.warning("%s was another one when the search was left: it and all after it are trained anew", name)
            del search.judged[number:]
        log.info("%s: %s, %s", name, space.brief(architecture), _origin(search, entrant))
        epochs = config.finalist_runoff_epochs if again else config.finalist_epochs
        network = train_finalist(search, architecture, name, train, finalist_steps(epochs, train), log, progress)
        top1 = evaluate(network, task, val, search.precision).top1
        macs = count_macs(network, shape)
        search.judged.append(list(Judged(space.to_state(architecture), rounds, top1, macs, again, change_of)))
        log.info("%s: top-1 %.2f %% on val, %.3f M multiply-accumulates", name, top1, macs / 1e6)
        progress.end_phase(search)
    trained = sum(not Judged(*each).again for each in search.judged)
    if config.finalist_sweep and all(Judged(*each).again or not Judged(*each).change_of for each in search.judged):
        log.warning("nothing was swept: the last %d rounds preferred all %d finalists", config.finalist_rounds, trained)
    if trained < config.finalists:
        log.info("%d finalists instead of %d: there are no more", trained, config.finalists)
    leader = search.judged[leading(search.judged, config)]
    return space.parse(Judged(*leader).architecture, config.layer_num, "finalists")


def check_finalists(search: CyclicSearch, shape: Sequence[int]) -> None:
    """Raise :class:`CydasError` for finalists that could not be found or trained when the search has ended."""
    config, space = search.config, search.space
    if config.finalists == 1:
        return
    if config.finalist_sweep:
        changes = changes_of(search)
        if config.finalist_largest:
            largest(search, changes)
    with torch.random.fork_rng(devices=[]):
        network = space.retrain_network(search.preferred(), False)
    try:
        count_macs(network, shape)
    except (RuntimeError, ValueError) as error:
        raise CydasError(f"networks of finalists cannot have images of {shape[-1]} pixels: {error}") from error


def _origin(search: CyclicSearch, entrant: Entrant) -> str:
    """Where a finalist comes from, in words."""
    if number := entrant.change_of:
        is_it = search.space.to_state(entrant.architecture) == Judged(*search.judged[number - 1]).architecture
        return f"finalist {number} again" if is_it else f"a change of finalist {number}"
    if search.config.finalist_noise and not search.config.finalist_sweep:
        return f"drawn {entrant.rounds} times"
    return f"preferred in {entrant.rounds} rounds" if entrant.rounds else "the largest"


def finalists_batches(
    config: SearchConfig, data: LabelledImages, train_part: Sequence[int], val_part: Sequence[int]
) -> tuple[Batches, Batches]:
    """On which finalists are trained, and on which they are judged."""
    judging = judging_part(val_part, config.finalist_val)
    return data.train_batches(train_part, stream=4), data.judging_batches(judging)


def judging_part(val_part: Sequence[int], share: float) -> Sequence[int]:
    """So large a share of the val half's images, evenly spaced; one at least."""
    count = max(1, round(len(val_part) * share))
    return [val_part[index * len(val_part) // count] for index in range(count)]


def finalist_steps(epochs: float, train: Batches) -> int:
    """Of a finalist's training."""
    return max(1, round(len(train) * epochs))


def train_finalist(
    search: CyclicSearch, architecture: Any, name: str, train: Batches, steps: int, log: RunLog, progress: Progress
) -> nn.Module:
    """The network of a finalist after its training, which starts anew where it was cut off.

    All start from one seed and see the same batches: what differs is the architecture.
    """
    config, precision = search.config, search.precision
    with torch.random.fork_rng(devices=[]):  # whatever the search has drawn
        torch.manual_seed(seeded_generator(config.seed, STREAM).initial_seed())
        network = place(search.space.retrain_network(architecture, False), config, precision.device)
    copy_from_main(network)
    network.train()
    optimiser = make_optimiser(list(network.parameters()), config.finalist_lr, config.w_momentum, config.w_weight_decay)

    def loss_of(batch: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        images, labels = batch
        with precision.autocast():
            output = network(images)
        loss = retrain_loss(output, labels, 0.0, 0.0)
        return loss, {"finalist/loss": loss}

    def update(batch: Any) -> Figures:
        figures, norm = learn(
            loss_of, batch, config.accum_steps, [optimiser], config.w_grad_clip, precision.scaler,
            skip_bad=guard.skips,
        )  # fmt: skip
        return figures | {"finalist/gradient_norm": norm}

    search.averages.reset()
    guard = StepGuard(config.on_nan)  # its own: it starts anew with the training
    guard.log = log
    for step, batch in enumerate(_batches(train, steps)):
        for group in optimiser.param_groups:
            group["lr"] = cosine(config.finalist_lr, 0.0, step / steps)
        figures = guard.step(network, partial(update, batch), precision.scaler)
        if figures is not None:
            search.averages.add(figures, images_in(batch))
        if (step + 1) % config.print_freq == 0 or step + 1 == steps:
            search.averages.report(log, f"{name} [{step + 1}/{steps}]", search.step)
        if step + 1 < steps:
            progress.end_step(search)
    copy_from_main(network)
    return network


def _batches(train: Batches, steps: int) -> Iterator[Any]:
    """So many batches, from the first epoch on."""
    for epoch in itertools.count():
        yield from train.epoch(epoch, min(steps, len(train)))
        steps -= len(train)
        if steps <= 0:
            return
