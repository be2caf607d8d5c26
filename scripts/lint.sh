#!/usr/bin/env bash
# Every check that does not run the program. All of them run, even after one failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=.venv/bin/python
status=0

check() {
    local began=$SECONDS
    if "$@"; then
        echo "ok      $((SECONDS - began)) s   ${*#.venv/bin/}"
    else
        echo "FAILED  $((SECONDS - began)) s   ${*#.venv/bin/}"
        status=1
    fi
}

check $python -m ruff check --quiet .
check $python -m ruff format --check --quiet .
check $python -m mypy --no-error-summary
check .venv/bin/lint-imports --no-logo
check $python -m contract.schema --check
exit $status
