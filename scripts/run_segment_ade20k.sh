#!/usr/bin/env bash
# Train the published ADE20K segmenter with the published settings for eight GPUs, on images/ and annotations/ in
# DATA_DIR. The published figure starts from ImageNet weights (--backbone_checkpoint FILE), and was measured on images
# reduced to 640 pixels: --test_long_side 640 does so, too. Further flags win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch segment.py --name ade20k --dataset ade20k --data_dir experiments/data/ADEChallengeData2016 \
  --backbone cdarts_b --c_last 320 --decoder_width 16 --crop_size 640 640 --batch_size 4 --epochs 1000 \
  --lr 0.05 --reference_batch 32 --warmup_steps 1000 --warmup_lr 5e-6 --momentum 0.9 --weight_decay 1e-4 \
  --grad_clip 0 --aux_weight 0.2 --ohem_threshold 0.7 --ohem_share 16 --bn_momentum 0.01 --ema_decay 0.9998 --sync_bn "$@"
