#!/usr/bin/env bash
# Test an ImageNet checkpoint. A published bare state dict needs its genotype:
#   bash scripts/run_test_imagenet.sh --resume_name FILE.pth.tar --cell_file CyDAS/cells/imagenet_genotype.json
# A checkpoint of ours knows its own, and its network's size and data: bash scripts/run_test_imagenet.sh --name imagenet_retrain
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch test.py --name imagenet_retrain --published imagenet --batch_size 128 --resume "$@"
