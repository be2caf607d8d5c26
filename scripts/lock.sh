#!/usr/bin/env bash
# Pins every dependency with hashes into constraints/. Run it after changing pyproject.toml; it needs
# the network and uv (pip install uv).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() { # compile OUTPUT ARGUMENT...
    local output=$1
    shift
    # setuptools builds the project itself, without a network, once everything else is there.
    echo "setuptools>=77,<90" | uv pip compile pyproject.toml - --universal --python-version 3.11 \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --no-annotate --quiet \
        --output-file "$output" "$@"
    echo "$output: $(grep -c == "$output") packages"
}

compile constraints/run.txt --extra agent --extra controller --extra sim
compile constraints/test.txt --extra agent --extra controller --extra sim --extra dev --constraint constraints/run.txt
compile constraints/models.txt --extra models --constraint constraints/models.in
