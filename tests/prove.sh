#!/bin/sh
# Proves what docs/reliability.md claims: runs a command for each claim, and prints a table of claim, figure, verdict
# and command. A row that fails says where its output is.
#
#   tests/prove.sh [quick]    about ten minutes on two cores, after the build of the tests
#   tests/prove.sh full       hours: more schedules, kills, cuts and inputs, real agents, all planted faults, speed
#   tests/prove.sh quick fuzz simulation    the rows with these names
#
# A row whose program or right is missing is SKIPPED, and proves nothing; the last line counts them.
set -eu
cd "$(dirname "$0")/.."
tier=quick
case ${1:-} in quick | full) tier=$1; shift ;; esac
wanted=" $* "
logs=${CARGO_TARGET_DIR:-$PWD/target}/prove
mkdir -p "$logs"

held=0
failed=0
skipped=0
# Runs a command, and prints the row of a claim. The figure is what the sed script prints last.
prove() {
    name=$1 claim=$2 figure=$3
    shift 3
    case $wanted in '  ' | *" $name "*) ;; *) return 0 ;; esac
    log=$logs/$name
    begun=$(date +%s)
    verdict=holds
    "$@" > "$log" 2>&1 < /dev/null || verdict=FAILS
    took=$(($(date +%s) - begun))
    shown=$(sed -n "$figure" "$log" | tail -1)
    if [ "$verdict" = FAILS ]; then
        failed=$((failed + 1))
        shown="see $log"
    # A command that ran no test proves nothing, and neither does one without its figure.
    elif grep -q '^!!! SKIPPED\|^SKIPPED' "$log"; then
        verdict=SKIPPED skipped=$((skipped + 1))
        shown=$(sed -n 's/^!*  *\(SKIPPED.*\)/\1/p; s/^\(SKIPPED.*\)/\1/p' "$log" | head -1)
    elif [ -z "$shown" ]; then
        verdict=FAILS failed=$((failed + 1))
        shown="no figure, see $log"
    else
        held=$((held + 1))
    fi
    printf '| %s | %s | %s | %s s | `%s` |\n' "$claim" "$shown" "$verdict" "$took" "$*"
}

# The figure of a test command: how many of its tests passed, where any did.
passed='s/^test result: ok\. \([1-9][0-9]* passed\); 0 failed; \([0-9]*\) ignored.*/\1, \2 ignored/p'
case $tier in
    quick) schedules=10000 kills=20 cuts=6 ;;
    full) schedules=100000 kills=500 cuts=60 ;;
esac

echo "$tier, $(date -u +%F), commit $(git rev-parse --short HEAD)$(git diff --quiet HEAD || echo ' with changes'), $(nproc) cores, Linux $(uname -r)"
echo
echo '| claim | figure | verdict | time | command |'
echo '| --- | --- | --- | --- | --- |'
prove simulation 'no schedule of faults, crashes and operators breaks an invariant' \
    's/^\([0-9]* schedules: .*\)/\1/p' \
    env AFK_SIM_SCHEDULES=$schedules cargo test --release -p afk-core --test simulation -- --nocapture
prove kills 'kill -9 at any moment loses nothing and repeats nothing' \
    's/^\([0-9]* kills.*\)/\1/p; s/.* \.\.\. \([0-9]* kills.*\)/\1/p' \
    env AFK_CRASH_KILLS=$kills cargo test --test it -- --exact crash::kills_lose_and_repeat_nothing --nocapture
prove cuts 'neither does a power cut of the file system' \
    's/^\([0-9]* cuts\)/\1/p; s/.* \.\.\. \([0-9]* cuts\)/\1/p' \
    env AFK_POWER_CUTS=$cuts cargo test --test it -- --exact power_cut::power_cuts_lose_and_repeat_nothing --nocapture
prove state 'damaged, copied, lost and newer state is set aside or refused, and told' "$passed" \
    cargo test --test it damaged_state::
prove faults 'full, read-only and slow disks, limits and failing services hold a run, and it goes on' "$passed" \
    cargo test --test it -- faults:: outages:: descriptors::
prove clocks 'sleep, clocks that jump and clocks that were ahead decide nothing by themselves' "$passed" \
    cargo test --test it clocks::
prove wall 'an agent behind the wall reaches nothing of the owner' "$passed" cargo test --test wall
prove fuzz 'no input breaks a parser (mutations of the corpora)' "$passed" cargo test --lib fuzz::
prove counts 'the hot paths allocate no more than recorded' "$passed" cargo test --test counts
prove structure 'the core is pure, and arrows go one way' "$passed" cargo test --test structure
if [ "$tier" = full ]; then
    caught='s/^\([0-9]* caught, 0 not\)$/\1/p'
    prove planted 'each planted fault is caught by a test' "$caught" tests/planted.sh
    prove libfuzzer 'no input breaks a parser (ten minutes each under libFuzzer)' \
        's/^\([0-9]* targets, 0 findings\)$/\1/p' tests/fuzz.sh 600
    prove agents 'real agents and clients do the whole loop' "$passed" tests/agents.sh all
    prove speed 'a key costs what is on the screen' \
        's/^a key with 10,000 issues costs \(.*\)/\1/p' cargo bench --bench scenario
else
    prove planted 'planted faults are caught by a test (two of them)' 's/^\([0-9]* caught, 0 not\)$/\1/p' \
        tests/planted.sh 'a red'
fi
echo
echo "$held hold, $failed fail, $skipped were skipped"
[ "$failed" = 0 ]
