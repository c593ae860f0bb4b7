#!/usr/bin/env bash
# The native kernels with the address and undefined behaviour sanitizers of g++, under their tests.
# Any bad access or operation ends the run with a report. Arguments go to pytest.
source "$(dirname "$(readlink -f "$0")")/install.sh"

compiler=${CXX:-g++}
XDG_CACHE_HOME="$(mktemp -d)"
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT
export XDG_CACHE_HOME
export CYDAS_NATIVE_FLAGS="-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
# Compiled here, where the compiler itself is not under the sanitizers; loading ends this process, which lacks them.
"$PYTHON" -c "import torch; from CyDAS.models import native; native.library()" 2> /dev/null || true

# Python and PyTorch keep what they do not free, hence no search for leaks.
LD_PRELOAD="$($compiler -print-file-name=libasan.so) $($compiler -print-file-name=libubsan.so)" \
  ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}" "$PYTHON" -m pytest -q tests/test_native{,_limits,_threads,_augment}.py --capture=sys "$@"
