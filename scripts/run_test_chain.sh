#!/usr/bin/env bash
# Test a chain on ImageNet. A published state dict needs its architecture; one of ours knows its own:
#   bash scripts/run_test_chain.sh --resume_name FILE.pth.tar --cell_file CyDAS/cells/cdarts_b.json
#   bash scripts/run_test_chain.sh --name chain_retrain
source "$(dirname "$(readlink -f "$0")")/launch.sh"
launch test.py --name chain_retrain --space chain --dataset imagenet --batch_size 128 \
  --test_interpolation bicubic --crop_pct 0.875 --resume "$@"
