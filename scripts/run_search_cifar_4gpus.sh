#!/usr/bin/env bash
# Search on CIFAR-10 with the published settings for four GPUs. Further flags are passed on and win.
NGPUS="${NGPUS:-4}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --name cifar10_search_4gpus --dataset cifar10 --model_type cifar \
  --init_channels 16 --stem_multiplier 3 --layer_num 3 --batch_size 64 --reference_batch 256 --sample_ratio 1.0 \
  --pretrain_epochs 2 --search_iter 32 --search_iter_epochs 1 --nasnet_warmup 1 \
  --w_lr 0.2 --nasnet_lr 0.2 --w_weight_decay 3e-4 --alpha_lr 3e-4 --alpha_weight_decay 0 \
  --regular --regular_ratio 0.667 --regular_coeff 5 \
  --interactive_type 3 --loss_T 2 --loss_alpha 1 --fix_head --ensemble_param --repeat_cell "$@"
