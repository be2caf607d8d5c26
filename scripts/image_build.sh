#!/usr/bin/env bash
# The steps of the Dockerfile that several images share. Runs inside the build, not on your machine.
#
#   image_build prepare BUILD.txt             pip and setuptools in /opt/build, an empty /opt/storefleet
#   image_build packages NAME.txt [UNUSED]    dependencies into /opt/storefleet, less what UNUSED names
#   image_build program                       this checkout, installed into /program/opt/storefleet
#
# All files get one time stamp and bytecode that does not depend on it: building the same again gives
# the same layers, so that a store does not fetch them twice.
set -euo pipefail
readonly EPOCH=@${SOURCE_DATE_EPOCH:-315532800} # 1980
readonly PIP=/opt/build/bin/pip VENV=/opt/storefleet

finish() { # finish ROOT
    "$VENV/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash \
        ${1:+-s "$1" -p /} "$1$VENV"/lib/python3*/site-packages
    find "$1$VENV" -exec touch -h -d "$EPOCH" {} +
}

remove_unused() { # remove_unused FILE: patterns below site-packages
    local pattern
    shopt -s globstar nullglob
    cd "$VENV"/lib/python3*/site-packages
    while read -r pattern; do
        # shellcheck disable=SC2086
        rm -rf -- $pattern
    done < <(sed -e 's/ *#.*//' -e '/^$/d' "$1")
}

case $1 in
    prepare)
        python3 -m venv /opt/build
        "$PIP" install -q --require-hashes --only-binary :all: -r "$2"
        python3 -m venv --without-pip "$VENV"
        ;;
    packages)
        # The list is complete, and leaves out what packages ask for but an image does without.
        "$PIP" --python "$VENV/bin/python" install -q --no-deps --no-compile --only-binary :all: \
            --require-hashes -r "$2"
        [ -z "${3:-}" ] || (remove_unused "$PWD/$3")
        finish ""
        ;;
    program)
        "$PIP" wheel -q --no-deps --no-build-isolation --wheel-dir /wheel .
        "$PIP" --python "$VENV/bin/python" install -q --no-deps --no-compile --root /program /wheel/*.whl
        finish /program
        ;;
    *)
        echo "unknown step $1" >&2
        exit 2
        ;;
esac
