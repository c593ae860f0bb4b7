"""The last choice of a search: among architectures that it nearly prefers, by a short training of each.

What a search network prefers by a hair may be worse than what it preferred a round before. Finalists are trained at
the depth of the network that will be retrained, on the train half, and compared on the val half: the search sees no
other image, and no benchmark.
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from CyDAS.config import SearchConfig
from CyDAS.data.batch import images_in
from CyDAS.data.loaders import Batches, seeded_generator
from CyDAS.engine.cycle import CyclicSearch, Progress
from CyDAS.engine.evaluation import evaluate
from CyDAS.engine.optim import cosine, learn, make_optimiser
from CyDAS.engine.stability import add_noise
from CyDAS.runs.logs import RunLog
from CyDAS.tasks.classification import Classification, retrain_loss
from CyDAS.utils.distributed import copy_from_main, place
from CyDAS.utils.profile import count_macs

#: What finalists' random numbers depend on beside the search's seed; what the drawing of them does.
STREAM, DRAWING = 8, 10
#: Draws for each finalist that is asked for, before there are fewer: alphas may have decided.
DRAWS = 100


class Judged(NamedTuple):
    """A finalist and how it did."""

    architecture: dict[str, str]  #: as a checkpoint holds it
    #: Of the last rounds, how many preferred it; of drawn ones, how often it was; in a sweep, which finalist it is a
    #: change of, from 1 on; trained again, which one it is.
    rounds: int
    top1: float  #: percent, on the val half
    macs: int = 1  #: multiply-accumulates of an image
    again: bool = False  #: whether this is its longer training

    def score(self, size: float) -> float:
        """Points. ``size``: those of twice the multiply-accumulates, since short trainings prefer small networks."""
        return self.top1 + size * math.log2(self.macs)


def choose(
    search: CyclicSearch, train: Batches, val: Batches, task: Classification, shape: Sequence[int], log: RunLog,
    progress: Progress,
) -> Any:  # fmt: skip
    """The best finalist. ``train``, ``val``: batches of the halves, the latter in order and not augmented; ``shape``:
    an image's, [C, H, W].

    ``search.judged`` grows with every one of them, and ``progress`` is told: what was judged is not judged again.
    """
    config, space = search.config, search.space
    for number, (architecture, count, again) in enumerate(entrants(search)):
        if number < len(search.judged):
            continue
        name = f"finalist {number + 1}"
        log.info("%s: %s, %s", name, space.brief(architecture), _origin(search, architecture, count, again))
        epochs = config.finalist_runoff_epochs if again else config.finalist_epochs
        network = train_finalist(search, architecture, name, train, finalist_steps(epochs, train), log, progress)
        top1 = evaluate(network, task, val, search.precision).top1
        macs = count_macs(network, shape)
        search.judged.append(list(Judged(space.to_state(architecture), count, top1, macs, again)))
        log.info("%s: top-1 %.2f %% on val, %.3f M multiply-accumulates", name, top1, macs / 1e6)
        progress.end_phase(search)
    trained = sum(not Judged(*each).again for each in search.judged)
    if trained < config.finalists:
        log.info("%d finalists instead of %d: there are no more", trained, config.finalists)
    leader = search.judged[leading(search.judged, config)]
    return space.parse(Judged(*leader).architecture, config.layer_num, "finalists")


def entrants(search: CyclicSearch) -> Iterator[tuple[Any, int, bool]]:
    """Every training: the architecture, where it comes from, and whether it is one of ``--finalist_runoff``."""
    config, first = search.config, []
    for architecture, origin in candidates(search):
        first.append(architecture)
        yield architecture, origin, False
    if config.finalist_runoff:
        second = doubtful(search, first) if config.finalist_sweep else best(search, first)
        yield from ((architecture, origin, True) for architecture, origin in second)


def best(search: CyclicSearch, first: Sequence[Any]) -> list[tuple[Any, int]]:
    """The finalist that leads, then those with the best scores; and their numbers."""
    config = search.config
    judged = [Judged(*each) for each in search.judged[: len(first)]]
    leader = leading(judged, config)
    order = sorted(range(len(first)), key=lambda index: (index != leader, -judged[index].score(config.finalist_size)))
    return [(first[index], index + 1) for index in order[: config.finalist_runoff]]


def _origin(search: CyclicSearch, architecture: Any, count: int, again: bool) -> str:
    """Where a finalist comes from, in words."""
    config = search.config
    if again and search.space.to_state(architecture) == Judged(*search.judged[count - 1]).architecture:
        return f"finalist {count} again"
    if config.finalist_sweep:
        return f"a change of finalist {count}" if count else "preferred"
    return f"drawn {count} times" if config.finalist_noise else f"preferred in {count} rounds"


def leading(judged: Sequence[Sequence], config: SearchConfig) -> int:
    """Which one leads after all of them: the first until one's score is higher by more than the margin, and so on.

    Where some were trained again, they start anew.
    """
    results = [Judged(*each) for each in judged]
    leader = 0
    for number, result in enumerate(results):
        higher = result.score(config.finalist_size) - results[leader].score(config.finalist_size)
        if higher > config.finalist_margin or result.again > results[leader].again:
            leader = number
    return leader


def candidates(search: CyclicSearch) -> Iterator[tuple[Any, int]]:
    """The finalists, the most likely first; the next one is asked for when ``search.judged`` says how the last did."""
    config = search.config
    if config.finalist_sweep:
        return sweeping(search)
    return iter(drawn(search) if config.finalist_noise else visited(search))


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
        architecture = search.preferred(partial(add_noise, scale=config.finalist_noise, generator=generator))
        name = str(search.space.to_strings(architecture))
        found.setdefault(name, architecture)
        counts[name] += 1
    return [(architecture, counts[name]) for name, architecture in found.items()]


def sweeping(search: CyclicSearch) -> Iterator[tuple[Any, int]]:
    """What the search prefers, then the finalist that leads at the time with another operation in one place (an edge):
    place after place, the least decided first, and in each the likelier operations first.

    Places are gone through again until every such change of the leader has been tried. With each finalist comes the
    number of the leader, from 1 on, that it is a change of; 0 for the first.
    """
    changes, tried = _changes(search), [search.preferred()]
    yield tried[0], 0
    sweep = 0
    while sweep < len(tried):  # the last one has found something
        sweep = len(tried)
        yield from _changing(search, tried, changes, 0, search.config.finalists)


def _changing(
    search: CyclicSearch, tried: list[Any], changes: Sequence[tuple[Any, int]], before: int, most: int
) -> Iterator[tuple[Any, int]]:
    """Whichever of ``tried`` leads at the time, with one change after the other, and its number; no finalist twice.

    ``before``: finalists before the first of ``tried``, which grows up to ``most``.
    """
    space = search.space
    known = {str(space.to_strings(architecture)) for architecture in tried}
    for change in changes:
        if len(tried) == most:
            return
        leader = leading(search.judged[: before + len(tried)], search.config)
        architecture = space.changed(tried[leader - before], *change)
        if (name := str(space.to_strings(architecture))) not in known:
            known.add(name)
            tried.append(architecture)
            yield architecture, leader + 1


def doubtful(search: CyclicSearch, first: Sequence[Any]) -> Iterator[tuple[Any, int]]:
    """The finalist of a sweep that leads, then the leader of the longer trainings with those changes that the sweep was
    least sure about: what they lost was the least.

    With each comes the number of the finalist, from 1 on, that it is or is a change of.
    """
    leader = leading(search.judged[: len(first)], search.config)
    tried = [first[leader]]
    yield first[leader], leader + 1
    yield from _changing(
        search, tried, _doubts(search, first, first[leader]), len(first), search.config.finalist_runoff
    )


def _doubts(search: CyclicSearch, first: Sequence[Any], leader: Any) -> list[tuple[Any, int]]:
    """Changes of a sweep's leader, those first that lost least against what the leader has in that place, all other
    places being alike.
    """
    space, changes = search.space, _changes(search)
    scores = {
        str(space.to_strings(architecture)): Judged(*result).score(search.config.finalist_size)
        for architecture, result in zip(first, search.judged, strict=False)
    }
    own = {where: operation for where, operation in changes if space.changed(leader, where, operation) == leader}
    gains: dict[tuple[Any, int], float] = {}
    for architecture in first:
        for where, operation in changes:
            if operation != own[where] and space.changed(architecture, where, operation) == architecture:
                instead = str(space.to_strings(space.changed(architecture, where, own[where])))
                if instead in scores:
                    gain = scores[str(space.to_strings(architecture))] - scores[instead]
                    gains[where, operation] = max(gain, gains.get((where, operation), -math.inf))
    return sorted(gains, key=lambda change: -gains[change])


@torch.no_grad()
def _changes(search: CyclicSearch) -> list[tuple[Any, int]]:
    """By the alphas that an architecture is read off."""
    found: list[tuple[Any, int]] = []
    search.preferred(lambda alphas: found.extend(search.space.changes(search.joint)))
    return found


def visited(search: CyclicSearch) -> list[tuple[Any, int]]:
    """The architectures that most of the last rounds preferred, and how many did; the latest first of equally many."""
    config, space = search.config, search.space
    last = [space.parse(each, config.layer_num, "round") for each in search.preferences[-config.finalist_rounds :]]
    names = [str(space.to_strings(each)) for each in last]
    counts, latest = Counter(names), {name: index for index, name in enumerate(names)}
    order = sorted(counts, key=lambda name: (counts[name], latest[name]), reverse=True)
    return [(last[latest[name]], counts[name]) for name in order[: config.finalists]]


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

    search.averages.reset()
    for step, batch in enumerate(_batches(train, steps)):
        for group in optimiser.param_groups:
            group["lr"] = cosine(config.finalist_lr, 0.0, step / steps)
        figures, _ = learn(loss_of, batch, config.accum_steps, [optimiser], config.w_grad_clip, precision.scaler)
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
