#!/usr/bin/env bash
# Search on ImageNet with the published settings for eight GPUs. Further flags are passed on and win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --name imagenet_search --dataset imagenet --model_type imagenet \
  --init_channels 16 --stem_multiplier 1 --layer_num 3 --batch_size 128 --reference_batch 1024 --sample_ratio 0.2 \
  --pretrain_epochs 10 --search_iter 40 --search_iter_epochs 1 --nasnet_warmup 3 \
  --w_lr 0.8 --nasnet_lr 0.8 --w_weight_decay 1e-5 --alpha_lr 3e-4 --alpha_weight_decay 1e-5 \
  --regular --regular_ratio 0.5 --regular_coeff 5 \
  --interactive_type 0 --loss_T 2 --loss_alpha 1 --ensemble_param --repeat_cell "$@"
