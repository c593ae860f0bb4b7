#!/usr/bin/env bash
# Run the tests, making .venv first where it is missing. Arguments go to pytest.
source "$(dirname "$(readlink -f "$0")")/install.sh"
# One thread a worker: two OpenMP pools on one core wait for each other.
OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" exec "$PYTHON" -m pytest -q -n "${WORKERS:-auto}" "$@"
