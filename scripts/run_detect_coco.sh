#!/usr/bin/env bash
# Train the published COCO detector with the published settings for eight GPUs, on annotations/, train2017/ and val2017/
# in DATA_DIR. The published figures start from ImageNet weights: --backbone_checkpoint FILE. Further flags win:
#   bash scripts/run_detect_coco.sh --backbone cdarts_a --name coco_a --backbone_checkpoint FILE.pth.tar
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch detect.py --config CyDAS/settings/detect_coco.yaml "$@"
