#!/usr/bin/env bash
# Set up and run the tests. Without arguments: the unit tier, on all cores. Arguments go to pytest:
#   ./scripts/test.sh tests/unit/losses -k ignore    some of the unit tier
#   ./scripts/test.sh tests/bundles tests/docs       every bundle on a few images; README and docs; CI runs both
#   ./scripts/test.sh tests -m slow                  whole trainings; -m survey: every host through every compiler
# Tests marked slow, survey or gpu run only where -m asks for them. scripts/nightly.sh runs everything.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_environment.sh
# One thread a process: the processes share the cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export PYTHONWARNDEFAULTENCODING=1 # pyproject.toml turns these warnings into errors
if [ $# -eq 0 ]; then
    set -- -n auto --dist worksteal
fi
exec .venv/bin/python -m pytest "$@"
