#!/usr/bin/env bash
# Train the published ImageNet cell with the published settings for eight GPUs. Further flags are passed on and win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --name imagenet_retrain --dataset imagenet --model_type imagenet \
  --cell_file CyDAS/cells/imagenet_genotype.json --init_channels 48 --stem_multiplier 1 --layer_num 3 \
  --batch_size 128 --reference_batch 1024 --lr 0.5 --warmup_epochs 5 --epochs 250 --sync_bn \
  --weight_decay 3e-5 --drop_path_prob 0 --cutout_length 0 --aux_weight 0.4 --label_smooth 0.1 --mixup_alpha 0 "$@"
