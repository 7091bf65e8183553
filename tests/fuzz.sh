#!/bin/sh
# Runs the fuzz targets of src/fuzz under libFuzzer, each for some seconds, and prints a row for each.
# A panic, a hang or too much memory is a finding: its input is kept, and the script fails.
#
#   tests/fuzz.sh                     every target for 600 s
#   tests/fuzz.sh 60 markdown redact  two targets for 60 s each
#
# Needs cargo-fuzz (`cargo install cargo-fuzz --locked`). The corpus of the repository is the start of
# each run, and is not written.
set -eu
cd "$(dirname "$0")/.."
seconds=600
case ${1:-} in
    '' | *[!0-9]*) ;;
    *) seconds=$1; shift ;;
esac
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "!!! SKIPPED: tests/fuzz.sh: cargo-fuzz is missing (cargo install cargo-fuzz --locked)" >&2
    echo "!!! No target was run." >&2
    exit 0
fi
[ $# -gt 0 ] || set -- $(ls tests/fixtures/fuzz)
for name; do
    [ -d "tests/fixtures/fuzz/$name" ] || { echo "tests/fuzz.sh: there is no target $name" >&2; exit 2; }
done
work=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
mkdir -p "$work"
# The dependencies are those of the workspace.
cp Cargo.lock tests/fuzz/Cargo.lock
# libFuzzer needs only what the stable compiler can do, once it is told so.
export RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target"
if ! cargo fuzz build --fuzz-dir tests/fuzz -s none target 2> "$work/build.log"; then
    tail -20 "$work/build.log" >&2
    exit 1
fi
program=$(ls "$work"/target/*/release/target)
failed=0
printf '%-20s %10s %8s  %s\n' target runs seconds finding
for name; do
    scratch=$work/$name
    rm -rf "$scratch"
    mkdir -p "$scratch/corpus" "$scratch/findings"
    begun=$(date +%s)
    finding=none
    # Five seconds are far over the time of any input of this length.
    AFK_FUZZ_TARGET=$name nice -n 19 "$program" "$scratch/corpus" "tests/fixtures/fuzz/$name" \
        -max_total_time="$seconds" -max_len=8192 -timeout=5 -rss_limit_mb=2048 \
        -artifact_prefix="$scratch/findings/" > "$scratch/log" 2>&1 || {
        finding=$(ls "$scratch/findings"/* 2>/dev/null | head -1)
        finding=${finding:-"see $scratch/log"}
        failed=$((failed + 1))
    }
    runs=$(sed -n "s/^#\\([0-9][0-9]*\\).*/\\1/p; s/^Done \\([0-9]*\\) runs.*/\\1/p" "$scratch/log" | tail -1)
    printf '%-20s %10s %8s  %s\n' "$name" "${runs:-0}" "$(($(date +%s) - begun))" "$finding"
done
echo "$# targets, $failed findings"
[ "$failed" = 0 ]
