"""The last choice of a search: among architectures that it nearly prefers, by a short training of each.

What a search network prefers by a hair may be worse than what it preferred a round before. Finalists are trained at
the depth of the network that will be retrained, on the train half, and compared on the val half: the search sees no
other image, and no benchmark.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

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

#: What a finalist's random numbers depend on beside the search's seed and its number; what the drawing of them does.
STREAM, DRAWING = 8, 10
#: Draws for each finalist that is asked for, before there are fewer: alphas may have decided.
DRAWS = 100


class Judged(NamedTuple):
    """A finalist and how it did."""

    architecture: dict[str, str]  #: as a checkpoint holds it
    #: Of the last rounds, how many preferred it; of drawn ones, how often it was; of changes, of which finalist.
    rounds: int
    top1: float  #: percent, on the val half
    macs: int = 1  #: multiply-accumulates of an image

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
    for number, (architecture, count) in enumerate(candidates(search)):
        if number < len(search.judged):
            continue
        log.info("finalist %d: %s, %s", number + 1, search.space.brief(architecture), _origin(search.config, count))
        steps = finalist_steps(search.config, train)
        network = train_finalist(search, architecture, number, train, steps, log, progress)
        top1 = evaluate(network, task, val, search.precision).top1
        macs = count_macs(network, shape)
        search.judged.append(list(Judged(search.space.to_state(architecture), count, top1, macs)))
        log.info("finalist %d: top-1 %.2f %% on val, %.3f M multiply-accumulates", number + 1, top1, macs / 1e6)
        progress.end_phase(search)
    leader = Judged(*search.judged[leading(search.judged, search.config)])
    return search.space.parse(leader.architecture, search.config.layer_num, "finalists")


def _climbs(config: SearchConfig) -> bool:
    return bool(config.finalist_noise and config.finalist_changes)


def _origin(config: SearchConfig, count: int) -> str:
    """Where a finalist comes from, in words."""
    if _climbs(config):
        return f"a change of finalist {count}" if count else "preferred"
    return f"drawn {count} times" if config.finalist_noise else f"preferred in {count} rounds"


def leading(judged: Sequence[Sequence], config: SearchConfig) -> int:
    """Which one leads after all of them: the first until one's score is higher by more than the margin, and so on."""
    scores = [Judged(*each).score(config.finalist_size) for each in judged]
    leader = 0
    for number, score in enumerate(scores):
        if score > scores[leader] + config.finalist_margin:
            leader = number
    return leader


def candidates(search: CyclicSearch) -> Iterator[tuple[Any, int]]:
    """The finalists, the most likely first; the next one is asked for when ``search.judged`` says how the last did."""
    config = search.config
    if _climbs(config):
        return climbing(search)
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


def climbing(search: CyclicSearch) -> Iterator[tuple[Any, int]]:
    """What the search prefers, then what differs in a few choices from the finalist that leads at the time.

    The leader's alphas, with the noise that made it, are where the next noise is added. None comes twice. With each
    comes the number of the leader, from 1 on, that it is a change of; 0 for the first.
    """
    config = search.config
    tried: list[dict[str, Tensor]] = []  # alphas of each finalist
    known = set()
    for number in range(config.finalists):
        leader = leading(search.judged[:number], config) if number else 0
        for attempt in range(DRAWS if number else 1):
            made: dict[str, Tensor] = {}
            alter = partial(
                _change, start=tried[leader] if tried else None, made=made, config=config,
                generator=seeded_generator(config.seed, DRAWING, number, attempt),
            )  # fmt: skip
            architecture = search.preferred(alter)
            name = str(search.space.to_strings(architecture))
            if name not in known:
                break
        else:
            return  # there are no more
        known.add(name)
        tried.append(made)
        yield architecture, leader + 1 if number else 0


def _change(
    alphas: nn.Module, start: dict[str, Tensor] | None, made: dict[str, Tensor], config: SearchConfig,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Set alphas to a start with noise on some choices (without a start they stay), and put them into ``made``."""
    if start is not None:
        alphas.load_state_dict(start)
        add_noise(alphas, config.finalist_noise, generator, config.finalist_changes)
    made.update((name, value.clone()) for name, value in alphas.state_dict().items())


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
