#!/usr/bin/env bash
# Train the published Cityscapes segmenter with the published settings for eight GPUs, on leftImg8bit/ and gtFine/ in
# DATA_DIR. The published figure starts from ImageNet weights: --backbone_checkpoint FILE. Further flags win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch segment.py --config CyDAS/settings/segment_cityscapes.yaml "$@"
