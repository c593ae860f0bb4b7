#!/usr/bin/env bash
# Train the published Cityscapes segmenter with the published settings for eight GPUs, on leftImg8bit/ and gtFine/ in
# DATA_DIR. The published figure starts from ImageNet weights: --backbone_checkpoint FILE. Further flags win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch segment.py --name cityscapes --dataset cityscapes --data_dir experiments/data/cityscapes \
  --backbone cdarts_b --c_last 320 --decoder_width 6 --crop_size 512 1024 --batch_size 4 --epochs 4000 \
  --lr 0.05 --reference_batch 32 --warmup_steps 1000 --warmup_lr 5e-6 --momentum 0.9 --weight_decay 1e-4 \
  --grad_clip 0 --aux_weight 0.2 --ohem_threshold 0.7 --ohem_share 16 --bn_momentum 0.01 --ema_decay 0.9998 --sync_bn "$@"
