#!/usr/bin/env bash
# Search on handwritten digits, retrain and test what was found, and compare it with three random cells.
set -e
source "$(dirname "$(readlink -f "$0")")/install.sh"
OUT="${OUT:-experiments/quickstart}"
NETWORK="--dataset digits --stem_multiplier 3 --layer_num 3 --print_freq 1000 --output_dir $OUT --overwrite"
RETRAIN="--init_channels 8 --epochs 20 --batch_size 32 --lr 0.025 --weight_decay 3e-4 --aux_weight 0 --drop_path_prob 0
  --cutout_length 0 --label_smooth 0"

echo "== search"
# No --regular: with so few steps, cells with pooling learn digits soonest, and the search may find so.
"$PYTHON" CyDAS/search.py --name digits $NETWORK --init_channels 4 --batch_size 32 --sample_ratio 1.0 \
  --pretrain_epochs 2 --search_iter 12 --search_iter_epochs 3 --nasnet_warmup 1 --w_lr 0.05 --nasnet_lr 0.05 \
  --alpha_lr 1e-2 --alpha_weight_decay 0 --interactive_type 3 --fix_head --ensemble_param --repeat_cell
echo "== retrain what was found"
"$PYTHON" CyDAS/retrain.py --name digits $NETWORK $RETRAIN
echo "== test it"
"$PYTHON" CyDAS/test.py --name digits --output_dir "$OUT"
echo "== three random cells with the same budget"
for seed in 0 1 2; do
  "$PYTHON" scripts/random_genotype.py "$seed" "$OUT/random$seed.json"
  "$PYTHON" CyDAS/retrain.py --name "random$seed" --cell_file "$OUT/random$seed.json" $NETWORK $RETRAIN
done
"$PYTHON" scripts/compare.py "$OUT" digits random0 random1 random2
echo "== to look at: $OUT/search/digits/report.html"
