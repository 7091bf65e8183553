#!/bin/sh
# Runs every test. Installs nothing but what a test needs and the machine lacks: git is all so far.
set -eu
cd "$(dirname "$0")/.."
command -v git >/dev/null || { echo "tests/run.sh: git is needed" >&2; exit 1; }
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --all-targets --no-fail-fast "$@"
else
    cargo test --lib --bins --tests "$@"
fi
# The examples in the documentation comments.
cargo test --doc
