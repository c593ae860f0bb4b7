"""The data set of a detector: images with boxes of any categories, in a training and a test part."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from CyDAS.config import DetectConfig
from CyDAS.data.boxes import PrepareScene, collate, learnable
from CyDAS.data.classes import digest
from CyDAS.data.coco import Annotations, Scene
from CyDAS.data.dataset import DataSet, check_alike, loader_options
from CyDAS.data.images import Picture, decode, read_bytes
from CyDAS.data.loaders import BadImages, Batches, FileBatches
from CyDAS.data.pixel_range import ToUnit, check_test_range, choose_range
from CyDAS.utils.distributed import Process, alike
from CyDAS.utils.errors import CydasError
from CyDAS.utils.present import present


class Scenes(Dataset):
    """The images of a part: ``dataset[index]`` is ((picture, scene), its id)."""

    def __init__(self, annotations: Annotations):
        self.root = str(annotations.folder)
        self.scenes = scenes = annotations.scenes
        self.samples = [(scene.path, scene.id) for scene in scenes]

    def __getitem__(self, index: int) -> tuple[tuple[Picture, Scene], int]:
        scene = self.scenes[index]
        return (decode(read_bytes(scene.path), scene.path), scene), scene.id

    def __len__(self) -> int:
        return len(self.scenes)


class SceneBatches(FileBatches):
    """Batches of images that are all wide or all tall, which need less padding; only an epoch's last may be mixed."""

    def __init__(self, scenes: Scenes, indices: Sequence[int], transform: PrepareScene, **options: Any):
        super().__init__(scenes, indices, transform, collate=collate, **options)
        self._wide = [scenes.scenes[index].width > scenes.scenes[index].height for index in indices]

    def shuffled(self, epoch: int) -> list[int]:
        size = self.batch_size * self.process.world_size
        full: list[int] = []
        waiting: dict[bool, list[int]] = {True: [], False: []}
        for index in super().shuffled(epoch):
            group = waiting[self._wide[index]]
            group.append(index)
            if len(group) == size:
                full += group
                group.clear()
        return full + waiting[True] + waiting[False]


class ImagesWithBoxes(DataSet):
    """The images of one or two files of COCO's kind. A test does without the training part.

    ``recorded``: the :meth:`record` of what a network was trained on, whose classes then count. Raises
    :class:`CydasError` for what the files hold wrongly, and for a training part without boxes.
    """

    def __init__(self, config: DetectConfig, process: Process, with_training: bool, recorded: dict[str, Any]):
        self.image_size = config.short_side
        self._sides, self._flip = (config.short_side, config.long_side), config.flip
        self._train = Annotations(*config.annotations("train")) if with_training else None
        self._test = Annotations(*config.annotations("test"))
        if self._train:
            self.classes, self.category_ids = self._train.classes, self._train.category_ids
            if not any(len(learnable(scene)[0]) for scene in self._train.scenes):
                raise CydasError(f"annotations {self._train.path} have no box from which something can be learned")
        else:
            said = recorded or {"classes": self._test.classes, "category_ids": self._test.category_ids}
            self.classes, self.category_ids = said["classes"], said["category_ids"]
        self._test.adopt(self.classes)
        training = Scenes(self._train) if self._train else None
        self.pixel_range, self.notes = choose_range(config.pixel_range, recorded.get("pixel_range"), training)
        self._train_options, self._test_options = loader_options(
            config, process, workers=config.workers, bad_images=BadImages(config.max_bad_images)
        )
        self._test_options["batch_size"] = 1  # what is found in an image must not depend on its neighbours' padding

    @property
    def train_size(self) -> int:
        return len(present(self._train).scenes)

    @property
    def test_scenes(self) -> list[Scene]:
        return self._test.scenes

    def train_batches(self, indices: Sequence[int], *, stream: int = 0) -> Batches:
        prepare = PrepareScene(ToUnit(self.pixel_range), self._sides, self._flip)
        return SceneBatches(Scenes(present(self._train)), indices, prepare, **self._train_options, stream=stream)

    def test_batches(self) -> Batches:
        scenes = Scenes(self._test)
        self.notes = list(dict.fromkeys([*self.notes, *check_test_range(scenes, self.pixel_range)]))
        return SceneBatches(scenes, range(len(scenes)), self.test_steps, **self._test_options)

    @property
    def test_steps(self) -> PrepareScene:
        return PrepareScene(ToUnit(self.pixel_range), self._sides)

    def record(self) -> dict[str, Any]:
        pixel_range = list(self.pixel_range) if self.pixel_range else None
        record: dict[str, Any] = {
            "classes": self.classes, "category_ids": self.category_ids, "pixel_range": pixel_range
        }  # fmt: skip
        for part in ("train", "test"):
            scenes = self._part(part).scenes
            record[f"{part}_images"] = len(scenes)
            record[f"{part}_of_class"] = self._images_of_classes(scenes)
            names = [f"{Path(scene.path).name} {scene.height} {scene.width} {scene.objects}" for scene in scenes]
            record[f"{part}_digest"] = digest(names, [scene.id for scene in scenes])
        return record

    def report(self, *parts: str) -> list[str]:
        lines = []
        for part in parts:
            annotations = self._part(part)
            scenes = annotations.scenes
            boxes, classes = sum(len(scene.objects) for scene in scenes), self._images_of_classes(scenes)
            crowds = sum(thing.is_crowd for scene in scenes for thing in scene.objects)
            empty = sum(not scene.objects for scene in scenes)
            lines.append(
                f"{annotations.path}: {len(scenes)} {part} images with {boxes} boxes of {sum(map(bool, classes))} of "
                f"{len(self.classes)} classes; {crowds} boxes are crowds, {empty} images have none"
            )
            lines += [f"{annotations.path}: {n} boxes {why} are left out" for why, n in annotations.left_out.items()]
        return [*lines, *self.notes]

    def place(self, part: str) -> str:
        return str(self._part(part).path)

    def _part(self, part: str) -> Annotations:
        return present(self._train) if part == "train" else self._test

    def _images_of_classes(self, scenes: Sequence[Scene]) -> list[int]:
        """In how many images each class is seen."""
        counts = [0] * len(self.classes)
        for scene in scenes:
            for label in {thing.label for thing in scene.objects}:
                counts[label] += 1
        return counts


def load_scenes(
    config: DetectConfig, process: Process, with_training: bool = True, recorded: dict[str, Any] | None = None
) -> ImagesWithBoxes:
    """The data set that the flags name. Raises :class:`CydasError`, in all processes alike; each must call it."""
    with alike():
        data = ImagesWithBoxes(config, process, with_training, recorded or {})
    if with_training:
        check_alike(data, process)
    return data
