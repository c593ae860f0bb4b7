# Make .venv in the repository's root and install CyDAS there, once: source this file.
# PYTHON in the environment names another interpreter, which is then used as it is.

ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)"
cd "$ROOT" || exit 1
if [ -z "${PYTHON:-}" ]; then
  PYTHON="$ROOT/.venv/bin/python"
  if ! cmp -s pyproject.toml .venv/installed; then
    echo "installing into $ROOT/.venv"
    [ -x "$PYTHON" ] || python3 -m venv .venv || exit 1
    "$PYTHON" -m pip install --quiet --disable-pip-version-check -e '.[test]' || exit 1
    cp pyproject.toml .venv/installed
  fi
fi
export PYTHON
