#!/usr/bin/env bash
# Run the tests with the oldest versions that setup.cfg allows, in an environment of its own; arguments go to pytest.
#   PYTHON=python3.10 ./scripts/test_oldest.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stamp=.venv-oldest/.afma_med_setup
wanted=$(cat setup.cfg pyproject.toml scripts/test_oldest.sh | cksum)
if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    "${PYTHON:-python3}" -m venv --clear .venv-oldest
    .venv-oldest/bin/python -m pip install --quiet --disable-pip-version-check uv
    # Only the packages that setup.cfg names are the oldest; their own dependencies are the newest that they accept.
    .venv-oldest/bin/uv pip install --quiet --python .venv-oldest/bin/python --resolution lowest-direct \
        --editable '.[dev,onnx,pretrained]'
    echo "$wanted" >"$stamp"
fi
.venv-oldest/bin/uv pip list --quiet --python .venv-oldest/bin/python | grep -E '^(torch|monai|numpy|seg|pytorch-ig)'
exec .venv-oldest/bin/python -m pytest "$@"
