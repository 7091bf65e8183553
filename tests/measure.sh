#!/bin/sh
# Measures afk with its benches, and writes their output into docs/performance.md with date, commit and machine.
#
#   tests/measure.sh                  core, journal, transcript, render, claim and scenario
#   tests/measure.sh core render      these alone
#
# AFK_BENCH_BASE names another build of afk, whose figures `scenario` puts beside this one's. Let nothing else run.
set -eu
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- core journal transcript render claim scenario
page=docs/performance.md
work=${CARGO_TARGET_DIR:-$PWD/target}/measure
mkdir -p "$work"
commit=$(git rev-parse --short HEAD)
git diff --quiet HEAD -- src benches Cargo.toml Cargo.lock || commit="$commit with changes"
processor=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)
for name; do
    # Everything is built before the machine is to be quiet.
    cargo bench --no-run --bench "$name" > "$work/build.log" 2>&1 || { tail -20 "$work/build.log" >&2; exit 1; }
done
for name; do
    grep -q "^<!-- figures of $name\$" "$page" || { echo "tests/measure.sh: $page has no figures of $name" >&2; exit 2; }
    load=$(cut -d ' ' -f 1 /proc/loadavg)
    cargo bench --bench "$name" > "$work/$name" 2> "$work/$name.log" || { tail -20 "$work/$name.log" >&2; exit 1; }
    {
        echo "<!-- figures of $name"
        echo "     written by tests/measure.sh -->"
        echo
        echo "$(date -u +%F), commit $commit, $(nproc) cores (${processor:-unknown processor}), Linux $(uname -r), load average $load before:"
        echo
        echo '```text'
        echo "\$ cargo bench --bench $name${AFK_BENCH_BASE:+    # base: ${AFK_BENCH_BASE_NAME:-another build}}"
        # The times of the harness itself are no figures.
        grep -v '^Timer precision' "$work/$name" | sed 's/[[:space:]]*$//'
        echo '```'
        echo
        echo "<!-- end of the figures of $name -->"
    } > "$work/block"
    awk -v begin="<!-- figures of $name" -v end="<!-- end of the figures of $name -->" -v block="$work/block" '
        $0 == begin { while ((getline line < block) > 0) print line; inside = 1 }
        !inside { print }
        $0 == end { inside = 0 }
    ' "$page" > "$work/page"
    cat "$work/page" > "$page"
    echo "$name: written"
done
