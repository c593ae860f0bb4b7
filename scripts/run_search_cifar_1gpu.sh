#!/usr/bin/env bash
# Search on CIFAR-10 with the published settings for one GPU. Further flags are passed on and win:
#   bash scripts/run_search_cifar_1gpu.sh --dataset cifar100 --n_classes 100
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --config CyDAS/settings/search_cifar_1gpu.yaml "$@"
