#!/usr/bin/env bash
# Train the published CIFAR-10 cell with the published settings for four GPUs. Further flags are passed on and win.
# Weight decay 5e-4 and drop path 0.3 are the defaults; smaller networks get less, as published, unless
# --weight_decay and --drop_path_prob are given.
NGPUS="${NGPUS:-4}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --config CyDAS/settings/retrain_cifar_4gpus.yaml "$@"
