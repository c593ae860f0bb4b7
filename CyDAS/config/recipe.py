"""Flags of how a found network is trained: CDARTS's recipe by default, timm's by flags that are independent of each
other.
"""

from dataclasses import dataclass

from CyDAS.utils.flags import flag

#: Kernels by which images are resized.
INTERPOLATIONS = ("bilinear", "bicubic")


@dataclass
class TestImageFlags:
    """How the images of a folder data set are cut for a test."""

    crop_pct: float = flag(
        0.875, "side of a test image over the shorter side that its file is resized to (folder data sets)",
        at_least=0.1, at_most=1,
    )  # fmt: skip
    test_interpolation: str = flag(
        "bilinear", "how test images are resized (folder data sets; timm: bicubic)", INTERPOLATIONS
    )


@dataclass
class AveragingFlags:
    """A running mean of the weights, of whatever network."""

    ema_decay: float = flag(
        0.0, "report the results of the weights' running mean, of which every update leaves this share; 0 for none",
        at_least=0, below=1,
    )  # fmt: skip


@dataclass
class OptimiserFlags:
    """Which optimiser trains a network, beside its learning rate, momentum and weight decay."""

    optimizer: str = flag(
        "sgd", "SGD, timm's RMSProp in TensorFlow's form, or AdamW (its first beta is --momentum)",
        ("sgd", "rmsproptf", "adamw"),
    )  # fmt: skip
    opt_alpha: float = flag(0.9, "how much of its mean square gradient RMSProp keeps in a step", at_least=0, below=1)
    opt_eps: float = flag(1e-3, "what RMSProp adds to the mean square gradient, under the root", above=0)
    no_decay_1d: bool = flag(False, "no weight decay of biases and batch norms, of tensors with one dimension")


@dataclass
class RecipeFlags(OptimiserFlags, AveragingFlags):
    """Optimiser, learning rate, regularisation and augmentation of a training."""

    # optimiser
    lr: float = flag(0.025, "learning rate at its highest", above=0)
    momentum: float = flag(0.9, "momentum of the optimiser", at_least=0, below=1)
    nesterov: bool = flag(False, "Nesterov's momentum (SGD)")
    weight_decay: float = flag(
        5e-4, "weight decay (CIFAR: 3e-4 for networks of up to 3.5 M parameters, unless given)", at_least=0
    )
    grad_clip: float = flag(5.0, "largest gradient norm of an update; 0 for no limit", at_least=0)
    # learning rate
    lr_schedule: str = flag(
        "cosine",
        "cosine to 0, with a linear start for global batches above 256; or timm's cosine or step, from --warmup_lr",
        ("cosine", "timm_cosine", "timm_step"),
    )
    epochs: int = flag(600, "epochs in all, but for --cooldown_epochs", at_least=1)
    warmup_epochs: int = flag(
        5, "epochs with a linear start of the learning rate (cosine: for global batches above 256)", at_least=0
    )
    warmup_lr: float = flag(1e-6, "learning rate that timm's schedules start from", at_least=0)
    min_lr: float = flag(1e-5, "learning rate that timm_cosine ends at", at_least=0)
    cooldown_epochs: int = flag(10, "epochs at --min_lr after those of timm_cosine", at_least=0)
    decay_epochs: float = flag(2.4, "epochs between two steps of timm_step", above=0)
    decay_rate: float = flag(0.973, "what a step of timm_step multiplies the learning rate by", above=0, at_most=1)
    # images and targets
    cutout_length: int = flag(
        16, "side of the square that cutout blanks, pixels; 0 for none (in-memory data sets)", at_least=0
    )
    rand_augment: str | None = flag(None, "RandAugment as timm writes and does it, for instance rand-m9-mstd0.5")
    random_erase: float = flag(
        0.0, "probability that a rectangle of an image becomes noise (timm's random erasing, mode pixel)",
        at_least=0, at_most=1,
    )  # fmt: skip
    interpolation: str = flag(
        "bilinear", "how crops of training images are resized; random: either way (folder data sets)",
        (*INTERPOLATIONS, "random"),
    )  # fmt: skip
    label_smooth: float = flag(0.1, "label smoothing, 0 to 1", at_least=0, below=1)
    mixup_alpha: float = flag(0.0, "mixup's Beta parameter; 0 for none", at_least=0)

    @property
    def total_epochs(self) -> int:
        """Epochs with those that follow the schedule's end, as timm counts them."""
        return self.epochs + (self.cooldown_epochs if self.lr_schedule == "timm_cosine" else 0)
