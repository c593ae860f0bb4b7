#!/usr/bin/env bash
# Test a detector: COCO's average precision, and that of every class. A checkpoint of ours knows its network and data:
#   bash scripts/run_test_detect.sh --name coco_b
# A published one needs to be told its backbone and the data:
#   bash scripts/run_test_detect.sh --resume_name FILE.pth --backbone cdarts_b_22blocks --data_dir experiments/data/coco
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch detect.py --eval_only "$@"
