#!/usr/bin/env bash
# Train the published ADE20K segmenter with the published settings for eight GPUs, on images/ and annotations/ in
# DATA_DIR. The published figure starts from ImageNet weights (--backbone_checkpoint FILE), and was measured on images
# reduced to 640 pixels: --test_long_side 640 does so, too. Further flags win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch segment.py --config CyDAS/settings/segment_ade20k.yaml "$@"
