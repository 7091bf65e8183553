#!/bin/sh
# Runs every test; exits with 1 if one fails.
cd "$(dirname "$0")" || exit 2
failed=0
for test in tests/*.sh; do
    [ -e "$test" ] || { echo "there are no tests"; exit 1; }
    if out=$(sh "$test" 2>&1); then
        echo "ok   $test"
    else
        echo "FAIL $test"
        echo "$out" | sed 's/^/     /'
        failed=1
    fi
done
exit $failed
