#!/usr/bin/env bash
# Train the published ImageNet cell with the published settings for eight GPUs. Further flags are passed on and win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --config CyDAS/settings/retrain_imagenet.yaml "$@"
