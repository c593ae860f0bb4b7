# Start one of the programs on NGPUS processes: source this file, then `launch PROGRAM FLAGS...`.
# NGPUS comes from the environment; a script may set its own default before. Without a GPU one CPU process runs.

ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$ROOT" || exit 1
PYTHON="${PYTHON:-python}"
if [ -x "$ROOT/.venv/bin/python" ] && [ "$PYTHON" = python ]; then PYTHON="$ROOT/.venv/bin/python"; fi

launch() {
  local program="$1" gpus wanted="${NGPUS:-1}"
  shift
  gpus="$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')" || exit 1
  if [ "$gpus" -eq 0 ]; then
    echo "no GPU here: running on the CPU in ${CPU_PROCESSES:-1} process(es)" >&2
    wanted="${CPU_PROCESSES:-1}"
  elif [ "$wanted" -gt "$gpus" ]; then
    echo "NGPUS=$wanted, but there are only $gpus GPU(s) here" >&2
    exit 2
  fi
  if [ "$wanted" -gt 1 ]; then
    exec "$PYTHON" -m torch.distributed.run --standalone --nproc_per_node "$wanted" "CyDAS/$program" "$@"
  fi
  exec "$PYTHON" "CyDAS/$program" "$@"
}
