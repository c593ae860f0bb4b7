#!/usr/bin/env bash
# Test a CIFAR-10 checkpoint. A published bare state dict needs its genotype:
#   bash scripts/run_test_cifar.sh --resume_name FILE.pth.tar --cell_file CyDAS/cells/cifar_genotype.json
# A checkpoint of ours knows its own, and its network's size and data: bash scripts/run_test_cifar.sh --name cifar10_retrain
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch test.py --name cifar10_retrain --published cifar10 --batch_size 128 --resume "$@"
