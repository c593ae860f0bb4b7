"""Batches of an epoch: the same interface for images in memory and for images in files.

The order of an epoch and every random choice in it follow from (seed, stream, epoch) alone: an epoch can be entered
anew at any time, and two runs with one seed see the same batches.
"""

import atexit
import logging
import multiprocessing
import multiprocessing.util  # whose own end, registered before ours, comes after it
import signal
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from CyDAS.data.augment import BatchAugmentation
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError

logger = logging.getLogger(__name__)

Batch = tuple[Tensor, Tensor]  #: images float32 [N, C, H, W], labels int64 [N]


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
        order = torch.randperm(self.size, generator=seeded_generator(self.seed, self.stream, epoch)).tolist()
        order += order[: -self.size % ranks]
        return order[self.process.rank :: ranks]

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
        batches = torch.tensor(self.order(epoch), device=self.process.device).split(self.batch_size)
        for step in range(start, steps or len(self)):
            indices = batches[step]
            images = self.images[indices]
            if self.train:
                images = self.augmentation.train(images, self.generator(epoch, step))
            else:
                images = self.augmentation.normalise(images)
            yield images, self.labels[indices]


class BadImages:
    """Damaged images: so many of a data set may be left out."""

    def __init__(self, limit: int):
        self.limit = limit
        self._known: set[str] = set()

    def note(self, error: CydasError) -> None:
        """Name a damaged image when it first appears. Raises its error where there are more than may be."""
        if str(error) in self._known:
            return
        self._known.add(str(error))
        if len(self._known) > self.limit:
            raise error
        logger.warning("left out (%d of at most %d): %s", len(self._known), self.limit, error)


class FileBatches(Batches):
    """Batches of images that worker processes decode and augment one by one."""

    def __init__(
        self, dataset: Dataset, indices: Sequence[int], transform: Callable, workers: int, bad_images: "BadImages",
        **options,
    ):  # fmt: skip
        super().__init__(len(indices), **options)
        self._bad_images = bad_images
        self._sampler = _SeededSampler()
        self._indices = indices
        self._loader = DataLoader(
            _SeededImages(dataset, transform),
            batch_size=self.batch_size,
            sampler=self._sampler,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.process.device.type == "cuda",
            collate_fn=_collate,
            worker_init_fn=_leave_signals_to_the_program,
            # A generator of its own: drawing the workers' seeds must not move the global one.
            generator=torch.Generator(),
        )

    def epoch(self, epoch: int = 0, steps: int | None = None, start: int = 0) -> Iterator[Batch]:
        order = self.order(epoch)
        seeds = torch.randint(2**62, (len(order),), generator=self.generator(epoch, 0)).tolist()
        entries = [(self._indices[index], seed) for index, seed in zip(order, seeds, strict=True)]
        self._sampler.entries = entries[start * self.batch_size : (steps or len(self)) * self.batch_size]
        for damaged, *batch in self._loader:
            for error in damaged:
                self._bad_images.note(error)
            if not batch and self.train:
                raise CydasError("every image of a batch is damaged")
            if batch:
                yield tuple(tensor.to(self.process.device, non_blocking=True) for tensor in batch)


def _leave_signals_to_the_program(worker: int) -> None:
    """A Ctrl-C reaches the workers, too; the program wants to finish its step with them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """When Python exits it tells its daemons to end by SIGTERM and waits for them; such workers would never end."""
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class _SeededSampler(Sampler):
    """Hands out (index, seed) pairs, so that an image's augmentation does not depend on which worker does it."""

    def __init__(self):
        self.entries: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


class _SeededImages(Dataset):
    def __init__(self, dataset: Dataset, transform: Callable):
        self.dataset = dataset
        self.transform = transform

    def __getitem__(self, entry: tuple[int, int]) -> tuple[Tensor, int] | CydasError:
        index, seed = entry
        try:
            image, label = self.dataset[index]
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                return self.transform(image), label
        except CydasError as error:
            return error  # raised in a worker it would arrive wrapped in a stack trace


def _collate(items: list) -> tuple:
    """(what is damaged, images, labels); without the last two where nothing is whole."""
    damaged = [item for item in items if isinstance(item, CydasError)]
    whole = [item for item in items if not isinstance(item, CydasError)]
    if not whole:
        return (damaged,)
    images, labels = zip(*whole, strict=True)
    return damaged, torch.stack(images), torch.tensor(labels)
