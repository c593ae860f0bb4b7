#!/usr/bin/env bash
# Search NATS-Bench's topology space on CIFAR-10 with the published settings. Further flags are passed on and win:
#   bash scripts/run_search_nats.sh --nats_table TABLE.csv.gz --seeds 0 1 2
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch search.py --config CyDAS/settings/search_nats.yaml "$@"
