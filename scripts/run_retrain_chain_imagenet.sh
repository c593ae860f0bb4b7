#!/usr/bin/env bash
# Train CDARTS-a on ImageNet with eight GPUs by the recipe of the nearest published networks: timm's RMSProp, cosine over
# 500 epochs and 10 more at its end, RandAugment, random erasing, running mean of the weights. Further flags win:
#   bash scripts/run_retrain_chain_imagenet.sh --name b --cell_file CyDAS/cells/cdarts_b.json
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --name chain_retrain --space chain --dataset imagenet --cell_file CyDAS/cells/cdarts_a.json \
  --batch_size 128 --reference_batch 1024 --epochs 500 \
  --optimizer rmsproptf --lr 0.064 --momentum 0.9 --opt_alpha 0.9 --opt_eps 1e-3 --weight_decay 1e-5 --no_decay_1d \
  --grad_clip 0 --lr_schedule timm_cosine --warmup_epochs 3 --warmup_lr 1e-6 --min_lr 1e-5 --cooldown_epochs 10 \
  --label_smooth 0.1 --drop_rate 0.2 --rand_augment rand-m9-mstd0.5 --random_erase 0.2 --interpolation random \
  --test_interpolation bicubic --crop_pct 0.875 --cutout_length 0 --ema_decay 0.9999 "$@"
