"""Who is trained in the last choice of a search, one after the other, and who leads; :mod:`finalists` trains them."""

import itertools
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
    rounds: int  #: as :class:`Entrant` has it
    top1: float  #: percent, on the val half
    macs: int = 1  #: multiply-accumulates of an image
    again: bool = False  #: as :class:`Entrant` has it
    change_of: int = 0  #: as :class:`Entrant` has it

    @property
    def together(self) -> tuple[bool, int]:
        """What those that are tried together have in common."""
        return self.again, self.change_of

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
    """Which one leads after all of them: the first, until the best of those that were tried together, as changes of one
    finalist are, has a score that is higher by more than the margin; and so on.

    Where some were trained again, they start anew.
    """
    results = [Judged(*each) for each in judged]
    leader = 0
    for (again, _), group in itertools.groupby(range(len(results)), key=lambda number: results[number].together):
        numbers = list(group)
        scores = [results[number].score(config.finalist_size) for number in numbers]
        highest = scores.index(max(scores))  # the first of equal ones
        margin = _margin(again, config) if again == results[leader].again else -math.inf
        if scores[highest] - results[leader].score(config.finalist_size) > margin:
            leader = numbers[highest]
    return leader


def _margin(again: bool, config: SearchConfig) -> float:
    """Points, between longer trainings (``again``) or shorter ones."""
    own = config.finalist_runoff_margin
    return own if again and own is not None else config.finalist_margin


def candidates(search: CyclicSearch) -> Iterator[Entrant]:
    """The finalists of the first, short trainings."""
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
    after place, the least decided of the last round first, and in each the likelier operations first.

    All of the leader's changes are judged before the best of them may take its place, and be changed in turn: what
    counts most is decided first, and one training that went well by chance does not lead the others astray. With
    ``--finalist_largest`` everything begins with :func:`largest` and its changes, the space's shortcut in all places
    first: a shallow search network has no use for what a deep one needs most.
    """
    config, changes = search.config, changes_of(search)
    starts = visited(search)
    if config.finalist_largest:
        heaviest = largest(search, changes)
        own = [start for start in starts if start.architecture == heaviest] or [Entrant(heaviest)]
        starts = [*own, *(start for start in starts if start not in own)][: config.finalists]
        changes.sort(key=lambda change: change[1] != search.space.shortcut)
    yield from starts
    tried = [start.architecture for start in starts]
    swept, leader = None, 0 if config.finalist_largest else leading(search.judged[: len(tried)], config)
    while leader != swept and len(tried) < config.finalists:
        swept = leader
        yield from _changing(search, tried, changes, lambda: swept, config.finalists)  # noqa: B023 - used up at once
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
    search: CyclicSearch, tried: list[Any], changes: Sequence[tuple[Any, int]], which: Callable[[], int], most: int,
    earlier: int = 0,
) -> Iterator[Entrant]:  # fmt: skip
    """One of ``tried`` with one change after the other; no architecture twice.

    ``which`` of them is asked before each change; they grow up to ``most``; ``earlier``: finalists before the first.
    """
    space = search.space
    known = {str(space.to_strings(architecture)) for architecture in tried}
    for change in changes:
        if len(tried) == most:
            return
        number = which()
        architecture = space.changed(tried[number], *change)
        if (name := str(space.to_strings(architecture))) not in known:
            known.add(name)
            tried.append(architecture)
            yield Entrant(architecture, change_of=earlier + number + 1)


def doubtful(search: CyclicSearch, first: Sequence[Any]) -> Iterator[Entrant]:
    """The finalist of a sweep that leads, then whichever of the longer trainings leads at the time with one of its
    :func:`_doubts`. Where nothing was swept: the best.
    """
    config, earlier = search.config, len(first)
    leader = leading(search.judged[:earlier], config)
    tried = [first[leader]]
    doubts = _doubts(search, first, first[leader])
    if not doubts:
        yield from best(search, first)
        return
    yield Entrant(first[leader], change_of=leader + 1)

    def ahead() -> int:
        return leading(search.judged[: earlier + len(tried)], config) - earlier

    yield from _changing(search, tried, doubts, ahead, config.finalist_runoff, earlier)


def _doubts(search: CyclicSearch, first: Sequence[Any], leader: Any) -> list[tuple[Any, int]]:
    """Changes of a sweep's leader, those first that the best of the other finalists have."""
    space, changes = search.space, changes_of(search)
    scores: dict[tuple[Any, int], float] = {}
    for architecture, result in zip(first, search.judged, strict=False):
        score = Judged(*result).score(search.config.finalist_size)
        for change in changes:
            if space.changed(architecture, *change) == architecture and space.changed(leader, *change) != leader:
                scores[change] = max(score, scores.get(change, -math.inf))
    return sorted(scores, key=lambda change: -scores[change])


@torch.no_grad()
def changes_of(search: CyclicSearch) -> list[tuple[Any, int]]:
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
