"""Who is trained in the last choice of a search, one after the other, and who leads; :mod:`finalists` trains them."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch

from CyDAS.config import SearchConfig
from CyDAS.data.loaders import seeded_generator
from CyDAS.engine.cycle import CyclicSearch
from CyDAS.engine.stability import add_noise
from CyDAS.utils.profile import count_parameters

#: What the drawing of finalists depends on beside the search's seed.
DRAWING = 10
#: Draws for each finalist that is asked for, before there are fewer: alphas may have decided.
DRAWS = 100


class Entrant(NamedTuple):
    """An architecture that is to be trained, and where it comes from."""

    architecture: Any
    rounds: int = 0  #: how many of the last rounds preferred it, or how often it was drawn
    change_of: int = 0  #: the number of the finalist, from 1 on, that it is or is a change of
    again: bool = False  #: whether this is one of the longer trainings


class Judged(NamedTuple):
    """A finalist and how it did."""

    architecture: dict[str, str]  #: as a checkpoint holds it
    rounds: int  #: see :class:`Entrant`
    top1: float  #: percent, on the val half
    macs: int = 1  #: multiply-accumulates of an image
    again: bool = False
    change_of: int = 0

    def score(self, size: float) -> float:
        """Points. ``size``: those of twice the multiply-accumulates, since short trainings prefer small networks."""
        return self.top1 + size * math.log2(self.macs)


def entrants(search: CyclicSearch) -> Iterator[Entrant]:
    """Every training; the next one is asked for when ``search.judged`` says how the last did."""
    config, first = search.config, []
    for entrant in candidates(search):
        first.append(entrant.architecture)
        yield entrant
    if config.finalist_runoff:
        second = doubtful(search, first) if config.finalist_sweep else best(search, first)
        yield from (entrant._replace(again=True) for entrant in second)


def best(search: CyclicSearch, first: Sequence[Any]) -> list[Entrant]:
    """The finalist that leads, then those with the best scores."""
    config = search.config
    judged = [Judged(*each) for each in search.judged[: len(first)]]
    leader = leading(judged, config)
    order = sorted(range(len(first)), key=lambda index: (index != leader, -judged[index].score(config.finalist_size)))
    return [Entrant(first[index], change_of=index + 1) for index in order[: config.finalist_runoff]]


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


def candidates(search: CyclicSearch) -> Iterator[Entrant]:
    """The finalists, the most likely first."""
    config = search.config
    if config.finalist_sweep:
        return sweeping(search)
    return iter(drawn(search) if config.finalist_noise else visited(search))


def drawn(search: CyclicSearch) -> list[Entrant]:
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
    return [Entrant(architecture, counts[name]) for name, architecture in found.items()]


def sweeping(search: CyclicSearch) -> Iterator[Entrant]:
    """What the last rounds preferred, then the finalist that leads with another operation in one place (an edge): place
    after place, the least decided first, and in each the likelier operations first.

    All of the leader's changes are judged before the best of them may take its place, and be changed in turn: what
    counts most is decided first, and one training that went well by chance does not lead the others astray. With
    ``--finalist_largest`` the first that is changed is :func:`largest`, whatever leads.
    """
    config, changes = search.config, _changes(search)
    first = visited(search)
    if config.finalist_largest:
        heaviest = largest(search, changes)
        own = [entrant for entrant in first if entrant.architecture == heaviest] or [Entrant(heaviest)]
        first = [entrant for entrant in first if entrant not in own][: config.finalists - 1] + own
    yield from first
    tried = [entrant.architecture for entrant in first]
    before, leader = None, len(tried) - 1
    if not config.finalist_largest:
        leader = leading(search.judged[: len(tried)], config)
    while leader != before and len(tried) < config.finalists:
        before = leader
        yield from _changing(search, tried, changes, lambda: leader, config.finalists)  # noqa: B023 - used up at once
        leader = leading(search.judged[: len(tried)], config)


def largest(search: CyclicSearch, changes: Sequence[tuple[Any, int]]) -> Any:
    """What the search prefers with one operation in all places: of all such architectures the one whose network has
    most parameters.
    """
    space, sizes = search.space, []
    for own in sorted({operation for _, operation in changes}):
        architecture = search.preferred()
        for where, operation in changes:
            if operation == own:
                architecture = space.changed(architecture, where, own)
        with torch.device("meta"):  # nothing is drawn
            sizes.append((count_parameters(space.retrain_network(architecture, False)), architecture))
    return max(sizes, key=lambda size: size[0])[1]


def _changing(
    search: CyclicSearch, tried: list[Any], changes: Sequence[tuple[Any, int]], leader: Callable[[], int], most: int,
    before: int = 0,
) -> Iterator[Entrant]:  # fmt: skip
    """The leader with one change after the other; no architecture twice.

    ``leader``: asked for before each of them, which of ``tried`` that is; these grow up to ``most``; ``before``:
    finalists before the first of them.
    """
    space = search.space
    known = {str(space.to_strings(architecture)) for architecture in tried}
    for change in changes:
        if len(tried) == most:
            return
        number = leader()
        architecture = space.changed(tried[number], *change)
        if (name := str(space.to_strings(architecture))) not in known:
            known.add(name)
            tried.append(architecture)
            yield Entrant(architecture, change_of=before + number + 1)


def doubtful(search: CyclicSearch, first: Sequence[Any]) -> Iterator[Entrant]:
    """The finalist of a sweep that leads, then whichever of the longer trainings leads at the time with those changes
    that the sweep was least sure about: what they lost was the least.
    """
    config, before = search.config, len(first)
    leader = leading(search.judged[:before], config)
    tried = [first[leader]]
    yield Entrant(first[leader], change_of=leader + 1)

    def ahead() -> int:
        return leading(search.judged[: before + len(tried)], config) - before

    doubts = _doubts(search, first, first[leader])
    yield from _changing(search, tried, doubts, ahead, config.finalist_runoff, before)


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


def visited(search: CyclicSearch) -> list[Entrant]:
    """The architectures that most of the last rounds preferred, and how many did; the latest first of equally many."""
    config, space = search.config, search.space
    last = [space.parse(each, config.layer_num, "round") for each in search.preferences[-config.finalist_rounds :]]
    names = [str(space.to_strings(each)) for each in last]
    counts, latest = Counter(names), {name: index for index, name in enumerate(names)}
    order = sorted(counts, key=lambda name: (counts[name], latest[name]), reverse=True)
    return [Entrant(last[latest[name]], counts[name]) for name in order[: config.finalists]]
