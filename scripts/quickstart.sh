#!/usr/bin/env bash
# Search a network for digits that are hard to read, retrain and test it, and compare it with five random ones.
set -e
source "$(dirname "$(readlink -f "$0")")/install.sh"
OUT="${OUT:-experiments/quickstart}"
COMMON="--space nats --dataset cluttered --init_channels 8 --batch_size 64 --print_freq 1000 --output_dir $OUT --overwrite"
RETRAIN="--cells_per_stage 2 --epochs 6 --lr 0.1 --weight_decay 3e-4 --cutout_length 0 --label_smooth 0 --no-report"

echo "== search"
# What the cycles prefer, or what differs from it in one edge and is better after a training of two epochs.
"$PYTHON" CyDAS/search.py --name found $COMMON --cells_per_stage 1 --evaluation_cells 2 --sample_ratio 0.5 \
  --pretrain_epochs 4 --search_iter 24 --search_iter_epochs 1 --nasnet_warmup 1 --w_lr 0.05 --nasnet_lr 0.05 \
  --alpha_lr 1e-2 --alpha_weight_decay 0 --interactive_type 3 --ensemble_param --regular --regular_ratio 1 \
  --finalists 9 --finalist_rounds 1 --finalist_sweep --finalist_margin 3 --finalist_epochs 2
echo "== retrain what was found"
"$PYTHON" CyDAS/retrain.py --name found $COMMON $RETRAIN
echo "== test it"
"$PYTHON" CyDAS/test.py --name found --output_dir "$OUT"
echo "== five random networks with the same budget"
for seed in 0 1 2 3 4; do
  "$PYTHON" scripts/random_genotype.py "$seed" "$OUT/random$seed.json" --space nats
  "$PYTHON" CyDAS/retrain.py --name "random$seed" --cell_file "$OUT/random$seed.json" $COMMON $RETRAIN
done
"$PYTHON" scripts/compare.py "$OUT" found random0 random1 random2 random3 random4
echo "== to look at: $OUT/search/found/report.html"
