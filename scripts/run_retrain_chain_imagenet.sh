#!/usr/bin/env bash
# Train CDARTS-a on ImageNet with eight GPUs by the recipe of the nearest published networks: timm's RMSProp, cosine over
# 500 epochs and 10 more at its end, RandAugment, random erasing, running mean of the weights. Further flags win:
#   bash scripts/run_retrain_chain_imagenet.sh --name b --cell_file CyDAS/cells/cdarts_b.json
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --config CyDAS/settings/retrain_chain_imagenet.yaml "$@"
