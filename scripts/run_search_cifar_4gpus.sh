#!/usr/bin/env bash
# Search on CIFAR-10 with the published settings for four GPUs. Further flags are passed on and win.
NGPUS="${NGPUS:-4}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --config CyDAS/settings/search_cifar_4gpus.yaml "$@"
