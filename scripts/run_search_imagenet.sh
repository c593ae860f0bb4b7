#!/usr/bin/env bash
# Search on ImageNet with the published settings for eight GPUs. Further flags are passed on and win.
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --config CyDAS/settings/search_imagenet.yaml "$@"
