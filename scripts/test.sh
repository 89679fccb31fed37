#!/usr/bin/env bash
# Set up and run the tests; arguments go to pytest. Without any: everything but the tests marked slow, survey or gpu.
#   ./scripts/test.sh                    the unit suite
#   ./scripts/test.sh -m slow            whole trainings
#   ./scripts/test.sh -m survey          every host through every compiler
#   ./scripts/test.sh tests/test_losses.py -k ignore
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_environment.sh
if [ $# -eq 0 ]; then
    set -- -m "not slow and not survey and not gpu"
fi
export PYTHONWARNDEFAULTENCODING=1 # pyproject.toml turns these warnings into errors
exec .venv/bin/python -m pytest "$@"
