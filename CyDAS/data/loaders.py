"""Batches of an epoch: the same interface for images in memory and for images in files.

The order of an epoch and every random choice in it follow from (seed, stream, epoch) alone: an epoch can be entered
anew at any time, and two runs with one seed see the same batches.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from CyDAS.data.augment import BatchAugmentation, seeded
from CyDAS.data.device import on_device, send
from CyDAS.data.workers import leave_signals_to_the_program, read
from CyDAS.utils.distributed import Process, any_of, gather
from CyDAS.utils.errors import CydasError

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Any]  #: images float32 [N, C, H, W], a target for each: labels int64 [N], say


def seeded_generator(*key: int) -> torch.Generator:
    """A generator whose stream depends on all parts of the key."""
    seed = np.random.SeedSequence([part % 2**32 for part in key]).generate_state(2)
    return torch.Generator().manual_seed(int(seed[0]) << 31 ^ int(seed[1]))


class Batches:
    """Batches of one part of a data set for one process.

    ``stream`` sets apart the random choices of several loaders in one run. In training every process gets equally
    many images, the first ones again where the number does not divide; a last batch of a single image is dropped,
    since batch norm cannot take it. Otherwise every image comes exactly once. Raises :class:`CydasError` for fewer
    than two training images a process.
    """

    def __init__(self, size: int, batch_size: int, process: Process, seed: int, stream: int, train: bool):
        self.size = size
        self.batch_size = batch_size
        self.process = process
        self.seed = seed
        self.stream = stream
        self.train = train
        if train and -(-size // process.world_size) < 2:
            raise CydasError(
                f"{size} training images are too few for {process.world_size} process(es): batch norm needs two in each"
            )

    def __len__(self) -> int:
        """Steps of an epoch."""
        ranks = self.process.world_size
        own = -(-self.size // ranks) if self.train else len(range(self.process.rank, self.size, ranks))
        full, rest = divmod(own, self.batch_size)
        return full + (rest > (1 if self.train else 0))

    def order(self, epoch: int) -> list[int]:
        """Indices of this process's images in the epoch."""
        ranks = self.process.world_size
        if not self.train:
            return list(range(self.process.rank, self.size, ranks))
        order = self.shuffled(epoch)
        order += order[: -self.size % ranks]
        return order[self.process.rank :: ranks]

    def shuffled(self, epoch: int) -> list[int]:
        """Indices of all images in the epoch; the processes take them in turns."""
        return torch.randperm(self.size, generator=seeded_generator(self.seed, self.stream, epoch)).tolist()

    def epoch(self, epoch: int = 0, steps: int | None = None, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, on the process's device: numbers ``start`` to ``steps`` (default: all)."""
        raise NotImplementedError

    def generator(self, epoch: int, step: int) -> torch.Generator:
        """What a batch's random choices are drawn from. One of its own for each rank: two must not crop alike."""
        return seeded_generator(self.seed, self.stream, epoch, 1 + self.process.rank, step)


class TensorBatches(Batches):
    """Batches of uint8 images that lie on the device, augmented there as a whole."""

    def __init__(self, images: Tensor, labels: Tensor, augmentation: BatchAugmentation, **options):
        super().__init__(len(images), **options)
        self.images = images.to(self.process.device)
        self.labels = labels.to(self.process.device)
        self.augmentation = augmentation

    def epoch(self, epoch: int = 0, steps: int | None = None, start: int = 0) -> Iterator[Batch]:
        batches = send(torch.tensor(self.order(epoch)), self.process.device).split(self.batch_size)
        for step in range(start, steps or len(self)):
            indices = batches[step]
            images = self.images.index_select(0, indices)  # whole images; indexing copies number by number
            if self.train:
                images = self.augmentation.train(images, self.generator(epoch, step))
            else:
                images = self.augmentation.normalise(images)
            yield images, self.labels[indices]


class BadImages:
    """Damaged images: so many of a data set may be left out, in all processes together."""

    def __init__(self, limit: int):
        self.limit = limit
        self._known: set[str] = set()

    def new(self, damaged: list[str]) -> list[str]:
        """Those of ``damaged`` that have not been noted, each once."""
        return [text for text in dict.fromkeys(damaged) if text not in self._known]

    def too_many(self, damaged: list[str]) -> bool:
        """Whether there would be more than may be with these."""
        return len(self._known) + len(self.new(damaged)) > self.limit

    def note(self, damaged: list[str]) -> None:
        """Name what is new. Raises :class:`CydasError` naming the first one that is more than may be."""
        for text in self.new(damaged):
            self._known.add(text)
            if len(self._known) > self.limit:
                raise CydasError(f"{text}. --max_bad_images N leaves out up to N damaged ones, here {self.limit}")
            logger.warning("left out (%d of at most %d): %s", len(self._known), self.limit, text)


#: An image's number in the data set, and the seed of its augmentation.
Entry = tuple[int, int]


def stack(whole: list[tuple[Tensor, int]]) -> Batch:
    """A batch of images of one size and their labels."""
    images, labels = zip(*whole, strict=True)
    return torch.stack(images), torch.tensor(labels)


class FileBatches(Batches):
    """Batches of images that worker processes decode and augment one by one.

    In training the place of a damaged image is taken by another one where batches must be full, as with several
    processes, whose steps are then alike, or where less than two images were left, which batch norm cannot take. Which
    one follows from (seed, stream, epoch, place). Otherwise, and in a test, it is left out. All processes raise the
    same :class:`CydasError` where one of them has met too many.
    """

    def __init__(
        self, dataset: Dataset, indices: Sequence[int], transform: Callable, workers: int, bad_images: "BadImages",
        collate: Callable[[list[tuple[Any, Any]]], Batch] = stack, **options,
    ):  # fmt: skip
        """``dataset[index]``: what ``transform`` takes, and a label. ``collate``: from such pairs to a batch."""
        super().__init__(len(indices), **options)
        self._bad_images = bad_images
        self._sampler = _BatchSampler()
        self._indices = indices
        full = self.batch_size if self.process.world_size > 1 else 2
        self._loader = DataLoader(
            _SeededImages(dataset, transform, indices, full if self.train else 0, bad_images.limit, collate),
            batch_size=None,  # the sampler gives whole batches
            sampler=self._sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.process.device.type == "cuda",
            worker_init_fn=leave_signals_to_the_program,
            # A generator of its own: drawing the workers' seeds must not move the global one.
            generator=torch.Generator(),
        )

    def epoch(self, epoch: int = 0, steps: int | None = None, start: int = 0) -> Iterator[Batch]:
        order = self.order(epoch)
        seeds = torch.randint(2**62, (len(order),), generator=self.generator(epoch, 0)).tolist()
        entries = [(self._indices[index], seed) for index, seed in zip(order, seeds, strict=True)]
        size = self.batch_size
        self._sampler.batches = [entries[n * size : (n + 1) * size] for n in range(start, steps or len(self))]
        for batch in self._agreed_batches() if self.train else self._own_batches():
            images, targets = (on_device(entries, self.process.device) for entries in batch)
            yield images, targets

    def _agreed_batches(self) -> Iterator[list[Any]]:
        """Training's: before every one the processes, which take equally many, hear of each other's damaged images."""
        batches = read(self._loader)
        for _ in self._sampler.batches:
            damaged: list[str] = []
            batch: list[Any] = []
            problem = None
            try:
                damaged, *batch = next(batches)
            except CydasError as error:
                problem = str(error)
            if not batch and problem is None:
                problem = f"none of the {self.size} images of this part of the data is whole: {damaged[0]}"
            self._agree(damaged, problem)
            yield batch

    def _own_batches(self) -> Iterator[list[Any]]:
        """A test's: the processes may have unequal numbers of them, and hear of each other after the last."""
        all_damaged, problem = [], None
        try:
            for damaged, *batch in read(self._loader):
                all_damaged += damaged
                if self._bad_images.too_many(all_damaged):
                    break
                if batch:
                    yield batch
        except CydasError as error:
            problem = str(error)
        self._agree(all_damaged, problem)

    def _agree(self, damaged: list[str], problem: str | None) -> None:
        """Note what is damaged in any process; raise where one of them has a problem, or there are too many."""
        new = self._bad_images.new(damaged)
        if not any_of(bool(new) or problem is not None):
            return
        reports = gather((new, problem))
        self._bad_images.note([text for news, _ in reports for text in news])
        for _, problem in reports:
            if problem is not None:
                raise CydasError(problem)


class _BatchSampler(Sampler):
    """Hands out batches of entries, so that an image's augmentation does not depend on which worker does it."""

    def __init__(self):
        self.batches: list[list[Entry]] = []

    def __iter__(self) -> Iterator[list[Entry]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _SeededImages(Dataset):
    """From a batch's entries to (what is damaged, images, labels); without the last two where nothing is whole.

    A batch is filled up to ``full`` images, but not beyond its entries, with others of ``indices``, until more than
    ``limit`` are damaged.
    """

    def __init__(
        self, dataset: Dataset, transform: Callable, indices: Sequence[int], full: int, limit: int, collate: Callable
    ):
        self.dataset = dataset
        self.transform = transform
        self.indices = indices
        self.full = full
        self.limit = limit
        self.collate = collate

    def __getitem__(self, entries: list[Entry]) -> tuple:
        damaged: list[str] = []
        whole: list[tuple[Tensor, int]] = []
        for entry in entries:
            self._load(entry, damaged, whole)
        if len(whole) < (full := min(self.full, len(entries))):
            self._fill(full, entries[0][1], damaged, whole)
        if not whole:
            return (damaged,)
        return damaged, *self.collate(whole)

    def _fill(self, full: int, seed: int, damaged: list[str], whole: list[tuple[Tensor, int]]) -> None:
        """Fill ``whole`` up to ``full`` images, if there are any, in a random order that follows from ``seed``."""
        generator = seeded_generator(seed)
        before = -1
        while before < len(whole) < full:  # again where there are fewer whole images than places
            before = len(whole)
            for place in torch.randperm(len(self.indices), generator=generator).tolist():
                if len(whole) == full or len(set(damaged)) > self.limit:
                    return
                self._load((self.indices[place], int(torch.randint(2**62, (), generator=generator))), damaged, whole)

    def _load(self, entry: Entry, damaged: list[str], whole: list[tuple[Tensor, int]]) -> None:
        """Put the image, augmented, and its label to ``whole``, or what is wrong with it to ``damaged``."""
        index, seed = entry
        try:
            image, label = self.dataset[index]
            with seeded(seed):
                whole.append((self.transform(image), label))
        except CydasError as error:  # raised in a worker it would arrive wrapped in a stack trace
            damaged.append(str(error))
        except Exception as error:  # whatever a decoder or a transform makes of a strange file, it is that image's
            reason = (str(error).splitlines() or [""])[0]
            damaged.append(f"cannot read the image {self._name(index)}: {type(error).__name__} {reason}".rstrip())

    def _name(self, index: int) -> str:
        samples = getattr(self.dataset, "samples", None)
        return f"number {index}" + (f" ({samples[index][0]})" if samples else "")
