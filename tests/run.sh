#!/bin/sh
# Runs every test. Beside Rust, the tests need only git.
set -eu
cd "$(dirname "$0")/.."
command -v git >/dev/null || { echo "tests/run.sh: git is needed" >&2; exit 1; }
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --no-fail-fast "$@"
fi
exec cargo test "$@"
