#!/usr/bin/env bash
# All checks and tests, fast ones first. A failed stage does not stop the later ones, so that one run
# shows everything; the exit status is 1 if any failed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
results=()
status=0

stage() { # stage NAME COMMAND...
    local name=$1 began=$SECONDS outcome=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || { outcome=FAILED; status=1; }
    results+=("$(printf '%-12s %-7s %4d s' "$name" "$outcome" $((SECONDS - began)))")
}

pytest_in() {
    # those marked kubernetes build Kubernetes and images and start whole clusters: make test-kubernetes
    .venv/bin/python -m pytest "$1" -q --durations=10 -m "not kubernetes"
}

if [ -s .venv/models-python ]; then
    STOREFLEET_MODELS_PYTHON=$(cat .venv/models-python)
    export STOREFLEET_MODELS_PYTHON
fi
stage lint scripts/lint.sh
stage unit pytest_in tests/unit
stage integration pytest_in tests/integration
stage e2e pytest_in tests/e2e
printf '\n'
printf '%s\n' "${results[@]}"
exit $status
