"""Images with masks as a data set: found, described, and made into batches."""

import os
from collections.abc import Sequence
from typing import Any

from CyDAS.config import SegmentConfig
from CyDAS.data.classes import digest
from CyDAS.data.contents import describe_sizes
from CyDAS.data.dataset import DataSet, loader_options
from CyDAS.data.loaders import BadImages, Batches, FileBatches
from CyDAS.data.mask_layouts import find_layout
from CyDAS.data.mask_steps import Padded, TestSteps, TrainSteps
from CyDAS.data.masked_images import MaskedImages, count_all
from CyDAS.data.masks import VOID
from CyDAS.data.pixel_range import ToUnit, check_test_range, choose_range
from CyDAS.utils.distributed import Process, alike, gather
from CyDAS.utils.errors import CydasError
from CyDAS.utils.present import present
from CyDAS.utils.texts import few


class SegmentationData(DataSet):
    """Images with masks, decoded when they are needed."""

    def __init__(
        self, config: SegmentConfig, process: Process, with_training: bool, recorded: dict[str, Any], pad: Padded
    ):
        """``recorded``: what a checkpoint says of the data that it was trained on; ``pad``: to the sizes that the
        network takes. Raises :class:`CydasError` where the data are not what the flags say.
        """
        layout = find_layout(config)
        self.ids, self.classes = layout.ids, layout.ids.names
        if recorded and recorded["classes"] != self.classes:
            raise CydasError(
                f"{config.data_dir} has the classes {few(self.classes)}, and the network was trained on "
                f"{few(recorded['classes'])}"
            )
        tested = layout.train if config.test_part == "train" else layout.test
        parts = {"train": layout.train if with_training else [], "test": tested}
        self.parts = {part: MaskedImages(str(config.data_dir), pairs, self.ids) for part, pairs in parts.items()}
        self.image_size = max(present(config.crop_size))
        self._config, self._pad = config, pad
        training = self.parts["train"] if with_training else None
        self.pixel_range, notes = choose_range(config.pixel_range, recorded.get("pixel_range"), training)
        self.notes = [*layout.notes, *notes]
        self._train_options, self._test_options = loader_options(
            config, process, workers=config.workers, bad_images=BadImages(config.max_bad_images), collate=pad
        )

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def train_size(self) -> int:
        return len(self.parts["train"])

    def train_batches(self, indices: Sequence[int], *, cutout_length: int = 0, stream: int = 0) -> Batches:
        config = self._config
        height, width = present(config.crop_size)
        steps = TrainSteps(ToUnit(self.pixel_range), (height, width), config.short_sides, config.long_side, config.flip)
        return FileBatches(self.parts["train"], indices, steps, **self._train_options, stream=stream)

    def test_batches(self) -> Batches:
        test, config = self.parts["test"], self._config
        self.notes = list(dict.fromkeys([*self.notes, *check_test_range(test, self.pixel_range)]))
        options = self._test_options | {"batch_size": config.test_batch_size}
        return FileBatches(test, range(len(test)), self.test_steps, **options)

    @property
    def test_steps(self) -> TestSteps:
        return TestSteps(ToUnit(self.pixel_range), self._config.test_long_side)

    def record(self) -> dict[str, Any]:
        pixel_range = list(self.pixel_range) if self.pixel_range else None
        record: dict[str, Any] = {"classes": self.classes, "ids": self.ids.ids, "pixel_range": pixel_range}
        for part, images in self.parts.items():
            record[f"{part}_images"] = len(images)
            sizes = [os.path.getsize(pair.mask) for pair in images.pairs]
            record[f"{part}_digest"] = digest([pair.name for pair in images.pairs], sizes)
        return record

    def report(self, *parts: str) -> list[str]:
        lines = []
        for part in parts:
            images = self.parts[part]
            lines.append(f"{self.place(part)}: {len(images)} {part} images with masks, {self.n_classes} classes")
            lines.append(describe_sizes(len(images), images.open))
            lines += describe_pixels(part, images)
        return [*lines, *self.notes]

    def place(self, part: str) -> str:
        return self.parts[part].root


def describe_pixels(part: str, images: MaskedImages) -> list[str]:
    """Which share of the pixels is of which class, where the masks have been looked at."""
    if images.counts is None:
        return []
    total = images.counts.sum(axis=0)
    shares = 100 * total / total.sum()
    names = images.ids.names
    there = [f"{name} {shares[number]:.1f} %" for number, name in enumerate(names) if total[number]]
    missing = [name for number, name in enumerate(names) if not total[number]]
    lines = [f"{part} pixels: {few(there, 30)}, void {shares[VOID]:.1f} %"]
    lines += [f"no {part} pixels of {few(missing)}"] if missing else []
    void = [pair.name for pair, count in zip(images.pairs, images.counts, strict=True) if count[VOID] == count.sum()]
    return lines + ([f"{len(void)} {part} masks are all void: {few(void)}"] if void else [])


def load_segmentation(
    config: SegmentConfig, process: Process, pad: Padded, with_training: bool = True,
    recorded: dict[str, Any] | None = None,
) -> SegmentationData:  # fmt: skip
    """The data set that the flags name, its masks looked through by all processes together.

    Raises :class:`CydasError` in all processes alike, naming the file, for a mask that is of another size than its
    image or has an id that was not declared; each process must call it.
    """
    with alike():
        data = SegmentationData(config, process, with_training, recorded or {}, pad)
    if process.world_size > 1 and len(set(gather(tuple(data.record()[f"{part}_digest"] for part in data.parts)))) > 1:
        raise CydasError(f"the processes find different images in {config.data_dir} of each of them")
    for images in data.parts.values() if config.check_masks else ():
        images.counts = count_all(images, config.workers, process)
    if config.check_masks and with_training and not present(data.parts["train"].counts)[:, : data.n_classes].any():
        raise CydasError(f"{config.data_dir}: all pixels of the training masks are void: nothing can be learned")
    return data
