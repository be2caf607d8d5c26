#!/usr/bin/env bash
# Pins every dependency with hashes into constraints/. Run it after changing pyproject.toml; it needs
# the network and uv (pip install uv).
#
#   scripts/lock.sh           everything
#   scripts/lock.sh images    only what the images install, at the versions of constraints/run.txt
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly SETUPTOOLS='setuptools>=77,<90' # builds the project itself

compile() { # compile OUTPUT ARGUMENT...: the project's packages and those that standard input names
    local output=$1
    shift
    uv pip compile - --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
        --output-file "$output" "$@"
    echo "$output: $(grep -c == "$output") packages"
}

compile_image() { # compile_image PROGRAM ARGUMENT...: what its image installs; docs/images.md says why
    local program=$1
    shift
    compile "constraints/$program.txt" pyproject.toml --extra "$program" --constraint constraints/run.txt "$@"
}

if [ "${1:-all}" = all ]; then
    # setuptools builds the project itself, without a network, once everything else is there.
    compile constraints/run.txt pyproject.toml --extra agent --extra controller --extra sim <<<"$SETUPTOOLS"
    compile constraints/test.txt pyproject.toml --extra agent --extra controller --extra sim --extra dev \
        --constraint constraints/run.txt <<<"$SETUPTOOLS"
    compile constraints/models.txt pyproject.toml --extra models --constraint constraints/models.in \
        <<<"$SETUPTOOLS"
fi
compile constraints/build.txt --constraint constraints/run.txt <<<"$SETUPTOOLS"
compile_image controller </dev/null
headless=$(sed -n 's/^opencv-python==\([^ ]*\).*/opencv-python-headless==\1/p' constraints/run.txt)
for program in agent sim; do
    compile_image "$program" --no-emit-package opencv-python --no-emit-package openvino-telemetry <<<"$headless"
done
