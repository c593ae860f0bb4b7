#!/usr/bin/env bash
# Train a cell of NATS-Bench's topology space by the benchmark's own recipe of 200 epochs. Further flags win:
#   bash scripts/run_retrain_nats.sh --cell_file experiments/search/nats_search/genotype.json
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --name nats_search --space nats --dataset cifar10 --init_channels 16 \
  --batch_size 256 --reference_batch 256 --lr 0.1 --nesterov --weight_decay 5e-4 --grad_clip 0 \
  --epochs 200 --warmup_epochs 0 \
  --cutout_length 0 --drop_path_prob 0 --aux_weight 0 --label_smooth 0 --mixup_alpha 0 "$@"
