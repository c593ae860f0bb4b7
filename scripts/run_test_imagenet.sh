#!/usr/bin/env bash
# Test an ImageNet checkpoint. A published bare state dict needs its genotype:
#   bash scripts/run_test_imagenet.sh --resume_name FILE.pth.tar --init_channels 48 \
#     --cell_file CyDAS/cells/imagenet_genotype.json
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch test.py --name imagenet_retrain --dataset imagenet --model_type imagenet --stem_multiplier 1 --layer_num 3 \
  --batch_size 128 --resume "$@"
