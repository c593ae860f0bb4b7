"""Which flags have no effect beside which others: a flag that was given and does nothing is never passed over."""

from collections.abc import Callable
from typing import Any, NamedTuple

from CyDAS.config import EMBEDDED, IN_MEMORY, DetectConfig, EvaluationConfig, SegmentConfig, TrainingFlags
from CyDAS.utils.distributed import Process
from CyDAS.utils.errors import CydasError


class Rule(NamedTuple):
    """The flags have no effect where ``idle`` says so, of the settings and the process."""

    flags: tuple[str, ...]
    idle: Callable[[Any, Process], bool]
    reason: str
    is_mistake: bool = False  #: the run would not be the one that was meant

    def applies(self, config: Any, process: Process) -> bool:
        try:
            return self.idle(config, process)
        except AttributeError:  # it speaks of a flag that this program does not have
            return False


def _trains(config: Any) -> bool:
    return isinstance(config, TrainingFlags)


def _flags(names: str) -> tuple[str, ...]:
    return tuple(names.split())


#: The first rule that applies to a flag speaks for it. Contradictions are in ``check`` of the configurations.
RULES = (
    Rule(
        _flags("overwrite seed print_freq use_aa sync_bn use_apex"),
        lambda c, p: isinstance(c, EvaluationConfig),
        "in a test, which trains nothing, draws nothing at random and writes no run",
    ),
    Rule(
        _flags("train_dir"),
        lambda c, p: isinstance(c, EvaluationConfig) and not c.test_share,
        "in a test, which trains nothing",
    ),
    Rule(
        _flags("data_dir test_json test_dir workers max_bad_images"),
        lambda c, p: isinstance(c, DetectConfig) and bool(c.predict),
        "with --predict, which reads the images that it names",
    ),
    Rule(_flags("show_score"), lambda c, p: c.eval_only, "with --eval_only, which draws nothing"),
    Rule(
        _flags("data_dir"),
        lambda c, p: isinstance(c, DetectConfig) and all((c.train_json, c.train_dir, c.test_json, c.test_dir)),
        "where all files and folders are named",
    ),
    Rule(
        _flags("train_dir test_dir"),
        lambda c, p: c.dataset in IN_MEMORY,
        "with --dataset {dataset}, which is not read from class folders: give --dataset folder, or leave it out",
        is_mistake=True,
    ),
    Rule(_flags("data_dir"), lambda c, p: c.dataset in EMBEDDED, "with --dataset {dataset}, which needs no files"),
    Rule(
        _flags("data_dir"),
        lambda c, p: (
            not isinstance(c, DetectConfig)
            and bool(getattr(c, "test_dir", None) and (c.train_dir or isinstance(c, EvaluationConfig)))
        ),
        "where all folders of images are named",
    ),
    Rule(
        _flags("workers max_bad_images"),
        lambda c, p: c.dataset in IN_MEMORY,
        "with --dataset {dataset}, whose images are in memory",
    ),
    Rule(
        _flags("crop_pct test_interpolation interpolation"),
        lambda c, p: c.dataset in IN_MEMORY,
        "with --dataset {dataset}, whose images are not cut out of larger ones",
    ),
    Rule(
        _flags(
            "regular regular_ratio regular_coeff ensemble_param ensemble_sum loss_alpha loss_T interactive_type "
            "fix_head nasnet_lr nasnet_warmup share_fc clip_apart"
        ),
        lambda c, p: c.method == "darts",
        "with --method darts, which has no evaluation network, no distillation and no penalty",
    ),
    Rule(
        _flags("bn_affine"),
        lambda c, p: c.method == "darts" and c.space == "darts",
        "with --method darts, which has no evaluation network",
    ),
    Rule(_flags("regular_ratio regular_coeff"), lambda c, p: not c.regular, "without --regular"),
    Rule(_flags("regular"), lambda c, p: not c.regular_coeff, "with --regular_coeff 0"),
    Rule(_flags("w_lr_min"), lambda c, p: c.lr_schedule != "cosine", "without --lr_schedule cosine"),
    Rule(_flags("jobs launcher slurm"), lambda c, p: not c.is_many, "without --seeds or --configs"),
    Rule(
        _flags("lone_teacher evaluation_cells"),
        lambda c, p: c.method == "darts",
        "with --method darts, which has no evaluation network",
    ),
    Rule(
        _flags("evaluation_cells finalist_cells"),
        lambda c, p: c.space != "nats",
        "with --space {space}: it is for nats",
    ),
    Rule(
        _flags(
            "finalist_rounds finalist_noise finalist_sweep finalist_largest finalist_margin finalist_size "
            "finalist_image_size finalist_val finalist_epochs finalist_lr finalist_cells finalist_runoff "
            "finalist_runoff_epochs finalist_runoff_margin"
        ),
        lambda c, p: c.finalists < 2,
        "without --finalists",
    ),
    Rule(
        _flags("finalist_runoff_epochs finalist_runoff_margin"),
        lambda c, p: c.finalists > 1 and not c.finalist_runoff,
        "without --finalist_runoff",
    ),
    Rule(_flags("finalist_noise"), lambda c, p: c.finalist_sweep, "with --finalist_sweep"),
    Rule(
        _flags("finalist_largest"),
        lambda c, p: c.finalists > 1 and not c.finalist_sweep,
        "without --finalist_sweep",
    ),
    Rule(
        _flags("finalist_rounds"),
        lambda c, p: c.finalist_noise and not c.finalist_sweep,
        "with --finalist_noise, which takes no rounds",
    ),
    Rule(
        _flags(
            "c_last blocks_per_stage target_flops target_flops_published target_latency latency_table "
            "target_tolerance drop_rate drop_path_rate"
        ),
        lambda c, p: c.space != "chain",
        "with --space {space}: only chains have such a choice",
        is_mistake=True,
    ),
    Rule(
        _flags(
            "use_beta repeat_cell res_stem stem_multiplier model_type drop_path_prob cells_per_stage init_channels "
            "layer_num aux_weight regular regular_ratio regular_coeff published"
        ),
        lambda c, p: c.space == "chain",
        "with --space chain: only cells have such a choice",
        is_mistake=True,
    ),
    Rule(
        _flags("nats_table"),
        lambda c, p: c.space != "nats",
        "with --space {space}: the table knows the cells of nats only",
        is_mistake=True,
    ),
    Rule(
        _flags("test_share"),
        lambda c, p: c.dataset != "folder" or bool(c.test_dir),
        "with --dataset {dataset} and images for tests of its own: it is for one folder of classes",
        is_mistake=True,
    ),
    Rule(_flags("test_seed"), lambda c, p: not c.test_share, "without --test_share"),
    Rule(
        _flags("target_tolerance"),
        lambda c, p: not (c.target_flops or c.target_flops_published or c.target_latency),
        "without a target",
        is_mistake=True,
    ),
    Rule(_flags("cells_per_stage"), lambda c, p: c.space == "darts", "with --space darts: it is for nats"),
    Rule(
        _flags("stem_multiplier model_type drop_path_prob"),
        lambda c, p: c.space != "darts",
        "with --space {space}, whose networks have a stem of their own, one structure and no drop path",
    ),
    Rule(
        _flags("warmup_epochs"),
        lambda c, p: c.lr_schedule == "cosine" and c.global_batch(p.world_size) <= 256,
        "where an update sees no more than 256 images",
    ),
    Rule(
        _flags(
            "overwrite seed print_freq sync_bn use_apex resume resume_or_start dry_run checkpoint_minutes on_nan "
            "accum_steps scale_lr reference_batch batch_size short_sides flip repeats pictures backbone_checkpoint "
            "epochs optimizer opt_alpha opt_eps lr lr_epochs warmup_steps warmup_lr momentum weight_decay no_decay_1d "
            "grad_clip ema_decay report tracker aux_weight ohem_threshold ohem_share bn_momentum train_json train_dir"
        ),
        lambda c, p: not getattr(c, "is_training", True),
        "without a training",
    ),
    Rule(_flags("long_side"), lambda c, p: isinstance(c, SegmentConfig) and not c.is_training, "without a training"),
    Rule(
        _flags("test_part test_batch_size test_long_side check_masks pixel_range"),
        lambda c, p: isinstance(c, SegmentConfig) and bool(c.predict),
        "with --predict, which needs no masks",
    ),
    Rule(_flags("predict_dir"), lambda c, p: not c.predict, "without --predict"),
    Rule(_flags("weights_key"), lambda c, p: getattr(c, "is_training", False), "in a training"),
    Rule(_flags("opt_alpha opt_eps"), lambda c, p: c.optimizer != "rmsproptf", "without --optimizer rmsproptf"),
    Rule(_flags("nesterov"), lambda c, p: c.optimizer != "sgd", "with --optimizer {optimizer}, which has none"),
    Rule(_flags("no_decay_1d"), lambda c, p: not c.weight_decay, "with --weight_decay 0"),
    Rule(
        _flags("min_lr cooldown_epochs"),
        lambda c, p: c.lr_schedule != "timm_cosine",
        "without --lr_schedule timm_cosine",
    ),
    Rule(
        _flags("decay_epochs decay_rate"), lambda c, p: c.lr_schedule != "timm_step", "without --lr_schedule timm_step"
    ),
    Rule(_flags("warmup_lr"), lambda c, p: c.lr_schedule == "cosine", "without one of timm's --lr_schedule"),
    Rule(_flags("warmup_lr"), lambda c, p: not c.warmup_epochs, "with --warmup_epochs 0"),
    Rule(_flags("amp_dtype"), lambda c, p: not c.use_amp, "without --use_amp"),
    Rule(_flags("compile_mode"), lambda c, p: not c.compile, "without --compile"),
    Rule(
        _flags("compile_mode"),
        lambda c, p: c.compile_mode == "reduce-overhead" and p.device.type == "cpu",
        "on a CPU: it is for CUDA graphs",
    ),
    Rule(_flags("sync_bn"), lambda c, p: p.world_size == 1, "in a single process"),
    Rule(_flags("use_apex"), lambda c, p: not c.sync_bn, "without --sync_bn"),
    Rule(_flags("tf32"), lambda c, p: p.device.type == "cpu", "on a CPU"),
    Rule(
        _flags("cuda_graphs"),
        lambda c, p: p.device.type == "cpu" or p.world_size > 1,
        "on a CPU, nor with several processes, whose messages are not recorded",
    ),
    Rule(_flags("process_timeout"), lambda c, p: p.world_size == 1, "in a single process"),
    Rule(
        _flags("overwrite"),
        lambda c, p: _trains(c) and c.resume,
        "with --resume, which goes on in the run's folder",
    ),
    Rule(
        _flags("overwrite"),
        lambda c, p: _trains(c) and c.resume_or_start,
        "with --resume_or_start where the run has a checkpoint",
    ),
)

#: Flags whose value 0 is not the one that switches them off.
ZERO_IS_A_VALUE = {"seed", "interactive_type", "opt_alpha", "warmup_lr", "min_lr"}


def idle_flags(config: Any, given: set[str], process: Process) -> list[str]:
    """A line for every rule that finds flags which were ``given``, and not to switch something off, without effect.

    Raises :class:`CydasError` where that can only be a mistake.
    """
    left = {name for name in given if not _is_off(name, getattr(config, name))}
    lines = []
    for rule in RULES:
        names = [name for name in rule.flags if name in left]
        if names and rule.applies(config, process):
            left -= set(names)
            verb = "has" if len(names) == 1 else "have"
            reason = rule.reason.format_map(vars(config))
            line = f"{', '.join(f'--{name}' for name in names)} {verb} no effect {reason}"
            if rule.is_mistake:
                raise CydasError(line)
            lines.append(line)
    return lines


def _is_off(name: str, value: Any) -> bool:
    return value is None or value is False or (value == 0 and name not in ZERO_IS_A_VALUE)
