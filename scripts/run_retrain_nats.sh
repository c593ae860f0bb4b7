#!/usr/bin/env bash
# Train a cell of NATS-Bench's topology space by the benchmark's own recipe of 200 epochs. Further flags win:
#   bash scripts/run_retrain_nats.sh --cell_file experiments/search/nats_search/genotype.json
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch retrain.py --config CyDAS/settings/retrain_nats.yaml "$@"
