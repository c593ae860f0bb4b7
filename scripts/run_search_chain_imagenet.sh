#!/usr/bin/env bash
# Search a chain on ImageNet with eight GPUs: settings of our own, the published search's code was never released.
# The target is CDARTS-a's cost in the published accounting. Further flags are passed on and win:
#   bash scripts/run_search_chain_imagenet.sh --no-use_amp
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
target=(--target_flops_published 294M)
case " $* " in *" --target_flops"* | *" --target_latency"*) target=() ;; esac # another target takes its place
launch search.py --name chain_search --space chain --dataset imagenet \
  --blocks_per_stage 4 --c_last 960 "${target[@]}" \
  --batch_size 128 --reference_batch 1024 --sample_ratio 0.2 \
  --pretrain_epochs 10 --search_iter 40 --search_iter_epochs 1 --nasnet_warmup 1 \
  --w_lr 0.5 --nasnet_lr 0.5 --lr_schedule cosine --w_lr_min 0.005 --w_weight_decay 1e-5 \
  --alpha_lr 3e-3 --alpha_weight_decay 0 \
  --interactive_type 0 --loss_T 2 --loss_alpha 1 --ensemble_param --use_amp --channels_last "$@"
