#!/usr/bin/env bash
# Pins every environment: one file a process, with hashes, for Python 3.11 to 3.13. Run after a change of pyproject.toml.
# (Plain requirement files instead of uv.lock: they name no registry, so a mirror works without a rewrite.)
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { # compile NAME ARGS...
    local name=$1; shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --no-annotate "$@" pyproject.toml -o "locks/$name.txt"
}
# The package of the sentence model asks for sentence-transformers, and so for torch, which our own runner does without.
compile slim --override locks/without-torch.override --extra operator --extra gateway --extra curation --extra cli
compile dev --override locks/without-torch.override --extra operator --extra gateway --extra curation --extra cli --group dev --group agent
compile clients --extra gateway --extra cli --group dev --group clients
compile train --extra train
compile serve --extra serve
# The gateways beside ours in `make bench-gateway`: no part of the project, so not in pyproject.toml.
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --no-annotate locks/bench.in -o locks/bench.txt
# trl beside our trainer in `make bench-training`, on the trainer's own versions of torch, transformers and peft.
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --no-annotate locks/bench-training.in -o locks/bench-training.txt
# What `make bench-redaction` measures ours beside.
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --no-annotate locks/redaction.in -o locks/redaction.txt
# The clustering beside ours in `make bench-discovery`.
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
    --no-annotate --override locks/without-torch.override locks/bench-discovery.in -o locks/bench-discovery.txt
# Node's clients for tests/clients, by the npm of that environment; the lock names no registry either.
npm="$(python3 images/environments.py clients | tail -n 1)/bin/npm"
(cd tests/clients/node && "$npm" install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund)
