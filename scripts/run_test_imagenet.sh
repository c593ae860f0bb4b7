#!/usr/bin/env bash
# Test an ImageNet checkpoint. A published bare state dict needs its genotype:
#   bash scripts/run_test_imagenet.sh --resume_name FILE.pth.tar --cell_file CyDAS/cells/imagenet_genotype.json
# A checkpoint of ours knows its own: bash scripts/run_test_imagenet.sh --name imagenet_retrain
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch test.py --name imagenet_retrain --dataset imagenet --model_type imagenet \
  --init_channels 48 --stem_multiplier 1 --layer_num 3 --batch_size 128 --resume "$@"
