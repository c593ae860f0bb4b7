"""The flags of ``segment.py``."""

from dataclasses import dataclass
from pathlib import Path

from CyDAS.config.programs import TrainingFlags
from CyDAS.config.recipe import AveragingFlags, OptimiserFlags
from CyDAS.config.run import RunFlags
from CyDAS.config.transfer import BackboneFlags
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import flag

#: What a flag that was not given is for a data set; the published settings.
PUBLISHED = {
    "cityscapes": {
        "crop_size": [512, 1024],
        "short_sides": [512, 640, 704, 832, 896, 1024, 1152, 1216, 1344, 1408, 1536, 1664, 1728, 1856, 1920, 2048],
        "long_side": 4096,
    },
    "ade20k": {
        "crop_size": [640, 640],
        "short_sides": list(range(320, 961, 64)),
        "long_side": 960,
        "decoder_width": 16.0,
        "epochs": 1000,
    },
    "folder": {"crop_size": [320, 320], "epochs": 100, "warmup_steps": 100},
}


@dataclass
class SegmentConfig(BackboneFlags, OptimiserFlags, AveragingFlags, TrainingFlags, RunFlags):
    """Flags of ``segment.py``."""

    # what to do
    eval_only: bool = flag(False, "test a checkpoint and write its classes' IoU; nothing is trained")
    predict: list[Path] | None = flag(
        None, "write the classes of these images, or of those in these folders, as masks and as coloured pictures"
    )
    predict_dir: Path | None = flag(None, "where --predict writes (default: predictions in the run's folder)")
    resume_name: str | None = flag(
        None,
        "checkpoint, a file in the run's folder or, where none is there, a path (default: segment_resume.pth.tar to go "
        "on from, last.pth.tar to test or to predict with)",
    )
    weights_key: str | None = flag(
        None,
        "name under which a checkpoint of --eval_only or --predict holds the weights (default: the averaged ones of "
        "a training with --ema_decay, else the plain ones)",
    )
    # data
    dataset: str = flag(
        "folder",
        "layout of the data: leftImg8bit and gtFine, ADE20K's images and annotations, or any images with masks",
        tuple(PUBLISHED),
    )
    data_dir: Path = flag(Path("experiments/data"), "folder of the data set")
    classes: Path | None = flag(
        None, "class list of a folder: lines of NAME or ID NAME, or JSON of {ID: NAME} (default: DATA_DIR/classes.txt)"
    )
    void_ids: list[int] | None = flag(None, "ids in the masks of a folder that count nowhere (default: 255)")
    check_masks: bool = flag(True, "look at every mask before the training starts; off: when its turn comes")
    batch_size: int = flag(4, "images per step and process", at_least=2)
    crop_size: list[int] | None = flag(
        None, "height and width of what is trained on, pixels, multiples of 32 (default: 512 1024 cityscapes, 640 640 "
        "ade20k, 320 320 else)",
    )  # fmt: skip
    short_sides: list[int] | None = flag(
        None, "shorter sides, pixels, one of which a training image is resized to (default: as published; of a folder: "
        "0.5 to 2 times its own)",
    )  # fmt: skip
    long_side: int | None = flag(
        None, "most pixels of a resized training image's longer side (default: 4096 cityscapes, 960 ade20k, else none)",
        at_least=1,
    )  # fmt: skip
    flip: bool = flag(True, "mirror every other training image")
    repeats: int = flag(
        1, "how often an epoch has every training image: there is a test after each, which few images make dear",
        at_least=1,
    )  # fmt: skip
    # test
    test_part: str = flag("val", "images that a test is of: those for tests, or those for training", ("val", "train"))
    test_batch_size: int = flag(1, "images per step of a test; smaller ones are padded to the largest", at_least=1)
    test_long_side: int | None = flag(
        None, "test images AND masks whose longer side is resized to so many pixels (default: full resolution; "
        "ade20k's published figure is at 640)", at_least=1,
    )  # fmt: skip
    window: list[int] | None = flag(
        None, "height and width of sliding windows that a test image is cut into, multiples of 32 (default: none)"
    )
    pictures: int = flag(4, "validation images whose predictions are drawn after every epoch", at_least=0)
    # network
    c_last: int | None = flag(
        None, "channels of a chain backbone's last stage (default: those in --backbone_checkpoint, else 320)",
        at_least=1, of_network=True,
    )  # fmt: skip
    decoder_width: float = flag(
        6.0, "the decoder's F: 16 F and 8 F channels (ade20k: 16, unless given)", above=0, of_network=True
    )
    bn_momentum: float = flag(
        0.01, "share of a step's batch in the running statistics of batch norms", above=0, at_most=1
    )
    # training
    epochs: int = flag(4000, "epochs in all (ade20k: 1000, a folder: 100, unless given)", at_least=1)
    lr: float = flag(0.05, "learning rate at the end of the warm-up, then 0.9-polynomial to 0", above=0)
    warmup_steps: int = flag(
        1000, "steps with an exponential start of the learning rate (a folder: 100, unless given)", at_least=0
    )
    warmup_lr: float = flag(5e-6, "learning rate that the warm-up starts from", above=0)
    momentum: float = flag(0.9, "momentum of the optimiser", at_least=0, below=1)
    weight_decay: float = flag(1e-4, "weight decay of every parameter", at_least=0)
    grad_clip: float = flag(0.0, "largest gradient norm of an update; 0 for no limit", at_least=0)
    aux_weight: float = flag(0.2, "weight of each auxiliary head's loss", at_least=0)
    ohem_threshold: float = flag(
        0.7, "pixels whose class has a higher probability are left out of the loss; 1 for none", above=0, at_most=1
    )
    ohem_share: int = flag(16, "one in so many of a batch's pixels stays in the loss at least", at_least=1)

    def fill_in(self, given: set[str]) -> None:
        for name, value in PUBLISHED[self.dataset].items():
            if name not in given:
                setattr(self, name, value)

    @property
    def is_training(self) -> bool:
        return not (self.eval_only or self.predict)

    def check(self) -> None:
        """Raise :class:`CydasError` for values that do not go together."""
        super().check()
        for name, least in (("crop_size", 64), ("window", 64)):
            size = getattr(self, name)
            if size is not None and (len(size) != 2 or any(side < least or side % 32 for side in size)):
                raise CydasError(f"--{name} is a height and a width, multiples of 32 from 64 on, not {size}")
        if self.short_sides and min(self.short_sides) < 1:
            raise CydasError(f"--short_sides must be numbers of at least 1, not {self.short_sides}")
        if self.eval_only and self.predict:
            raise CydasError("--eval_only --predict: one after the other; leave out one of the two")
        if self.resume_name and Path(self.resume_name).name in ("last.pth.tar", "best.pth.tar") and self.is_training:
            raise CydasError(
                f"--resume_name {self.resume_name}: the training itself writes a checkpoint of that name, which holds "
                "weights alone"
            )
