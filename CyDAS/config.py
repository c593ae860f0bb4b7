"""Every flag of every program, once: name, unit, default, help. Parsed in ``main`` and nowhere else."""

import argparse
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from CyDAS.utils.errors import CydasError

DATASETS = ("digits", "cifar10", "cifar100", "imagenet", "folder")


def flag(default: Any, help: str, choices: tuple | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices})


@dataclass
class CommonConfig:
    """Flags that all three programs know."""

    # run
    name: str = flag("default", "name of the run; its files go to OUTPUT_DIR/search/NAME or OUTPUT_DIR/retrain/NAME")
    output_dir: Path = flag(Path("experiments"), "folder of all runs")
    overwrite: bool = flag(False, "start anew in the folder of an earlier run of this name, deleting its files")
    resume: bool = flag(False, "go on from a checkpoint")
    seed: int = flag(0, "seed of every random choice")
    device: str = flag("auto", "where to compute; auto takes a GPU where there is one", ("auto", "cpu", "cuda"))
    threads: int | None = flag(None, "CPU threads of a process (default: PyTorch's choice)")
    workers: int = flag(4, "processes that decode images of a folder data set; 0 decodes in the program itself")
    print_freq: int = flag(50, "steps between two lines of the log")
    use_amp: bool = flag(False, "compute in mixed precision")
    amp_dtype: str = flag("bf16", "the lower precision of --use_amp", ("bf16", "fp16"))
    sync_bn: bool = flag(False, "batch norm statistics over all processes (GPUs only)")
    # data
    dataset: str = flag("digits", "data set; digits needs no files, folder is any set of class folders", DATASETS)
    data_dir: Path = flag(Path("experiments/data"), "folder that holds (or receives) the data sets")
    train_dir: Path | None = flag(
        None, "class folders to train on (default: DATA_DIR/train; imagenet: DATA_DIR/imagenet/train)"
    )
    test_dir: Path | None = flag(
        None, "class folders to test on (default: DATA_DIR/val; imagenet: DATA_DIR/imagenet/val)"
    )
    image_size: int | None = flag(None, "height and width of an image, pixels (default: 16 digits, 32 CIFAR, 224 else)")
    n_classes: int | None = flag(None, "number of classes (default: what the data set says)")
    input_channels: int | None = flag(None, "channels of an image (default: what the data set says)")
    use_aa: bool = flag(False, "AutoAugment, with the policy of CIFAR-10 or of ImageNet")
    batch_size: int = flag(128, "images per step and process")
    # network
    model_type: str | None = flag(
        None, "macro-structure (default: imagenet for 224-pixel images, else cifar)", ("cifar", "imagenet")
    )
    init_channels: int = flag(16, "channels of a node in the first stage")
    stem_multiplier: int = flag(3, "stem channels per init channel")
    layer_num: int = flag(3, "number of stages")
    res_stem: bool = flag(False, "ResNet stem, reductions at the start of a stage (model_type imagenet)")


@dataclass
class SearchConfig(CommonConfig):
    """Flags of ``search.py``."""

    # search network
    w_lr: float = flag(0.05, "learning rate of the search network (SGD)")
    w_lr_min: float = flag(0.001, "learning rate that --lr_schedule cosine ends at, for both networks")
    lr_schedule: str = flag("constant", "learning rates of both networks over the search", ("constant", "cosine"))
    w_momentum: float = flag(0.9, "momentum of both networks' SGD")
    w_weight_decay: float = flag(3e-4, "weight decay of both networks")
    w_grad_clip: float = flag(5.0, "largest gradient norm of an update")
    clip_apart: bool = flag(False, "clip weights and architecture parameters each by their own norm")
    # architecture parameters
    alpha_lr: float = flag(6e-4, "learning rate of the architecture parameters (Adam)")
    alpha_weight_decay: float = flag(1e-3, "weight decay of the architecture parameters")
    use_beta: bool = flag(False, "weigh a node's edges with parameters of their own")
    repeat_cell: bool = flag(False, "one pair of cells for all stages")
    # evaluation network
    nasnet_lr: float = flag(0.1, "learning rate of the evaluation network (SGD)")
    nasnet_warmup: int = flag(5, "epochs that a new evaluation network is trained alone, per cycle")
    bn_affine: bool = flag(False, "affine batch norms in the evaluation network")
    share_fc: bool = flag(False, "one last layer for both networks")
    # cycles
    sample_ratio: float = flag(0.2, "share of each epoch's steps that is used, 0 to 1")
    pretrain_epochs: int = flag(5, "rounds, of one epoch each, in which the search network is trained alone")
    search_iter: int = flag(5, "rounds in all: warm-up rounds and cycles; must exceed --pretrain_epochs")
    search_iter_epochs: int = flag(5, "epochs of joint learning in a cycle")
    # joint learning
    loss_alpha: float = flag(1.0, "weight of distillation; the classification losses are divided by it")
    loss_T: float = flag(2.0, "temperature of distillation")
    interactive_type: int = flag(0, "distillation: 0 Kullback-Leibler, 1 cosine, 2 MSE, 3 smooth L1", (0, 1, 2, 3))
    ensemble_param: bool = flag(False, "learn the weights of the three classifiers in distillation")
    ensemble_sum: bool = flag(False, "sum the three classifiers' logits instead of putting them side by side")
    fix_head: bool = flag(False, "keep the distillation heads as they were initialised")
    regular: bool = flag(False, "penalise operations without weights (L1 of their alphas)")
    regular_ratio: float = flag(0.5, "share of the cycles after which the penalty has fallen to 0")
    regular_coeff: float = flag(5.0, "the penalty's factor at the start")

    def check(self) -> None:
        """Raise :class:`CydasError` for values that make no search."""
        if self.pretrain_epochs < 0 or self.search_iter <= self.pretrain_epochs:
            raise CydasError(
                f"--search_iter {self.search_iter} counts the {self.pretrain_epochs} warm-up rounds of "
                "--pretrain_epochs, so no cycle is left: raise --search_iter above it"
            )
        if not 0 < self.sample_ratio <= 1:
            raise CydasError(f"--sample_ratio is a share above 0 and at most 1, not {self.sample_ratio}")
        if self.search_iter_epochs < 1 or self.nasnet_warmup < 0:
            raise CydasError("--search_iter_epochs must be at least 1 and --nasnet_warmup at least 0")
        if self.regular and self.regular_ratio <= 0:
            raise CydasError(f"--regular_ratio must be above 0, not {self.regular_ratio}")
        if self.loss_alpha <= 0:
            raise CydasError(
                f"--loss_alpha divides the classification losses: it must be above 0, not {self.loss_alpha}"
            )


@dataclass
class RetrainConfig(CommonConfig):
    """Flags of ``retrain.py``."""

    init_channels: int = flag(36, "channels of a node in the first stage")
    cell_file: Path | None = flag(None, "genotype to train (default: OUTPUT_DIR/search/NAME/genotype.json)")
    resume_name: str = flag("retrain_resume.pth.tar", "checkpoint of --resume: a path, or a file in the run's folder")
    lr: float = flag(0.025, "learning rate (SGD, cosine to 0)")
    momentum: float = flag(0.9, "momentum of SGD")
    weight_decay: float = flag(5e-4, "weight decay (CIFAR: 3e-4 for networks of up to 3.5 M parameters, unless given)")
    grad_clip: float = flag(5.0, "largest gradient norm of an update")
    epochs: int = flag(600, "epochs in all")
    warmup_epochs: int = flag(5, "epochs with a linear start of the learning rate, for global batches above 256")
    cutout_length: int = flag(16, "side of the square that cutout blanks, pixels; 0 for none (in-memory data sets)")
    aux_weight: float = flag(0.4, "weight of the auxiliary head's loss; 0 for no head")
    drop_path_prob: float = flag(
        0.3, "drop path at the end (CIFAR: 0.2 for networks below 3 M parameters, unless given)"
    )
    label_smooth: float = flag(0.1, "label smoothing, 0 to 1")
    mixup_alpha: float = flag(0.0, "mixup's Beta parameter; 0 for none")

    def check(self) -> None:
        """Raise :class:`CydasError` for values that make no training."""
        if self.epochs < 1:
            raise CydasError(f"--epochs must be at least 1, not {self.epochs}")
        if not 0 <= self.drop_path_prob < 1:
            raise CydasError(f"--drop_path_prob is a probability below 1, not {self.drop_path_prob}")
        if not 0 <= self.label_smooth < 1:
            raise CydasError(f"--label_smooth is a share below 1, not {self.label_smooth}")
        if self.cutout_length < 0 or self.mixup_alpha < 0 or self.aux_weight < 0:
            raise CydasError("--cutout_length, --mixup_alpha and --aux_weight must not be negative")


@dataclass
class EvaluationConfig(CommonConfig):
    """Flags of ``test.py``. What a CyDAS checkpoint says of its network and data needs no flag."""

    init_channels: int = flag(36, "channels of a node in the first stage")
    cell_file: Path | None = flag(None, "genotype of the network (default: what the checkpoint says)")
    resume: bool = flag(True, "load the checkpoint --resume_name; always on, since a test needs one")
    resume_name: str = flag("last.pth.tar", "checkpoint to test: a path, or a file in OUTPUT_DIR/retrain/NAME")

    def check(self) -> None:
        if not self.resume:
            raise CydasError("a test needs a checkpoint: leave out --no-resume")


Config = TypeVar("Config", bound=CommonConfig)


def parse(kind: type[Config], description: str, arguments: list[str] | None) -> tuple[Config, set[str]]:
    """Read the command line (``arguments``, or the program's own).

    Returns the configuration and the names of the flags that were given. Exits with code 2, argparse's own, for an
    unknown flag or a value of the wrong kind; raises :class:`CydasError` for values that do not go together.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    hints = get_type_hints(kind)
    for item in fields(kind):
        _add_flag(parser, item, hints[item.name])
    values = vars(parser.parse_args(arguments))
    config = kind(**values)
    for name in ("batch_size", "print_freq", "threads"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise CydasError(f"--{name} must be at least 1, not {value}")
    if config.workers < 0:
        raise CydasError(f"--workers must not be negative, not {config.workers}")
    config.check()
    return config, set(values)


def take_over(config: CommonConfig, given: set[str], saved: Any, names: tuple[str, ...]) -> None:
    """Set those of ``names`` that were not given to their values in a saved configuration (a dict, or none)."""
    hints = get_type_hints(type(config))
    for name in names:
        if isinstance(saved, dict) and name in saved and name not in given:
            value = saved[name]
            setattr(
                config,
                name,
                Path(value) if value is not None and Path in (hints[name], *get_args(hints[name])) else value,
            )


def _add_flag(parser: argparse.ArgumentParser, item, hint) -> None:
    assert item.default is not MISSING
    optional = isinstance(hint, UnionType)
    kind = get_args(hint)[0] if optional else hint
    text = item.metadata["help"]
    if kind is bool:
        text += f" (default: {'on' if item.default else 'off'})"
        options = {"action": argparse.BooleanOptionalAction}
    else:
        text += "" if optional else f" (default: {item.default})"
        options = {"type": kind, "choices": item.metadata["choices"]}
        if item.metadata["choices"] is None:
            options["metavar"] = {Path: "PATH", str: "TEXT", int: "N", float: "X"}[kind]
    # A flag that is not given leaves no trace, so that the set of given flags can be told.
    parser.add_argument(f"--{item.name}", help=text.replace("%", "%%"), default=argparse.SUPPRESS, **options)
