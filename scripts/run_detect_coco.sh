#!/usr/bin/env bash
# Train the published COCO detector with the published settings for eight GPUs, on annotations/, train2017/ and val2017/
# in DATA_DIR. The published figures start from ImageNet weights: --backbone_checkpoint FILE. Further flags win:
#   bash scripts/run_detect_coco.sh --backbone cdarts_a --name coco_a --backbone_checkpoint FILE.pth.tar
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch detect.py --name coco_b --data_dir experiments/data/coco --backbone cdarts_b --width 256 \
  --short_side 800 --long_side 1333 --batch_size 2 --epochs 12 --lr 0.02 --reference_batch 16 --lr_epochs 8 11 \
  --warmup_steps 500 --momentum 0.9 --weight_decay 1e-4 --grad_clip 35 --sync_bn "$@"
