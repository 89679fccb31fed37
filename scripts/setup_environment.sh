#!/usr/bin/env bash
# Make .venv with the tested versions, once; called by quickstart.sh and test.sh. A second call returns at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=$(cat setup.cfg pyproject.toml constraints.txt scripts/setup_environment.sh | cksum)
stamp=.venv/.afma_med_setup
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
    exit 0
fi

if [ ! -x .venv/bin/python ]; then
    python=${PYTHON:-python3}
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
        echo "error: Python 3.10 or newer is needed; '$python' is not. Name another one: PYTHON=python3.12 $0" >&2
        exit 1
    fi
    echo "Making the virtual environment .venv ..."
    if ! "$python" -m venv .venv; then
        rm -rf .venv
        echo "error: '$python -m venv' failed. On Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
fi

echo "Installing afma_med with the versions of constraints.txt (PyTorch is large: some minutes the first time) ..."
.venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,pretrained]'
echo "$wanted" >"$stamp"
echo "Installed."
