"""The flags of the programs, but for those that one search space alone has."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from CyDAS.config.data_sets import DATASETS, PUBLISHED
from CyDAS.config.many import ManyFlags
from CyDAS.config.recipe import RecipeFlags, TestImageFlags
from CyDAS.config.run import RunFlags
from CyDAS.config.spaces import (
    FLAGS,
    ChainFlags,
    ChainRetrainFlags,
    ChainSearchFlags,
    DartsFlags,
    DartsRetrainFlags,
    DartsSearchFlags,
    NatsFlags,
    NatsSearchFlags,
    foreign_flags,
)
from CyDAS.config.stability import StabilityFlags
from CyDAS.utils.errors import CydasError
from CyDAS.utils.flags import flag


@dataclass
class CommonFlags(RunFlags):
    """Flags that all three programs know, of whatever space."""

    extension: Path | None = flag(
        None, "Python file of your own that adds a --space or a --dataset; it is run before anything else"
    )
    # data
    dataset: str = flag(
        "digits",
        "data set; digits and cluttered (hard digits) need no files, folder is any set of class folders",
        DATASETS,
    )
    data_dir: Path = flag(Path("experiments/data"), "folder that holds (or receives) the data sets")
    train_dir: Path | None = flag(
        None, "class folders to train on (default: DATA_DIR/train; imagenet: DATA_DIR/imagenet/train)"
    )
    test_dir: Path | None = flag(
        None, "class folders to test on (default: DATA_DIR/val; imagenet: DATA_DIR/imagenet/val)"
    )
    test_share: float = flag(
        0.0, "share of each class's images in one folder (TRAIN_DIR, else DATA_DIR itself) that is kept for tests; the "
        "files' names and --test_seed decide (--dataset folder)", at_least=0, below=1,
    )  # fmt: skip
    test_seed: int = flag(0, "seed of --test_share, whatever the run's seed is", at_least=0)
    image_size: int | None = flag(
        None, "height and width of an image, pixels (default: 16 digits, 32 CIFAR, 224 else)", at_least=1
    )
    n_classes: int | None = flag(None, "number of classes (default: what the data set says)", at_least=1)
    input_channels: int | None = flag(None, "channels of an image (default: what the data set says)", at_least=1)
    use_aa: bool = flag(False, "AutoAugment, with the policy of CIFAR-10 or of ImageNet")
    batch_size: int = flag(128, "images per step and process", at_least=2)
    # network
    space: str = flag(
        "darts", "cells of DARTS, cells of NATS-Bench's topology space, or chains of inverted residual blocks",
        FLAGS, of_network=True,
    )  # fmt: skip
    init_channels: int = flag(16, "channels of a node in the first stage", of_network=True)
    layer_num: int = flag(3, "number of stages", of_network=True)

    def foreign(self) -> set[str]:
        """Flags that mean nothing in the space: it has no such choice."""
        return foreign_flags(self.space)

    def class_folders(self, part: str) -> Path:
        """Where the images of ``train`` or ``val`` lie, one folder a class (data sets that are in folders)."""
        if self.test_share:  # both parts are in one folder
            return self.train_dir or self.data_dir
        named = self.train_dir if part == "train" else self.test_dir
        root = self.data_dir / "imagenet" if self.dataset == "imagenet" else self.data_dir
        return named or root / part


@dataclass
class CommonConfig(ChainFlags, NatsFlags, DartsFlags, CommonFlags):
    """Flags that all three programs know."""


class Batched(Protocol):
    """Flags that say how many images make an update."""

    batch_size: int
    accum_steps: int


@dataclass
class TrainingFlags:
    """Flags of the programs that train, whatever they train."""

    checkpoint_minutes: float = flag(10.0, "minutes between checkpoints within an epoch; 0 for none", at_least=0)
    report: bool = flag(True, "write a report of the run at its end, as HTML and as Markdown")
    tracker: str = flag(
        "tensorboard", "what else shows the figures of figures.jsonl; trackio and wandb are packages to install",
        ("tensorboard", "trackio", "wandb", "none"),
    )  # fmt: skip
    on_nan: str = flag("stop", "what a loss or gradient that is not finite does to the run", ("stop", "skip"))
    accum_steps: int = flag(1, "batches of --batch_size images, one after the other, that make one update", at_least=1)
    scale_lr: bool = flag(False, "scale the SGD learning rates by the global batch over --reference_batch")
    reference_batch: int | None = flag(None, "global batch that the learning rates are meant for", at_least=1)
    resume_or_start: bool = flag(
        False, "go on where the run has a checkpoint, else start anew: one command for a scheduler that repeats it"
    )
    dry_run: bool = flag(False, "take a few steps of every kind, say what the run will need and take, and end")

    def global_batch(self: Batched, processes: int) -> int:
        """Images that an update sees, over all processes."""
        return self.batch_size * self.accum_steps * processes

    def check(self) -> None:
        """Raise :class:`CydasError` for values that do not go together."""
        if self.tracker in ("trackio", "wandb") and find_spec(self.tracker) is None:
            raise CydasError(f"--tracker {self.tracker} needs the package: pip install {self.tracker}")
        if self.scale_lr and not self.reference_batch:
            raise CydasError("--scale_lr needs --reference_batch, the global batch that the rates are meant for")


@dataclass
class TrainingConfig(ManyFlags, TrainingFlags, CommonConfig):
    """Flags of the programs that train a network of a search space."""

    grad_checkpointing: bool = flag(False, "compute each cell again in the backward pass: less memory, more time")

    def check(self) -> None:
        """Raise :class:`CydasError` for values that do not go together."""
        super().check()
        self.check_many(self.dry_run)


@dataclass
class SearchConfig(StabilityFlags, ChainSearchFlags, NatsSearchFlags, DartsSearchFlags, TrainingConfig):
    """Flags of ``search.py``."""

    # search network
    w_lr: float = flag(0.05, "learning rate of the search network (SGD)", above=0)
    w_lr_min: float = flag(0.001, "learning rate that --lr_schedule cosine ends at, for both networks", at_least=0)
    lr_schedule: str = flag("constant", "learning rates of both networks over the search", ("constant", "cosine"))
    w_momentum: float = flag(0.9, "momentum of both networks' SGD", at_least=0, below=1)
    w_weight_decay: float = flag(3e-4, "weight decay of both networks", at_least=0)
    w_grad_clip: float = flag(5.0, "largest gradient norm of an update", above=0)
    clip_apart: bool = flag(False, "clip weights and architecture parameters each by their own norm")
    # architecture parameters
    alpha_lr: float = flag(6e-4, "learning rate of the architecture parameters (Adam)", above=0)
    alpha_weight_decay: float = flag(1e-3, "weight decay of the architecture parameters", at_least=0)
    # evaluation network
    nasnet_lr: float = flag(0.1, "learning rate of the evaluation network (SGD)", above=0)
    nasnet_warmup: int = flag(5, "epochs that a new evaluation network is trained alone, per cycle", at_least=0)
    bn_affine: bool = flag(
        False,
        "affine batch norms in the evaluation network (darts) or in the search network (nats, chain)",
    )
    share_fc: bool = flag(False, "one last layer for both networks")
    # cycles
    sample_ratio: float = flag(0.2, "share of each epoch's steps that is used, 0 to 1", above=0, at_most=1)
    pretrain_epochs: int = flag(
        5, "rounds, of one epoch each, in which the search network is trained alone", at_least=0
    )
    search_iter: int = flag(5, "rounds in all: warm-up rounds and cycles; must exceed --pretrain_epochs")
    search_iter_epochs: int = flag(5, "epochs of joint learning in a cycle", at_least=1)
    method: str = flag(
        "cdarts", "cdarts, or darts: the alphas are trained on val by the search network alone", ("cdarts", "darts")
    )
    split: str = flag(
        "index",
        "the training set's halves, train and val: by index, every class in two, or at random by --seed",
        ("index", "class", "random"),
    )
    # joint learning
    loss_alpha: float = flag(1.0, "weight of distillation; the classification losses are divided by it", above=0)
    loss_T: float = flag(2.0, "temperature of distillation", above=0)
    interactive_type: int = flag(0, "distillation: 0 Kullback-Leibler, 1 cosine, 2 MSE, 3 smooth L1", (0, 1, 2, 3))
    ensemble_param: bool = flag(False, "learn the weights of the three classifiers in distillation")
    ensemble_sum: bool = flag(False, "sum the three classifiers' logits instead of putting them side by side")
    fix_head: bool = flag(False, "keep the distillation heads as they were initialised")
    regular: bool = flag(False, "penalise operations without weights (L1 of their alphas)")
    regular_ratio: float = flag(0.5, "share of the cycles after which the penalty has fallen to 0", above=0)
    regular_coeff: float = flag(5.0, "the penalty's factor at the start", at_least=0)
    # speed
    cuda_graphs: bool = flag(False, "record a cycle's updates once as CUDA graphs and replay them (one GPU)")

    def check(self) -> None:
        """Raise :class:`CydasError` for values that make no search."""
        super().check()
        if self.search_iter <= self.pretrain_epochs:
            raise CydasError(
                f"--search_iter {self.search_iter} counts the {self.pretrain_epochs} warm-up rounds of "
                "--pretrain_epochs, so no cycle is left: raise --search_iter above it"
            )
        if self.finalist_runoff == 1:
            raise CydasError("--finalist_runoff 1 would compare one finalist with nothing: 0, or at least 2")
        if self.cuda_graphs and (other := self._not_with_cuda_graphs()):
            raise CydasError(f"--cuda_graphs {other}: such steps cannot be recorded; leave out one of the two")

    def _not_with_cuda_graphs(self) -> str:
        """The flags by which the host looks at every step's result, or at its random generators."""
        if self.use_amp and self.amp_dtype == "fp16":
            return "--use_amp --amp_dtype fp16"
        if self.edge_mutation or self.dirichlet:
            return "--edge_mutation" if self.edge_mutation else "--dirichlet"
        return "--on_nan skip" if self.on_nan == "skip" else "--grad_checkpointing" if self.grad_checkpointing else ""


@dataclass
class FoundNetworkConfig(TestImageFlags, CommonConfig):
    """Flags of the programs that work on a found architecture."""

    init_channels: int = flag(36, "channels of a node in the first stage", of_network=True)
    compile: bool = flag(False, "compile the network with torch.compile")
    compile_mode: str = flag(
        "default",
        "what torch.compile aims at; reduce-overhead uses CUDA graphs",
        ("default", "reduce-overhead", "max-autotune"),
    )


@dataclass
class RetrainConfig(RecipeFlags, ChainRetrainFlags, DartsRetrainFlags, FoundNetworkConfig, TrainingConfig):
    """Flags of ``retrain.py``."""

    cell_file: Path | None = flag(
        None, "genotype to train, FILE or FILE::NAME (default: OUTPUT_DIR/search/NAME/genotype.json)"
    )
    resume_name: str = flag(
        "retrain_resume.pth.tar", "checkpoint of --resume: a file in the run's folder or, where none is there, a path"
    )
    aux_weight: float = flag(0.4, "weight of the auxiliary head's loss; 0 for no head", at_least=0)

    @property
    def genotype_file(self) -> Path:
        """Where the architecture is read: of several runs, all train what the search of their common name found."""
        return self.cell_file or self.output_dir / "search" / self.name / "genotype.json"

    def of_all(self) -> dict[str, object]:
        return {"cell_file": self.genotype_file}

    def check(self) -> None:
        """Raise :class:`CydasError` for two augmentations that take each other's place, half a momentum, a name that
        other checkpoints have, and what compilation cannot do.
        """
        super().check()
        if self.use_aa and self.rand_augment is not None:
            raise CydasError("--use_aa --rand_augment: either takes the place of the other; leave out one of the two")
        if self.nesterov and not self.momentum:
            raise CydasError("--nesterov is a kind of momentum: give --momentum above 0, or leave it out")
        if self.compile and self.grad_checkpointing:
            raise CydasError(
                "--compile --grad_checkpointing: a compiled network would move its batch norm statistics twice; "
                "leave out one of the two"
            )
        if self.compile and self.compile_mode != "default" and self.accum_steps > 1:
            raise CydasError(
                f"--compile_mode {self.compile_mode} --accum_steps {self.accum_steps}: CUDA graphs would overwrite the "
                "gradients that are added up; take --compile_mode default or a larger --batch_size"
            )
        if Path(self.resume_name).name in ("last.pth.tar", "best.pth.tar"):
            raise CydasError(
                f"--resume_name {self.resume_name}: the retraining itself writes a checkpoint of that name"
            )


@dataclass
class EvaluationConfig(FoundNetworkConfig):
    """Flags of ``test.py``. What a CyDAS checkpoint says of its network and data needs no flag."""

    batch_size: int = flag(128, "images per step and process", at_least=1)
    cell_file: Path | None = flag(
        None, "genotype of the network, FILE or FILE::NAME (default: what the checkpoint says)"
    )
    resume: bool = flag(True, "load the checkpoint --resume_name; always on, since a test needs one")
    resume_name: str = flag(
        "last.pth.tar", "checkpoint to test: a file in OUTPUT_DIR/retrain/NAME or, where none is there, a path"
    )
    weights_key: str | None = flag(
        None,
        "name under which a checkpoint holds the weights, as model_main or state_dict_ema (default: those that its "
        "training reports, averaged where it averages; of other programs the plain ones)",
    )
    published: str | None = flag(
        None, "take the network and data of a published checkpoint for what is neither given nor said by the file",
        tuple(PUBLISHED),
    )  # fmt: skip
    fuse: bool = flag(True, "fold batch norms into the convolutions before them")

    def fill_in(self, given: set[str]) -> None:
        for name, value in PUBLISHED.get(self.published or "", {}).items():
            if name not in given:
                setattr(self, name, value)

    def check(self) -> None:
        """Raise :class:`CydasError` for a test without a checkpoint."""
        if not self.resume:
            raise CydasError("a test needs a checkpoint: leave out --no-resume")
