#!/usr/bin/env bash
# Test a segmenter at full resolution: IoU of every class. A checkpoint of ours knows its network and its data:
#   bash scripts/run_test_segment.sh --name cityscapes
#   bash scripts/run_test_segment.sh --name ade20k --test_long_side 640    # the published, reduced way
# A published state dict needs its data set:
#   bash scripts/run_test_segment.sh --resume_name FILE.pth --dataset cityscapes --data_dir experiments/data/cityscapes
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch segment.py --eval_only "$@"
