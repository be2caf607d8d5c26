#!/usr/bin/env bash
# Sets Storefleet up. Run it as often as you like: what is there already is left alone.
#
#   scripts/setup.sh run      what 'make demo' needs: system packages and .venv/
#   scripts/setup.sh test     that, and what 'make test' needs besides
#   scripts/setup.sh kubernetes   that, and the packages that clusters and images need
#   scripts/setup.sh models   PyTorch and Ultralytics (about 6 GB), outside the checkout
#
# PYTHON=/path/to/python3.12 picks another Python (3.11 or later).
# Exit status 3: system packages are missing and there is neither root nor sudo to install them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

readonly RUN_PACKAGES=(
    mosquitto                      # the MQTT broker
    gir1.2-gst-rtsp-server-1.0     # the simulated cameras' RTSP server ...
    python3-gi                     # ... which is driven from Debian's own Python
    gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly
    libgl1                         # OpenCV links to it
)
readonly TEST_PACKAGES=(mosquitto-clients postgresql)
readonly MODELS_DISK_MB=9000
cache=${XDG_CACHE_HOME:-$HOME/.cache}/storefleet

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $1"; exit "${2:-1}"; }

step() { # step WHAT COMMAND...: run it and say how long it took
    local what=$1 began=$SECONDS
    shift
    say "-> $what ..."
    "$@"
    say "   $((SECONDS - began)) s"
}

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python3.12 python3.13 python3.14; do
        command -v "$candidate" >/dev/null || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    fail "Python 3.11 or later is needed: apt-get install python3 python3-venv, or set PYTHON"
}

missing_packages() { # missing_packages NAME...: those that are not installed
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || echo "$package"
    done
}

as_root=()

install_packages() {
    local packages=("$@") missing=()
    "$python" -c 'import ensurepip, venv' 2>/dev/null ||
        packages+=("python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv")
    if ! command -v dpkg-query apt-get >/dev/null; then
        say "not Debian or Ubuntu: please see to the equivalents of ${packages[*]}"
        return
    fi
    mapfile -t missing < <(missing_packages "${packages[@]}")
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; } || {
            say "System packages are missing, and there is neither root nor sudo here to install them."
            say "Ask an administrator to run:"
            say "    apt-get update && apt-get install --no-install-recommends ${missing[*]}"
            exit 3
        }
        as_root=(sudo)
    fi
    step "apt-get update" "${as_root[@]}" apt-get update -qq
    step "apt-get install ${missing[*]}" install_quietly "${missing[@]}"
}

install_quietly() {
    # Debian starts mosquitto and postgresql on their default ports as it installs them. We start our
    # own on free ports, so ask it not to; services that run already are not touched.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap '"${as_root[@]}" rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
    fi
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -qq -y --no-install-recommends "$@" >/dev/null ||
        fail "apt-get could not install $*"
    if [ "$(trap -p EXIT)" ]; then
        "${as_root[@]}" rm -f "$policy"
        trap - EXIT
    fi
}

fingerprint() { # fingerprint FILE...: changes when a file, the Python or the place does
    { cat "$@"; "$python" -VV; pwd; } | sha256sum | cut -c1-16
}

install_hashed() { # install_hashed VENV CONSTRAINTS
    "$1/bin/python" -m pip install -qq --require-hashes -r "$2"
}

install_project() {
    .venv/bin/python -m pip install -qq --no-deps --no-build-isolation --editable .
}

set_up_venv() { # set_up_venv run|test
    local base wanted stamp=.venv/storefleet.stamp found
    base=$(fingerprint constraints/run.txt constraints/test.txt pyproject.toml)
    found=$(cat "$stamp" 2>/dev/null || true)
    case $found in
        "$base test" | "$base $1") return ;;  # what the tests need includes what running needs
        "$base "*) ;;
        *) step "a Python environment in .venv" "$python" -m venv --clear .venv ;;
    esac
    wanted="$base $1"
    step "Python packages of constraints/$1.txt (a minute or two with downloads)" \
        install_hashed .venv "constraints/$1.txt"
    step "Storefleet itself" install_project
    echo "$wanted" >"$stamp"
}

set_up_models() {
    local key directory free
    key=$({ cat constraints/models.txt; "$python" -VV; } | sha256sum | cut -c1-16)
    directory=$cache/models-$key
    if [ ! -e "$directory/complete" ]; then
        mkdir -p "$cache"
        exec 9>"$directory.lock"
        flock 9 # another checkout may be at it
        if [ ! -e "$directory/complete" ]; then
            free=$(df -Pm "$cache" | awk 'NR == 2 { print $4 }')
            [ "$free" -ge $MODELS_DISK_MB ] ||
                fail "PyTorch needs $MODELS_DISK_MB MB in $cache but $free MB are free: set XDG_CACHE_HOME"
            "$python" -m venv --clear "$directory"
            step "PyTorch and Ultralytics into $directory (6 GB, 2 to 5 minutes)" \
                install_hashed "$directory" constraints/models.txt
            touch "$directory/complete"
        fi
        exec 9>&-
    fi
    echo "$directory/bin/python" >.venv/models-python
}

python=$(find_python)
case "${1:-run}" in
    run)
        install_packages "${RUN_PACKAGES[@]}"
        set_up_venv run
        ;;
    test)
        install_packages "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}"
        set_up_venv test
        ;;
    kubernetes)
        mapfile -t cluster_packages < <("$python" k3s/testbed/packages.py)
        install_packages "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}" "${cluster_packages[@]}"
        set_up_venv test
        ;;
    models)
        [ -d .venv ] || fail "run 'scripts/setup.sh run' first"
        set_up_models
        ;;
    *) fail "usage: scripts/setup.sh [run|test|kubernetes|models]" 2 ;;
esac
