#!/usr/bin/env bash
# The steps of the Dockerfile that several images share. Runs inside the build, not on your machine.
#
#   image_build prepare BUILD.txt             pip and setuptools into /opt/build
#   image_build packages NAME.txt [UNUSED]... dependencies, less what the files UNUSED name
#   image_build only NAMES                    of these packages, what the file names: what one image adds to another
#   image_build program                       this checkout
#
# The last three leave their result, which belongs into /opt/storefleet, in /layer/opt/storefleet. All files
# and folders get one time stamp, and bytecode that does not depend on it: building the same again gives
# the same layer, so that a store does not fetch it twice. For that the image copies /layer to its root:
# a folder that copying has to make would be of today.
set -euo pipefail
readonly EPOCH=@${SOURCE_DATE_EPOCH:-315532800} # 1980
readonly PIP=/opt/build/bin/pip VENV=/opt/storefleet LAYER=/layer

install() { # install ARGUMENT...: into an environment without pip
    python3 -m venv --without-pip "$VENV"
    "$PIP" --python "$VENV/bin/python" install -q --no-deps --no-compile "$@"
}

same_time() {
    find "$LAYER" -exec touch -h -d "$EPOCH" {} +
}

finish() {
    "$VENV/bin/python" -m compileall -q -j 0 --invalidation-mode unchecked-hash -s "$LAYER" -p / \
        "$LAYER$VENV"/lib/python3*/site-packages
    same_time
}

patterns() { # patterns FILE
    sed -e 's/ *#.*//' -e '/^$/d' "$1"
}

remove_unused() { # remove_unused FILE: patterns below site-packages
    local pattern
    shopt -s globstar nullglob
    cd "$VENV"/lib/python3*/site-packages
    while read -r pattern; do
        # shellcheck disable=SC2086
        rm -rf -- $pattern
    done < <(patterns "$1")
}

keep_only() { # keep_only FILE: patterns below site-packages
    local pattern path
    shopt -s globstar nullglob
    mkdir /kept
    cd "$LAYER"
    while read -r pattern; do
        # shellcheck disable=SC2231
        for path in "${VENV#/}"/lib/python3*/site-packages/$pattern; do
            cp -a --parents "$path" /kept
        done
    done < <(patterns "$1")
    rm -rf "$LAYER"
    mv /kept "$LAYER"
}

case $1 in
    prepare)
        python3 -m venv /opt/build
        "$PIP" install -q --require-hashes --only-binary :all: -r "$2"
        ;;
    packages)
        # The list is complete, and leaves out what packages ask for but an image does without.
        install --only-binary :all: --require-hashes -r "$2"
        for unused in "${@:3}"; do
            (remove_unused "$PWD/$unused")
        done
        mkdir -p "$LAYER$(dirname "$VENV")"
        mv "$VENV" "$LAYER$VENV"
        ln -s "$LAYER$VENV" "$VENV"
        finish
        ;;
    only)
        (keep_only "$PWD/$2")
        same_time
        ;;
    program)
        "$PIP" wheel -q --no-deps --no-build-isolation --wheel-dir /wheel .
        install --root "$LAYER" /wheel/*.whl
        finish
        ;;
    *)
        echo "unknown step $1" >&2
        exit 2
        ;;
esac
