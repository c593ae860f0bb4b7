#!/usr/bin/env bash
# Build the wheel, install it into a fresh environment, and search, retrain, test, report and export with nothing but it,
# in an empty folder:
#   bash scripts/try_wheel.sh                # with the newest torch that there is
#   bash scripts/try_wheel.sh 2.6.0          # with this one, and the torchvision that belongs to it
# PYTHON names the interpreter that the environment is made of, WORK the folder (default: a temporary one, deleted at the
# end), PIP_ARGS what else `pip install` shall be told, such as where PyTorch's builds for CPUs are.
set -euo pipefail
ROOT="$(cd "$(dirname "$(readlink -f "$0")")/.." && pwd)"
BASE="${PYTHON:-python3}"
if [ -z "${WORK:-}" ]; then
  WORK="$(mktemp -d)"
  trap 'rm -rf "$WORK"' EXIT
fi
mkdir -p "$WORK"

echo "== wheel"
rm -rf "$WORK/source" "$WORK/wheel"
mkdir "$WORK/source"
# A copy: what an earlier build left beside the sources would go into the wheel, too.
tar -C "$ROOT" --exclude=__pycache__ -cf - pyproject.toml README.md LICENSE CyDAS | tar -C "$WORK/source" -xf -
"$BASE" -m pip wheel --quiet --no-deps --wheel-dir "$WORK/wheel" "$WORK/source"

echo "== environment"
[ -x "$WORK/venv/bin/python" ] || "$BASE" -m venv "$WORK/venv"
VENV="$WORK/venv/bin"
torch=()
if [ -n "${1:-}" ]; then
  minor="${1#*.}"
  torch=("torch==$1" "torchvision==0.$((${minor%%.*} + 15)).${1##*.}")
fi
"$VENV/python" -m pip install --quiet ${PIP_ARGS:-} "${torch[@]}" "$WORK"/wheel/*.whl
"$VENV/python" -m pip install --quiet --no-deps --force-reinstall "$WORK"/wheel/*.whl # where WORK was there before

echo "== an empty folder"
rm -rf "$WORK/empty"
mkdir "$WORK/empty"
cd "$WORK/empty"
unset PYTHONPATH
export XDG_CACHE_HOME="$WORK/cache" OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
rm -rf "$XDG_CACHE_HOME"
"$VENV/python" - <<'END'
import shutil
import sys
from pathlib import Path

import torch
import torchvision

import CyDAS
from CyDAS.models import native

folder = Path(CyDAS.__file__).parent
assert sys.prefix in str(folder), f"{folder} is not the wheel's"
assert not (folder / "scripts").exists() and not (folder.parent / "tests").exists(), "more than the package"
found = native.record()
assert found["used"] or not shutil.which("g++"), found
print(f"CyDAS {CyDAS.__version__}, torch {torch.__version__}, torchvision {torchvision.__version__}, native {found}")
END
SETTINGS="$("$VENV/python" -c 'import CyDAS, pathlib; print(pathlib.Path(CyDAS.__file__).parent)')"
SMALL="--device cpu --threads 1"
"$VENV/cydas-search" --config "$SETTINGS/settings/search_cifar_1gpu.yaml" --dataset digits --name tiny --init_channels 4 \
  --batch_size 16 --sample_ratio 0.05 --pretrain_epochs 1 --search_iter 2 $SMALL
"$VENV/cydas-retrain" --name tiny --init_channels 4 --epochs 1 --batch_size 256 --lr 0.1 --cutout_length 0 $SMALL
"$VENV/cydas-retrain" --config "$SETTINGS/settings/retrain_cifar_1gpu.yaml" --dataset digits --name published \
  --cell_file "$SETTINGS/cells/cifar_genotype.json" --init_channels 4 --epochs 1 --batch_size 256 --lr 0.1 \
  --cutout_length 0 --aux_weight 0 $SMALL
"$VENV/cydas-test" --name tiny $SMALL
"$VENV/cydas-report" experiments/search/tiny experiments/retrain/tiny --output both
"$VENV/cydas-export" tiny --to exported
"$VENV/python" -m CyDAS.nats_table --help >/dev/null
"$VENV/python" - <<'END'
import CyDAS
import timm
import torch

network = CyDAS.load("tiny")
assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
assert timm.create_model("cydas_dartsv2").eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
assert timm.create_model("cdarts_a", num_classes=7).eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)
END
ls experiments/search/tiny/report.html both.html exported/model.safetensors
echo "== the wheel works with $("$VENV/python" -c 'import torch; print("torch", torch.__version__)')"
