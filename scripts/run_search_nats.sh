#!/usr/bin/env bash
# Search NATS-Bench's topology space on CIFAR-10 with the published settings. Further flags are passed on and win:
#   bash scripts/run_search_nats.sh --nats_table TABLE.csv.gz --seeds 0 1 2
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --name nats_search --space nats --dataset cifar10 \
  --init_channels 16 --batch_size 64 --reference_batch 64 --sample_ratio 1.0 \
  --pretrain_epochs 0 --search_iter 50 --search_iter_epochs 1 --nasnet_warmup 1 \
  --w_lr 0.08 --nasnet_lr 0.08 --w_weight_decay 3e-4 --alpha_lr 3e-4 --alpha_weight_decay 0 \
  --regular --regular_ratio 0.667 --regular_coeff 5 \
  --interactive_type 3 --loss_T 2 --loss_alpha 1 --ensemble_param "$@"
