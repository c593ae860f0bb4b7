#!/usr/bin/env bash
# Test a CIFAR-10 checkpoint. A published bare state dict needs its genotype:
#   bash scripts/run_test_cifar.sh --resume_name FILE.pth.tar --cell_file CyDAS/cells/cifar_genotype.json
# A checkpoint of ours knows its own: bash scripts/run_test_cifar.sh --name cifar10_retrain
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch test.py --name cifar10_retrain --dataset cifar10 --model_type cifar \
  --init_channels 36 --stem_multiplier 3 --layer_num 3 --batch_size 128 --resume "$@"
