"""Single changes that some test must notice: what each is called, where, what it replaces, and which tests see it."""

from typing import NamedTuple


class Mutation(NamedTuple):
    """One change of a file. ``tests``: what ``pytest`` is given, files or parts of them, divided by spaces."""

    name: str
    file: str
    old: str  #: stands in the file exactly once
    new: str
    tests: str


METHOD, RETRAIN, DATA, FLAGS, FIGURES, ENGINE = (
    f"tests/test_{name}.py"
    for name in ("method", "training_method", "data_method", "flag_effects", "figures", "engine")
)
CYCLE, UPDATES, OPTIM, LOSSES, TRAINING, EVALUATION, RESULTS, GUARD = (
    f"CyDAS/engine/{name}.py"
    for name in ("cycle", "updates", "optim", "losses", "training", "evaluation", "results", "guard")
)
TASK, RECIPE = "CyDAS/tasks/classification.py", "CyDAS/recipe.py"
LOADERS, AUGMENT, SETS = (f"CyDAS/data/{name}.py" for name in ("loaders", "augment", "sets"))
JOINT, HEADS, POOL, NATS = (f"CyDAS/models/{name}.py" for name in ("joint", "heads", "weight_pool", "nats/networks"))
SUPERNET, NASNET, LAYOUT, GENOTYPE, OPERATIONS = (
    f"CyDAS/models/cells/{name}.py" for name in ("supernet", "nasnet", "layout", "genotype", "operations")
)
START, OPENING, METERS = (f"CyDAS/runs/{name}.py" for name in ("start", "opening", "meters"))
DISTRIBUTED = "CyDAS/utils/distributed.py"
DARTS, NATS_SPACE, PENALTY = (f"CyDAS/spaces/{name}.py" for name in ("darts", "nats", "penalty"))
SEARCH_PROGRAM, RETRAIN_PROGRAM = "CyDAS/search.py", "CyDAS/retrain.py"
CHAIN_ARCHITECTURE, CHAIN_NETWORK, CHAIN_SUPERNET, CHAIN_ALPHAS, CHAIN_CHOICE, CHAIN_COST = (
    f"CyDAS/models/chain/{name}.py"
    for name in ("architecture", "network", "supernet", "alphas", "choice", "cost_constraint")
)
SEGMENTATION, SEGMENT_LAYERS = "CyDAS/tasks/segmentation.py", "CyDAS/models/segmentation/layers.py"
MASK_STEPS, MASKS = "CyDAS/data/mask_steps.py", "CyDAS/data/masks.py"
SEGMENTS, MASKED, SEGMENT_REFERENCE = (
    f"tests/test_{name}.py" for name in ("segmentation", "segmentation_data", "segmentation_equivalence")
)
VOIDS = "test_void_pixels_count_nowhere"
IOUS = "test_iou_is_intersection_over_union_of_every_class_over_all_images"
CHAIN_FOUND, CHAIN_SEARCH = "tests/test_chain_networks.py", "tests/test_chain_search.py"
CHAIN_REFERENCE = "tests/test_equivalence.py::test_chain_training tests/test_equivalence.py::test_chain_features"
CHAIN_SIZES = f"{CHAIN_FOUND}::test_every_network_has_the_reference_size"
ONE_HOT = f"{CHAIN_SEARCH}::test_one_operation_alone_is_exactly_that_operation"
SIX = f"{CHAIN_SEARCH}::test_weights_of_kernel_times_expansion_are_exactly_the_six_branches"
PHASES = f"{METHOD}::test_every_phase_gets_its_data_its_networks_and_its_optimisers"
EPOCHS = f"{METHOD}::test_every_epoch_of_a_loader_has_a_number_of_its_own"
TERMS = f"{METHOD}::test_the_terms_of_the_val_loss"
RATES = f"{METHOD}::test_learning_rates_of_the_search"
GRADIENT = f"{RETRAIN}::test_the_gradient_is_that_of_the_published_loss"
OPTIONS = f"{RETRAIN}::test_the_optimiser_has_the_flags_options"
SETTINGS = f"{FLAGS}::test_tf32_deterministic_and_threads_reach_pytorch"
CROPS = f"{DATA}::test_no_two_processes_epochs_steps_loaders_or_seeds_crop_alike"
FOLDERS = f"{DATA}::test_training_images_are_augmented_as_published"
JOINT_FLAGS = f"{FLAGS}::test_options_of_the_joint_network_are_the_flags"

#: None of them may survive.
# fmt: off
MUTATIONS = [
    # -- the cycle
    Mutation("evaluation warm-up fed from train", CYCLE, "part, 0, (val,), at, step", "part, 0, (train,), at, step",
             PHASES),
    Mutation("search warm-up fed from val", CYCLE, "name, 0, (train,), self", "name, 0, (val,), self", PHASES),
    Mutation("joint halves swapped", CYCLE, "epoch, (train, val), self", "epoch, (val, train), self", PHASES),
    Mutation("evaluation warm-up by the joint epochs' numbers", CYCLE, "self._data_epoch(index, joint + epoch)",
             "self._data_epoch(index, epoch)", EPOCHS),
    Mutation("data epochs do not count the warm-up", CYCLE,
             "(self.config.search_iter_epochs + self.config.nasnet_warmup) + part",
             "self.config.search_iter_epochs + part", EPOCHS),
    Mutation("optimisers kept across cycles", CYCLE,
             "self._set_optimisers()\n        log.info", "log.info",
             f"{METHOD}::test_all_optimisers_are_new_in_each_cycle_and_kept_within_it"),
    Mutation("alpha's Adam kept across cycles", CYCLE,
             "self._set_optimisers()\n        log.info",
             "alpha = self.optimisers.alpha\n"
             "        self.optimisers = SearchOptimisers(self.joint, self.config)\n"
             "        self.optimisers.alpha = alpha\n        log.info",
             f"{METHOD}::test_all_optimisers_are_new_in_each_cycle_and_kept_within_it"),
    Mutation("the pool is not filled", CYCLE, "self.pool.store(self.joint.nas_layers)", "pass",
             f"{METHOD}::test_what_an_evaluation_network_learns_goes_on_in_the_next_cycle"),
    Mutation("the pool is not read", CYCLE, "known = self.pool.fill(self.joint.nas_layers)", "known = 0",
             f"{METHOD}::test_what_an_evaluation_network_learns_goes_on_in_the_next_cycle"),
    Mutation("one evaluation network for the whole search", CYCLE, "if cyclic and (self.phase, self.index) == (0, 0):",
             "if cyclic and self.architecture is None:",
             f"{METHOD}::test_each_cycle_builds_what_the_alphas_prefer_and_gives_operations_their_last_weights"),
    Mutation("no train update in the joint epochs", CYCLE,
             'return figures | self._guarded("train", self.train_update, train_batch)', "return figures", PHASES),
    Mutation("warm-up rounds one too few", CYCLE, "if index < config.pretrain_epochs:",
             "if index < config.pretrain_epochs - 1:", PHASES),
    Mutation("regulariser's epochs start anew in each round", CYCLE,
             "partial(self._joint_step, epoch=index * joint + epoch)", "partial(self._joint_step, epoch=epoch)",
             f"{METHOD}::test_the_regulariser_counts_epochs_over_the_whole_search"),
    Mutation("an epoch of the longer half", CYCLE, "min(len(train), len(val))", "max(len(train), len(val))",
             f"{METHOD}::test_an_epoch_has_the_steps_of_the_shorter_half"),
    Mutation("one step more than the ratio", CYCLE, "return max(1, math.floor(", "return 1 + max(0, math.floor(",
             EPOCHS),
    Mutation("cosine over the cycles only", CYCLE, "/ config.search_iter_epochs) / config.search_iter",
             "/ config.search_iter_epochs) / (config.search_iter - config.pretrain_epochs)", RATES),
    Mutation("the search's schedule is ignored", CYCLE, 'if config.lr_schedule == "cosine":', "if False:", RATES),
    Mutation("figures printed at the end only", CYCLE, "self.index % self.config.print_freq == 0 or", "",
             f"{FLAGS}::test_a_search_says_something_every_so_many_steps"),
    # -- single updates
    Mutation("alphas do not move in the val update", UPDATES, "(self.optimisers.nas, self.optimisers.alpha)",
             "(self.optimisers.nas,)", PHASES),
    Mutation("the search network is warmed up in the evaluation network's place", UPDATES,
             '"evaluation", self.optimisers.nas, "warmup"', '"search", self.optimisers.nas, "warmup"', PHASES),
    Mutation("alphas of plain DARTS moved by w", UPDATES, '"search", self.optimisers.alpha, "val"',
             '"search", self.optimisers.w, "val"',
             f"{METHOD}::test_plain_darts_moves_alphas_by_val_and_weights_by_train"),
    Mutation("heads run in the train update", UPDATES, "evaluation=not is_search, heads=False",
             "evaluation=not is_search, heads=True", PHASES),
    Mutation("classification not divided by loss_alpha", UPDATES, "(ce_search + ce_evaluation) / config.loss_alpha",
             "(ce_search + ce_evaluation)", TERMS),
    Mutation("distillation without loss_alpha", UPDATES, "kd=config.loss_alpha * kd", "kd=kd", TERMS),
    Mutation("no evaluation network's classification", UPDATES, "(ce_search + ce_evaluation) /", "ce_search /", TERMS),
    Mutation("no regulariser in the sum", UPDATES, "return self.cls + self.kd + self.reg", "return self.cls + self.kd",
             TERMS),
    Mutation("the regulariser without its flag", PENALTY, "if not progress.config.regular:", "if False:",
             f"{METHOD}::test_without_its_flag_there_is_no_regulariser"),
    Mutation("clip_apart is ignored", UPDATES, ", apart=self.config.clip_apart", "",
             f"{METHOD}::test_weights_and_alphas_may_be_clipped_apart"),
    Mutation("accumulation is ignored in the search", UPDATES, "loss_of, (x, y), config.accum_steps,",
             "loss_of, (x, y), 1,", f"{FLAGS}::test_an_update_of_a_search_goes_through_the_networks_in_parts"),
    # -- losses
    Mutation("temperature not squared", LOSSES, "return loss * temperature**2", "return loss * temperature",
             f"{METHOD}::test_distillation_losses_by_their_formulas"),
    Mutation("distillation the other way round", LOSSES, "(log_t.exp() * (log_t - log_s))",
             "(log_s.exp() * (log_s - log_t))", f"{METHOD}::test_distillation_losses_by_their_formulas"),
    Mutation("batch mean in the place of the mean", LOSSES, "(log_t - log_s)).mean()", "(log_t - log_s)).sum(1).mean()",
             f"{METHOD}::test_distillation_losses_by_their_formulas"),
    Mutation("the regulariser never falls", PENALTY, "max(1 - (epoch - pretrain_epochs) / duration, 0.0)", "1.0",
             f"{METHOD}::test_the_regulariser_falls_by_its_flags"),
    Mutation("the regulariser counts its duration without the ratio", PENALTY, "* search_iter_epochs * ratio",
             "* search_iter_epochs", f"{METHOD}::test_the_regulariser_falls_by_its_flags"),
    Mutation("label smoothing 0", TASK, ", label_smoothing=label_smooth", "",
             f"{RETRAIN}::test_label_smoothing_and_mixed_targets_by_their_formula"),
    Mutation("mixup mixes targets alone", TASK, "return lam * images + (1 - lam) * images[order],", "return images,",
             f"{ENGINE}::test_mixup_mixes_images_and_targets_alike"),
    Mutation("mixup's share does not depend on its parameter", TASK, "distributions.Beta(alpha, alpha)",
             "distributions.Beta(1.0, 1.0)", f"{METHOD}::test_mixup_draws_its_share_from_a_beta_distribution"),
    # -- optimisers
    Mutation("Nesterov is ignored", OPTIM, "weight_decay=weight_decay, nesterov=nesterov)",
             "weight_decay=weight_decay)", OPTIONS),
    Mutation("no momentum", OPTIM, "momentum=momentum, weight_decay=weight_decay", "weight_decay=weight_decay",
             OPTIONS),
    Mutation("no weight decay", OPTIM, "momentum=momentum, weight_decay=weight_decay", "momentum=momentum", OPTIONS),
    Mutation("Adam's own betas", OPTIM, "betas=(0.5, 0.999)", "betas=(0.9, 0.999)",
             f"{METHOD}::test_optimisers_have_the_published_options"),
    Mutation("alphas do not decay", OPTIM, ", weight_decay=config.alpha_weight_decay", "",
             f"{METHOD}::test_optimisers_have_the_published_options"),
    Mutation("the evaluation network takes the search network's rate", OPTIM, "config.nasnet_lr, config.w_momentum",
             "config.w_lr, config.w_momentum", f"{METHOD}::test_optimisers_have_the_published_options"),
    Mutation("gradients are not clipped", OPTIM, "clip_grad_norm_(group, max_norm)",
             'clip_grad_norm_(group, float("inf"))', f"{METHOD}::test_every_update_is_clipped_to_the_flag"),
    Mutation("stale gradients stay", OPTIM, "optimiser.zero_grad(set_to_none=True)", "pass",
             f"{METHOD}::test_gradients_are_not_left_over_from_an_update"),
    Mutation("parts of a batch count alike", OPTIM, "share = images_in(part) / images", "share = 1 / parts",
             f"{FIGURES}::test_an_update_is_the_mean_gradient_of_its_parts"),
    Mutation("cosine schedule constant", OPTIM, "(1 + math.cos(math.pi * progress)) / 2", "1.0",
             f"{METHOD}::test_half_a_cosine {RETRAIN}::test_learning_rates_of_the_epochs"),
    Mutation("a slow start for all batches", OPTIM, "if global_batch > 256 and epoch", "if epoch",
             f"{RETRAIN}::test_the_learning_rate_starts_slowly_for_large_batches_and_falls_to_0"),
    Mutation("a slow start from 256 images on", OPTIM, "global_batch > 256", "global_batch >= 256",
             f"{RETRAIN}::test_the_learning_rate_starts_slowly_for_large_batches_and_falls_to_0"),
    Mutation("rates scaled the other way round", OPTIM, "setattr(config, name, rate * factor)",
             "setattr(config, name, rate / factor)", f"{FLAGS}::test_scaled_rates_are_those_of_sgd"),
    # -- the retraining
    Mutation("drop path always 0", RETRAIN_PROGRAM,
             "network.set_drop_path(config.drop_path_prob * epoch / config.epochs)", "network.set_drop_path(0.0)",
             f"{RETRAIN}::test_drop_path_grows_linearly_in_every_operation"),
    Mutation("drop path at its end from the start", RETRAIN_PROGRAM, "config.drop_path_prob * epoch / config.epochs",
             "config.drop_path_prob", f"{RETRAIN}::test_drop_path_grows_linearly_in_every_operation"),
    Mutation("drop path never reaches the operations", NASNET, "if isinstance(module, DropPath):", "if False:",
             f"{RETRAIN}::test_drop_path_reaches_what_the_network_computes"),
    Mutation("drop path keeps what it should drop", NASNET, "def _drop_path(self, x: Tensor) -> Tensor | None:",
             "def _drop_path(self, x: Tensor) -> Tensor | None:\n        return None\n\n"
             "    def _unused(self, x: Tensor) -> Tensor | None:",
             f"{RETRAIN}::test_drop_path_reaches_what_the_network_computes"),
    Mutation("label smoothing does not reach the loss", TASK,
             "retrain_loss(output, targets, self.label_smooth,", "retrain_loss(output, targets, 0.0,", GRADIENT),
    Mutation("mixup is ignored", TASK, "if self.mixup_alpha:", "if False:", GRADIENT),
    Mutation("mixed images with plain targets", TASK, "images, targets = mixup(", "images, _ = mixup(", GRADIENT),
    Mutation("the auxiliary loss without its weight", TASK, "loss = loss + aux_weight * ", "loss = loss + ",
             GRADIENT),
    Mutation("the auxiliary logits are not smoothed", TASK,
             "classification_loss(output.auxiliary, targets, label_smooth)",
             "classification_loss(output.auxiliary, targets)", GRADIENT),
    Mutation("gradients of a retraining are not clipped", TRAINING, "clip = self.extent.grad_clip or math.inf",
             "clip = math.inf", f"{RETRAIN}::test_gradients_are_clipped_to_the_flag_and_0_is_no_limit"),
    Mutation("accumulation is ignored in a retraining", TRAINING, "batch, self.extent.accum_steps,",
             "batch, 1,", f"{RETRAIN}::test_an_update_goes_through_the_network_in_parts"),
    Mutation("the network is trained in eval mode", TRAINING, "network.train()\n", "network.eval()\n",
             f"{RETRAIN}::test_an_epoch_takes_its_own_batches_from_where_it_stands"),
    Mutation("every epoch has the first one's data", TRAINING, "batches.epoch(self.epoch, start=state.index)",
             "batches.epoch(0, start=state.index)",
             f"{RETRAIN}::test_an_epoch_takes_its_own_batches_from_where_it_stands"),
    Mutation("figures by batches, not images", TRAINING, "state.whole.add(figures, images_in(batch))",
             "state.whole.add(figures)", f"{RETRAIN}::test_an_epochs_figures_are_means_over_its_images"),
    Mutation("tested in training mode", EVALUATION, "network.eval()\n", "network.train()\n",
             f"{RETRAIN}::test_top_1_top_5_and_loss_of_a_test"),
    Mutation("the best by top-5", TASK, "return self.top1 > other.top1", "return self.top5 > other.top5",
             f"{RETRAIN}::test_last_and_best_are_told_apart_by_top_1"),
    Mutation("the best of equals is the last", TASK, "return self.top1 > other.top1",
             "return self.top1 >= other.top1", f"{RETRAIN}::test_last_and_best_are_told_apart_by_top_1"),
    Mutation("the best weights are those of every epoch", TRAINING, "if self.best is self.last:", "if True:",
             f"{RETRAIN}::test_last_and_best_are_told_apart_by_top_1"),
    Mutation("the best first in the result", RESULTS,
             '{"last": last._asdict(), "best": best._asdict(),', '{"best": best._asdict(), "last": last._asdict(),',
             f"{RETRAIN}::test_last_and_best_are_told_apart_by_top_1"),
    Mutation("cutout 0", RETRAIN_PROGRAM, "cutout_length=config.cutout_length, stream=3", "stream=3",
             f"{RETRAIN}::test_cutout_blanks_squares_of_the_flags_side"),
    Mutation("the learning rate stays the first one", TRAINING, 'group["lr"] = rate', "pass",
             f"{RETRAIN}::test_learning_rates_of_the_epochs"),
    Mutation("the rule for small networks on all data", RECIPE,
             'if config.space != "darts" or config.dataset not in ("cifar10", "cifar100"):', "if False:",
             f"{RETRAIN}::test_the_rule_for_small_networks_is_cifars"),
    Mutation("an auxiliary head whatever its weight", RETRAIN_PROGRAM,
             "space.retrain_network(architecture, config.aux_weight > 0)",
             'space.retrain_network(architecture, config.space == "darts")',
             f"{RETRAIN}::test_without_its_weight_there_is_no_auxiliary_head"),
    Mutation("statistics of one process are tested", TRAINING,
             "copy_from_main(self.network)  # batch norm statistics differ between processes", "pass",
             f"{RETRAIN}::test_an_epoch_ends_with_a_test_of_all_images_by_weights_that_all_processes_share"),
    Mutation("processes drop the same paths", OPENING, "seed_everything(seed + self.process.rank)",
             "seed_everything(seed)", f"{RETRAIN}::test_each_processs_random_choices_are_its_own"),
    # -- data
    Mutation("all processes crop alike", LOADERS, "epoch, 1 + self.process.rank, step)", "epoch, 1, step)", CROPS),
    Mutation("all steps crop alike", LOADERS, "1 + self.process.rank, step)", "1 + self.process.rank, 0)", CROPS),
    Mutation("both halves crop alike", LOADERS, "seeded_generator(self.seed, self.stream, epoch, 1",
             "seeded_generator(self.seed, epoch, 1", CROPS),
    Mutation("every epoch in the same order", LOADERS, "generator=seeded_generator(self.seed, self.stream, epoch))",
             "generator=seeded_generator(self.seed, self.stream))",
             f"{DATA}::test_epochs_are_shuffled_differently_by_seed_loader_and_number_but_shared_by_processes"),
    Mutation("processes share no epoch", LOADERS, "return order[self.process.rank :: ranks]", "return order",
             f"{DATA}::test_epochs_are_shuffled_differently_by_seed_loader_and_number_but_shared_by_processes"),
    Mutation("crops of one pixel less", AUGMENT, "0, 2 * padding + 1, (2, n, 1)", "0, 2 * padding, (2, n, 1)",
             f"{DATA}::test_cifar_is_cropped_with_4_pixels_flipped_and_normalised_as_published"),
    Mutation("one crop for a whole batch", AUGMENT, "0, 2 * padding + 1, (2, n, 1)", "0, 2 * padding + 1, (2, 1, 1)",
             CROPS),
    Mutation("nothing is mirrored", AUGMENT, "generator=generator) < 0.5,", "generator=generator) < 0.0,",
             f"{DATA}::test_cifar_is_cropped_with_4_pixels_flipped_and_normalised_as_published"),
    Mutation("cutout of another size", AUGMENT, "(position < start + length)", "(position < start + length // 2)",
             f"{RETRAIN}::test_cutout_blanks_squares_of_the_flags_side"),
    Mutation("padding of another proportion", SETS, '"padding": image_size // 8', '"padding": image_size // 16',
             f"{DATA}::test_cifar_is_cropped_with_4_pixels_flipped_and_normalised_as_published"),
    Mutation("CIFAR with ImageNet's constants", SETS, "CIFAR_MEAN, CIFAR_STD, flip=True",
             "IMAGENET_MEAN, IMAGENET_STD, flip=True",
             f"{DATA}::test_cifar_is_cropped_with_4_pixels_flipped_and_normalised_as_published"),
    Mutation("digits are mirrored", SETS, "flip=False", "flip=True",
             f"{DATA}::test_digits_are_cropped_with_2_pixels_and_never_mirrored"),
    Mutation("colours of other strengths", SETS, "v2.ColorJitter(0.4, 0.4, 0.4, 0.2)",
             "v2.ColorJitter(0.4, 0.4, 0.4, 0.1)", FOLDERS),
    Mutation("folders are not mirrored", SETS, "v2.RandomHorizontalFlip(), ", "", FOLDERS),
    Mutation("test images larger than published", SETS, "* 256 / 224", "* 288 / 224",
             f"{DATA}::test_test_images_are_resized_by_256_to_224_cropped_in_the_centre_and_normalised"),
    Mutation("AutoAugment with CIFAR's policy on folders", SETS, "AutoAugmentPolicy.IMAGENET",
             "AutoAugmentPolicy.CIFAR10",
             f"{DATA}::test_auto_augment_takes_the_place_of_the_colours_with_the_policy_of_imagenet"),
    # -- spaces and networks
    Mutation("betas are never learned", DARTS, '"repeat_cell", "use_beta", "bn_affine"', '"repeat_cell", "bn_affine"',
             f"{FLAGS}::test_betas_and_repeated_cells_are_the_flags"),
    Mutation("affine evaluation network always", DARTS,
             "make_evaluation_stages(self.layout, architecture, self.bn_affine)",
             "make_evaluation_stages(self.layout, architecture, True)",
             f"{FLAGS}::test_affine_batch_norms_of_the_evaluation_network_are_the_flags"),
    Mutation("shared alphas count once", DARTS, "for stage in joint.super_layers_arch.stages()",
             "for stage in joint.super_layers_arch",
             f"{ENGINE}::test_shared_alphas_count_once_a_stage_in_the_regulariser"),
    Mutation("NATS penalises another operation", NATS_SPACE, 'OPERATIONS.index("none")',
             'OPERATIONS.index("skip_connect")', TERMS),
    Mutation("cells_per_stage is ignored", NATS_SPACE, "cells_per_stage=config.cells_per_stage,", "",
             f"{FLAGS}::test_cells_of_the_nats_networks_are_the_flags"),
    Mutation("heads are never fixed", JOINT, "head.requires_grad_(not fix_head)", "head.requires_grad_(True)",
             JOINT_FLAGS),
    Mutation("last layers are never shared", JOINT, "self.fc_super if share_fc else make_classifier()",
             "make_classifier()", JOINT_FLAGS),
    Mutation("ensemble_sum is ignored", JOINT, "return sum(weighted) if self.ensemble_sum else torch.cat(weighted)",
             "return torch.cat(weighted)", TERMS),
    Mutation("classifiers count alike", JOINT, "self.ensemble_param.softmax(dim=0)", "torch.full((3,), 1 / 3)",
             f"{METHOD}::test_the_weights_of_the_three_classifiers"),
    Mutation("heads one stage earlier", JOINT, "dict(zip(self.head_stages, (self",
             "dict(zip((0, self.head_stages[1]), (self",
             f"{METHOD}::test_heads_stand_behind_the_last_but_two_and_the_last_but_one_stage"),
    Mutation("the stem moves with the search network alone", JOINT,
             '"evaluation": (\n                self.feature_extractor,', '"evaluation": (',
             f"{METHOD}::test_optimisers_hold_the_published_parameters"),
    Mutation("edges are not scaled without betas", SUPERNET, " * beta.softmax(dim=-1)[:, None] for alpha", " for alpha",
             f"{ENGINE}::test_without_betas_each_edge_is_scaled_by_the_number_of_edges"),
    Mutation("stage 1's genotype for all stages", NASNET,
             "for stage, genotype in zip(layout.shapes(layout.evaluation_cells), genotypes, strict=True)",
             "for stage, genotype in zip(layout.shapes(layout.evaluation_cells), [genotypes[0]] * 9)",
             f"{FLAGS}::test_each_stage_has_the_cells_of_its_own_genotype"),
    Mutation("normal cells in the place of reductions", NASNET,
             "genotype.reduce if shape.reduction else genotype.normal", "genotype.normal",
             f"{FLAGS}::test_each_stage_has_the_cells_of_its_own_genotype"),
    Mutation("blocks of the pool go by their position", POOL, 'getattr(cell, "slot", index)', "index",
             "tests/test_tasks.py::test_a_block_that_is_left_out_shifts_no_weights"),
    Mutation("the rate of an epoch's first step for all of it", TRAINING, "self.epoch * steps + state.index))",
             "self.epoch * steps))", "tests/test_tasks.py::test_a_schedule_is_of_the_step"),
    Mutation("the pool keeps no buffers", POOL, "in operation.state_dict().items()}",
             "in operation.named_parameters()}", f"{ENGINE}::test_the_pool_gives_operations_their_last_weights_back"),
    # -- runs and programs
    Mutation("--tf32 without effect", START, '"high" if config.tf32 else "highest"', '"highest"', SETTINGS),
    Mutation("--deterministic without effect", START, "torch.use_deterministic_algorithms(True)", "pass", SETTINGS),
    Mutation("cuBLAS stays free", START, 'os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")', "pass",
             SETTINGS),
    Mutation("--threads without effect", START, "torch.set_num_threads(config.threads)", "pass", SETTINGS),
    Mutation("the seed does not reach PyTorch", START, "torch.manual_seed(seed)", "pass",
             f"{FLAGS}::test_the_seed_reaches_every_generator"),
    Mutation("--channels_last without effect", DISTRIBUTED, "if config.channels_last:", "if False:",
             f"{FLAGS}::test_weights_lie_with_their_channels_last"),
    Mutation("--use_amp without effect", OPTIM, "enabled=self.enabled)", "enabled=False)",
             f"{FLAGS}::test_mixed_precision_in_training_and_test"),
    Mutation("--process_timeout without effect", START, "start_process(config.device, config.process_timeout)",
             "start_process(config.device, 60.0)",
             f"{FLAGS}::test_processes_wait_for_each_other_as_long_as_the_flag_says"),
    Mutation("--split without effect", SEARCH_PROGRAM, "data.halves(config.split, config.seed)",
             'data.halves("index", config.seed)', f"{DATA}::test_the_search_gives_its_halves_to_two_loaders"),
    Mutation("both halves from one stream", SEARCH_PROGRAM, "stream=2", "stream=1",
             f"{DATA}::test_the_search_gives_its_halves_to_two_loaders"),
    Mutation("--fuse without effect", EVALUATION, "if config.fuse and not native:", "if not native:",
             f"{RETRAIN}::test_batch_norms_are_folded_where_the_flag_says_so"),
    Mutation("--on_nan without effect", RETRAIN_PROGRAM, "StepGuard(config.on_nan)", 'StepGuard("stop")',
             f"{RETRAIN}::test_what_is_not_finite_is_left_out_where_the_flag_says_so"),
    Mutation("means that do not weigh", METERS, "+ values * weight", "+ values",
             f"{FIGURES}::test_means_weigh_figures_by_their_images_and_start_anew_after_a_report"),
    Mutation("top-1 of the least likely class", TASK, "(best == labels)", "(best != labels)",
             f"{FIGURES}::test_top_1_is_a_percentage"),
    # -- the chain space
    Mutation("SE widths not rounded to 8", CHAIN_NETWORK, ", rd_round_fn=round_channels)", ")", CHAIN_SIZES),
    Mutation("SE with a plain sigmoid", CHAIN_NETWORK, 'gate_layer="hard_sigmoid"', 'gate_layer="sigmoid"',
             CHAIN_REFERENCE),
    Mutation("SE with the block's activation", CHAIN_NETWORK, "force_act_layer=nn.ReLU, ", "", CHAIN_REFERENCE),
    Mutation("chain networks with ReLU", CHAIN_NETWORK, "act_layer=nn.SiLU", "act_layer=nn.ReLU", CHAIN_REFERENCE),
    Mutation("SE width from the block's input", CHAIN_NETWORK, "se_from_exp=True", "se_from_exp=False", CHAIN_SIZES),
    Mutation("the head convolution without a bias", CHAIN_NETWORK, "head_bias=True", "head_bias=False", CHAIN_SIZES),
    Mutation("features of other strides", CHAIN_NETWORK, "FEATURE_INDICES = (1, 2, 3, 4)",
             "FEATURE_INDICES = (0, 1, 2, 3)", f"{CHAIN_FOUND}::test_features_have_the_reference_shapes"),
    Mutation("later blocks with a stride", CHAIN_ARCHITECTURE, "STRIDES[stage] if first else 1", "STRIDES[stage]",
             CHAIN_SIZES),
    Mutation("single blocks as listed", CHAIN_ARCHITECTURE, "stage in TEMPLATES and len(blocks) == 1", "False",
             CHAIN_SIZES),
    Mutation("first blocks may be identities", CHAIN_ARCHITECTURE, "operation == IDENTITY and block == 0", "False",
             f"{CHAIN_FOUND}::test_a_wrong_stage_is_one_line_that_names_it"),
    Mutation("kernels off the middle", CHAIN_SUPERNET, "[(largest - size) // 2] * 4",
             "[0, largest - size, 0, largest - size]", ONE_HOT),
    Mutation("expansions weighed by one kernel share", CHAIN_SUPERNET, "p[:, 1] / p[:, 1].sum()",
             "p[:, 0] / p[:, 0].sum()", ONE_HOT),
    Mutation("the wide gate for both expansions", CHAIN_SUPERNET, "_gate(self.se[0], mean[:, : self.narrow])",
             "_gate(self.se[1], mean)[:, : self.narrow]", f"{ONE_HOT} {SIX}"),
    Mutation("the identity's share is not taken from the block", CHAIN_SUPERNET, "x + used.to(y.dtype) * y", "x + y",
             ONE_HOT),
    Mutation("operations not scaled to what the identity leaves", CHAIN_SUPERNET,
             " / used.clamp_min(torch.finfo(weights.dtype).tiny)", "", f"{ONE_HOT} {SIX}"),
    Mutation("first blocks may be left out in the search", CHAIN_ALPHAS, "mask[0, IDENTITY] = True", "pass",
             f"{CHAIN_SEARCH}::test_alphas_move_and_a_first_block_cannot_be_left_out"),
    Mutation("the window's upper end is not kept", CHAIN_CHOICE,
             "if window[0] <= table.of(architecture) <= window[1]:", "if window[0] <= table.of(architecture):",
             f"{CHAIN_SEARCH}::test_within_a_window_the_most_probable_architecture_is_found"),
    Mutation("the window's lower end is not kept", CHAIN_CHOICE,
             "if window[0] <= table.of(architecture) <= window[1]:", "if table.of(architecture) <= window[1]:",
             f"{CHAIN_SEARCH}::test_within_a_window_the_most_probable_architecture_is_found"),
    Mutation("the cost's multiplier does not adapt", CHAIN_COST, "self.multiplier += self.rate", "self.multiplier += 0",
             f"{CHAIN_SEARCH}::test_the_cost_comes_to_the_target_whatever_the_loss_pulls_at"),
    # -- segmentation
    Mutation("void pixels are in the loss", SEGMENTATION, "kept = valid & (", "kept = (", f"{SEGMENTS}::{VOIDS}"),
    Mutation("easy pixels stay in the loss", SEGMENTATION, "t = torch.full_like(probabilities[0], threshold)",
             "t = torch.full_like(probabilities[0], 1.0)", f"{SEGMENT_REFERENCE}::test_hard_example_loss"),
    Mutation("too few pixels are kept", SEGMENTATION, "t = torch.maximum(t, smallest)", "t = t",
             f"{SEGMENT_REFERENCE}::test_hard_example_loss"),
    Mutation("auxiliary heads count in full", SEGMENTATION, "(self.aux_weight for _", "(1.0 for _",
             f"{SEGMENT_REFERENCE}::test_decoder"),
    Mutation("the union lacks what was missed", SEGMENTATION, "counts.sum(dim=0) + counts.sum(dim=1)",
             "2 * counts.sum(dim=0)", f"{SEGMENTS}::{IOUS}"),
    Mutation("each process measures its own share", SEGMENTATION, "all_sum(self._confusion)", "self._confusion",
             f"{SEGMENTS}::test_the_measure_is_of_all_processes"),
    Mutation("scores of attention are scaled", SEGMENT_LAYERS, ", scale=1.0)", ")",
             f"{SEGMENT_REFERENCE}::test_decoder"),
    Mutation("masks are not mirrored", MASK_STEPS, "functional.horizontal_flip(mask)", "mask",
             f"{MASKED}::test_masks_move_with_their_images"),
    Mutation("what a crop does not reach is class 0", MASK_STEPS, "self.crop_size, VOID)", "self.crop_size, 0)",
             f"{MASKED}::test_masks_move_with_their_images"),
    Mutation("undeclared ids pass", MASKS, "if classes.min() == _UNKNOWN:", "if False:",
             f"{MASKED}::test_what_is_wrong_is_named_with_its_file_before_the_training"),
    Mutation("masks of another size pass", "CyDAS/data/masked_images.py", "if size and classes.shape != size:",
             "if False:", f"{MASKED}::test_what_is_wrong_is_named_with_its_file_before_the_training"),
]
# fmt: on
