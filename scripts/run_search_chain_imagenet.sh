#!/usr/bin/env bash
# Search a chain on ImageNet with eight GPUs: settings of our own, the published search's code was never released.
# The target is CDARTS-a's cost in the published accounting. Further flags are passed on and win:
#   bash scripts/run_search_chain_imagenet.sh --no-use_amp
NGPUS="${NGPUS:-8}"
source "$(dirname "$(readlink -f "$0")")/launch.sh"
target=(--target_flops_published 294M)
case " $* " in *" --target_flops"* | *" --target_latency"*) target=() ;; esac # another target takes its place
launch search.py --config CyDAS/settings/search_chain_imagenet.yaml "${target[@]}" "$@"
