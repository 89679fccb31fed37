#!/usr/bin/env bash
# Run every test there is, whole trainings and surveys too, and hold the coverage to 95 %: about an hour on two cores.
# Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
scripts/setup_environment.sh
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
export PYTHONWARNDEFAULTENCODING=1
export HYPOTHESIS_PROFILE=nightly
marked="not gpu"
if .venv/bin/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
    marked=""
fi
exec .venv/bin/python -m pytest tests afma_med -n auto --dist worksteal -m "$marked" \
    --cov --cov-report=term --cov-fail-under=95 --durations=30 "$@"
