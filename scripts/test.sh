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
    .venv/bin/python -m pytest "$1" -q --durations=10 -m "not kubernetes"
}

build_kubernetes() { # what the last stage needs: minutes of computing that the waiting tests leave over
    nice -n 19 .venv/bin/python -m storefleet testbed build && nice -n 19 .venv/bin/python -m k3s.images build
}

built() { # built PID: wait for it, and show what it did
    local outcome=0
    wait "$1" || outcome=$?
    cat "$build_log"
    return $outcome
}

if [ -s .venv/models-python ]; then
    STOREFLEET_MODELS_PYTHON=$(cat .venv/models-python)
    export STOREFLEET_MODELS_PYTHON
fi
if [ "$(id -u)" -eq 0 ]; then
    build_log=$(mktemp)
    build_kubernetes >"$build_log" 2>&1 &
    builder=$!
    trap 'kill $builder 2>/dev/null; rm -f "$build_log"' EXIT
fi
stage lint scripts/lint.sh
stage unit pytest_in tests/unit
stage integration pytest_in tests/integration
stage e2e pytest_in tests/e2e
if [ "$(id -u)" -eq 0 ]; then
    stage build built $builder
    stage kubernetes .venv/bin/python -m pytest -q -m kubernetes --durations=10 tests/integration tests/e2e
else
    printf '\nThe tests on real clusters and images need root: sudo make test-kubernetes\n'
    results+=("$(printf '%-12s %-7s needs root' kubernetes 'NOT RUN')")
    [ -z "${CI:-}" ] || status=1
fi
printf '\n'
printf '%s\n' "${results[@]}"
exit $status
