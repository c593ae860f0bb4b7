#!/usr/bin/env bash
# Train the published CIFAR-10 cell with the published settings for one GPU. Further flags are passed on and win:
#   bash scripts/run_retrain_cifar_1gpu.sh --cell_file experiments/search/cifar10_search/genotype.json
# Weight decay 5e-4 and drop path 0.3 are the defaults; smaller networks get less, as published, unless
# --weight_decay and --drop_path_prob are given.
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --name cifar10_retrain --dataset cifar10 --model_type cifar \
  --cell_file CyDAS/cells/cifar_genotype.json --init_channels 36 --stem_multiplier 3 --layer_num 3 \
  --batch_size 128 --reference_batch 128 --lr 0.025 --warmup_epochs 0 --epochs 600 \
  --cutout_length 16 --aux_weight 0.4 --label_smooth 0 --mixup_alpha 0 "$@"
