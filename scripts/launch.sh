# Start one of the programs: source this file, then `launch PROGRAM FLAGS...`. From the environment:
#   NGPUS         processes on this machine, one for each GPU; a script may set its own default before
#   CPU_PROCESSES the same where there is no GPU (default 1)
#   MAX_RESTARTS  how often torchrun starts all processes again when one has died; they go on from the last checkpoint
#   NNODES, NODE_RANK, MASTER_ADDR, MASTER_PORT
#                 machines, the number of this one from 0 on, and where number 0 is reached; the same command on each
#   RUN_ID        with several machines: a name that is new in every launch; restarts need it to go on by themselves

ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$ROOT" || exit 1
PYTHON="${PYTHON:-python}"
if [ -x "$ROOT/.venv/bin/python" ] && [ "$PYTHON" = python ]; then PYTHON="$ROOT/.venv/bin/python"; fi

launch() {
  local program="$1" gpus wanted="${NGPUS:-1}" nodes="${NNODES:-1}" restarts="${MAX_RESTARTS:-0}" meeting
  shift
  gpus="$("$PYTHON" -c 'import torch; print(torch.cuda.device_count())')" || exit 1
  if [ "$gpus" -eq 0 ]; then
    echo "no GPU here: running on the CPU in ${CPU_PROCESSES:-1} process(es)" >&2
    wanted="${CPU_PROCESSES:-1}"
  elif [ "$wanted" -gt "$gpus" ]; then
    echo "NGPUS=$wanted, but there are only $gpus GPU(s) here" >&2
    exit 2
  fi
  if [ "$wanted" -eq 1 ] && [ "$nodes" -eq 1 ] && [ "$restarts" -eq 0 ]; then
    exec "$PYTHON" "CyDAS/$program" "$@"
  fi
  meeting=(--standalone)
  if [ "$nodes" -gt 1 ]; then
    if [ -z "${MASTER_ADDR:-}" ] || [ -z "${NODE_RANK:-}" ]; then
      echo "NNODES=$nodes needs MASTER_ADDR, the address of machine 0, and NODE_RANK, the number of this one" >&2
      exit 2
    fi
    if [ "$restarts" -gt 0 ] && [ -z "${RUN_ID:-}" ]; then
      echo "MAX_RESTARTS=$restarts on several machines needs RUN_ID, a name that is new in every launch" >&2
      exit 2
    fi
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 # else processes that start again find the addresses of dead ones
    meeting=(--nnodes "$nodes" --rdzv_backend c10d --rdzv_endpoint "$MASTER_ADDR:${MASTER_PORT:-29500}"
      --rdzv_id "${RUN_ID:-none}" --rdzv_conf "is_host=$([ "$NODE_RANK" -eq 0 ] && echo true || echo false)")
  fi
  exec "$PYTHON" -m torch.distributed.run "${meeting[@]}" --nproc_per_node "$wanted" --max_restarts "$restarts" \
    "CyDAS/$program" "$@"
}
