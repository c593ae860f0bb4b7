"""The last choice of a search: among architectures that it nearly prefers, by a short training of each.

What a search network prefers by a hair may be worse than what it preferred a round before. Finalists are trained at
the depth of the network that will be retrained, on the train half, and compared on the val half: the search sees no
other image, and no benchmark.
"""

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from CyDAS.config import SearchConfig
from CyDAS.data.batch import images_in
from CyDAS.data.loaders import Batches, seeded_generator
from CyDAS.engine.cycle import CyclicSearch, Progress
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.optim import cosine, learn, make_optimiser
from CyDAS.runs.logs import RunLog
from CyDAS.tasks.classification import Classification, retrain_loss
from CyDAS.utils.distributed import copy_from_main, place

#: What a finalist's random numbers depend on beside the search's seed and its number; what the drawing of them does.
STREAM, DRAWING = 8, 10
#: Draws for each finalist that is asked for, before there are fewer: alphas may have decided.
DRAWS = 100


class Judged(NamedTuple):
    """A finalist and how it did."""

    architecture: dict[str, str]  #: as a checkpoint holds it
    rounds: int  #: of the last ones, that preferred it; of drawn ones, how often it was drawn
    top1: float  #: percent, on the val half


def choose(
    search: CyclicSearch, train: Batches, val: Batches, task: Classification, log: RunLog, progress: Progress
) -> Any:
    """The best finalist. ``train``, ``val``: batches of the halves, the latter in order and not augmented.

    ``search.judged`` grows with every one of them, and ``progress`` is told: what was judged is not judged again.
    """
    for number, (architecture, rounds) in enumerate(candidates(search)):
        if number < len(search.judged):
            continue
        origin = "drawn %d times" if search.config.finalist_noise else "preferred in %d rounds"
        log.info(f"finalist %d: %s, {origin}", number + 1, search.space.brief(architecture), rounds)
        steps = finalist_steps(search.config, train)
        network = train_finalist(search, architecture, number, train, steps, log, progress)
        top1 = evaluate(network, task, val, search.precision).top1
        search.judged.append(list(Judged(search.space.to_state(architecture), rounds, top1)))
        log.info("finalist %d: top-1 %.2f %% on val", number + 1, top1)
        progress.end_phase(search)
    best = max((Judged(*each) for each in search.judged), key=lambda each: (each.top1, each.rounds))
    return search.space.parse(best.architecture, search.config.layer_num, "finalists")


def candidates(search: CyclicSearch) -> list[tuple[Any, int]]:
    """The finalists, the most likely first."""
    return drawn(search) if search.config.finalist_noise else visited(search)


def drawn(search: CyclicSearch) -> list[tuple[Any, int]]:
    """What the search prefers, then what it prefers with noise on its alphas; and how often each came."""
    config = search.config
    generator = seeded_generator(config.seed, DRAWING)
    first = search.preferred()
    found = {str(search.space.to_strings(first)): first}
    counts: Counter[str] = Counter()
    for _ in range(DRAWS * config.finalists):
        if len(found) == config.finalists:
            break
        architecture = search.preferred(config.finalist_noise, generator)
        name = str(search.space.to_strings(architecture))
        found.setdefault(name, architecture)
        counts[name] += 1
    return [(architecture, counts[name]) for name, architecture in found.items()]


def visited(search: CyclicSearch) -> list[tuple[Any, int]]:
    """The architectures that most of the last rounds preferred, and how many did; the latest first of equally many."""
    config, space = search.config, search.space
    last = [space.parse(each, config.layer_num, "round") for each in search.preferences[-config.finalist_rounds :]]
    names = [str(space.to_strings(each)) for each in last]
    counts, latest = Counter(names), {name: index for index, name in enumerate(names)}
    order = sorted(counts, key=lambda name: (counts[name], latest[name]), reverse=True)
    return [(last[latest[name]], counts[name]) for name in order[: config.finalists]]


def finalist_steps(config: SearchConfig, train: Batches) -> int:
    """Of a finalist's training."""
    return max(1, round(len(train) * config.finalist_epochs))


def train_finalist(
    search: CyclicSearch, architecture: Any, number: int, train: Batches, steps: int, log: RunLog, progress: Progress
) -> nn.Module:
    """The network of a finalist after its training, which starts anew where it was cut off."""
    config, precision = search.config, search.precision
    with torch.random.fork_rng(devices=[]):  # whatever the search has drawn
        torch.manual_seed(seeded_generator(config.seed, STREAM, number).initial_seed())
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

    search.averages.reset()
    for step, batch in enumerate(_batches(train, number * math.ceil(config.finalist_epochs), steps)):
        for group in optimiser.param_groups:
            group["lr"] = cosine(config.finalist_lr, 0.0, step / steps)
        figures, _ = learn(loss_of, batch, config.accum_steps, [optimiser], config.w_grad_clip, precision.scaler)
        search.averages.add(figures, images_in(batch))
        if (step + 1) % config.print_freq == 0 or step + 1 == steps:
            search.averages.report(log, f"finalist {number + 1} [{step + 1}/{steps}]", search.step)
        if step + 1 < steps:
            progress.end_step(search)
    copy_from_main(network)
    return network


def _batches(train: Batches, epoch: int, steps: int) -> Iterator[Any]:
    """So many batches, from an epoch on."""
    while steps > 0:
        yield from train.epoch(epoch, min(steps, len(train)))
        epoch, steps = epoch + 1, steps - len(train)
