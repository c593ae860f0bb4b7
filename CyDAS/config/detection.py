"""The flags of ``detect.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from CyDAS.config.programs import TrainingFlags
from CyDAS.config.recipe import AveragingFlags, OptimiserFlags
from CyDAS.config.run import RunFlags
from CyDAS.config.transfer import BackboneFlags
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import flag
from CyDAS.utils.present import present

#: Where a part lies in a folder of COCO's layout: its annotations, its images.
LAYOUT = {
    "train": ("annotations/instances_train2017.json", "train2017"),
    "test": ("annotations/instances_val2017.json", "val2017"),
}


@dataclass
class DetectConfig(BackboneFlags, OptimiserFlags, AveragingFlags, TrainingFlags, RunFlags):
    """Flags of ``detect.py``."""

    dataset: ClassVar[str] = "coco"  #: files, not classes in folders

    # what to do
    eval_only: bool = flag(False, "test a checkpoint; nothing is trained")
    predict: list[Path] | None = flag(
        None, "find objects in these images, or in those in these folders: pictures of them and their boxes in JSON"
    )
    predict_dir: Path | None = flag(None, "where --predict writes (default: predictions in the run's folder)")
    resume_name: str | None = flag(
        None,
        "checkpoint, a file in the run's folder or, where none is there, a path (default: detect_resume.pth.tar to go "
        "on from, last.pth.tar to test or to predict with)",
    )
    weights_key: str | None = flag(
        None,
        "name under which a checkpoint of --eval_only or --predict holds the weights (default: the averaged ones of "
        "a training with --ema_decay, else the plain ones)",
    )
    # data
    data_dir: Path = flag(Path("experiments/data/coco"), "folder with annotations/, train2017/ and val2017/")
    train_json: Path | None = flag(None, "annotations to train on, as COCO writes them (default: those in DATA_DIR)")
    train_dir: Path | None = flag(None, "folder of their images (default: that in DATA_DIR)")
    test_json: Path | None = flag(None, "annotations to test on (default: those in DATA_DIR)")
    test_dir: Path | None = flag(None, "folder of their images (default: that in DATA_DIR)")
    short_side: int = flag(800, "most pixels of an image's shorter side, to which it is resized", at_least=1)
    long_side: int = flag(1333, "most pixels of its longer side", at_least=1)
    flip: bool = flag(True, "mirror half of the training images")
    batch_size: int = flag(2, "images per step and process", at_least=1)
    # network
    width: int = flag(256, "channels of the pyramid and the heads", at_least=1, of_network=True)
    # training
    epochs: int = flag(12, "epochs in all", at_least=1)
    lr: float = flag(0.02, "learning rate at its highest", above=0)
    lr_epochs: list[int] | None = flag(
        None, "epochs after which the rate falls to a tenth (default: 8 and 11 of 12, of others the same shares)"
    )
    warmup_steps: int = flag(500, "steps over which the rate rises from a third", at_least=0)
    momentum: float = flag(0.9, "momentum of the optimiser", at_least=0, below=1)
    weight_decay: float = flag(1e-4, "weight decay of all parameters", at_least=0)
    grad_clip: float = flag(35.0, "largest gradient norm of an update; 0 for no limit", at_least=0)
    # what is shown
    pictures: int = flag(4, "test images that are drawn after every epoch, always the same", at_least=0)
    show_score: float = flag(0.3, "least score of a box that is drawn or, with --predict, written", at_least=0, below=1)

    @property
    def is_training(self) -> bool:
        return not (self.eval_only or self.predict)

    def fill_in(self, given: set[str]) -> None:
        if self.lr_epochs is None:
            self.lr_epochs = [self.epochs * 8 // 12, self.epochs * 11 // 12]

    def check(self) -> None:
        """Raise :class:`CydasError` for values that do not go together."""
        super().check()
        if self.short_side > self.long_side:
            raise CydasError(f"--short_side {self.short_side} must be at most --long_side {self.long_side}")
        if (least := min(present(self.lr_epochs))) < 0:
            raise CydasError(f"--lr_epochs must be at least 0, not {least}")
        if self.eval_only and self.predict:
            raise CydasError("--eval_only --predict: a test or pictures; leave out one of the two")
        if self.is_training and self.batch_size * self.accum_steps < 2:
            raise CydasError("--batch_size 1: batch norm needs two images a step; --accum_steps 2 takes them apart")

    def annotations(self, part: str) -> tuple[Path, Path]:
        """The JSON file of ``train`` or ``test``, and the folder of its images."""
        json, folder = (self.data_dir / name for name in LAYOUT[part])
        return getattr(self, f"{part}_json") or json, getattr(self, f"{part}_dir") or folder
