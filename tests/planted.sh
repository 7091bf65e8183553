#!/bin/sh
# Plants the faults of tests/planted/*.txt one by one into a copy of the sources, and runs the tests
# that must catch each of them. A fault that no test catches, or that no longer fits, fails.
#
#   tests/planted.sh            all faults
#   tests/planted.sh FILTER     the faults whose names contain FILTER
#
# A fault is a paragraph: its name, the file, the text as it is, the text with the fault, and the
# tests as arguments of `cargo test`. The text must stand in the file exactly once.
#
#   fault   a red base is taken for green
#   file    src/core/tables/gate/mod.rs
#   is      Err(GateVerdict::Broken(words::red_base(&report.base, run)))
#   becomes Ok(false)
#   tests   -p afk-core --lib tables::gate
set -eu
cd "$(dirname "$0")/.."
filter=${1:-}
root=$PWD
planted=${CARGO_TARGET_DIR:-$PWD/target}/planted
copy=$planted/copy
rm -rf "$copy"
mkdir -p "$copy"
git ls-files --cached --others --exclude-standard > "$planted/files"
tar -cf - -T "$planted/files" | tar -xf - -C "$copy"
export CARGO_TARGET_DIR="$planted/target"

# Replaces the text `is` by `becomes` in the file, if it stands there exactly once.
plant() {
    IS=$is BECOMES=$becomes awk '
        { text = text $0 "\n" }
        END {
            at = index(text, ENVIRON["IS"])
            rest = substr(text, at + length(ENVIRON["IS"]))
            if (!at || index(rest, ENVIRON["IS"])) exit 1
            printf "%s%s%s", substr(text, 1, at - 1), ENVIRON["BECOMES"], rest
        }' "$root/$file" > "$copy/$file"
}

caught=0
failed=0
judge() {
    case $fault in *"$filter"*) ;; *) return 0 ;; esac
    if ! plant; then
        echo "STALE    $fault: the text does not stand exactly once in $file"
        failed=$((failed + 1))
    # A fault that no longer compiles proves nothing about the tests.
    elif ! (cd "$copy" && cargo test --quiet --no-run $tests) > "$planted/build.log" 2>&1; then
        echo "BROKEN   $fault: does not compile, see $planted/build.log"
        failed=$((failed + 1))
    elif (cd "$copy" && cargo test --quiet $tests) > "$planted/test.log" 2>&1; then
        echo "MISSED   $fault"
        failed=$((failed + 1))
    else
        by=$(sed -n 's/^test \(.*\) \.\.\. FAILED$/\1/p; s/^    \([a-z_:]*\)$/\1/p' "$planted/test.log" | head -1)
        echo "caught   $fault${by:+ (by $by)}"
        caught=$((caught + 1))
    fi
    cp "$root/$file" "$copy/$file"
}

for list in tests/planted/*.txt; do
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
            'fault   '*) fault=${line#'fault   '} ;;
            'file    '*) file=${line#'file    '} ;;
            'is      '*) is=${line#'is      '} ;;
            'becomes '*) becomes=${line#'becomes '} ;;
            becomes) becomes= ;;
            'tests   '*)
                tests=${line#'tests   '}
                judge < /dev/null
                ;;
            '' | '#'*) ;;
            *)
                echo "tests/planted.sh: $list: this line is not understood: $line" >&2
                exit 2
                ;;
        esac
    done < "$list"
done
echo "$caught caught, $failed not"
[ "$failed" = 0 ]
