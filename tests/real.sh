#!/bin/sh
# Replays real fixes of small open-source projects through the gate. The projects are pinned source
# packages of PyPI, npm, crates.io and Debian that hold their tests.
#
#   tests/real.sh            all fixes and the dishonest variants, then the table of docs/gate.md
#   tests/real.sh FILTER     the tests whose names contain FILTER
#
# Needs python3, npm, cargo, and apt and a C compiler; a language without its program is skipped.
# There is no Go, whose modules have a registry of their own.
set -eu
cd "$(dirname "$0")/.."
filter=${1:-}
real=${CARGO_TARGET_DIR:-$PWD/target}/real
mkdir -p "$real/packages" "$real/rows"
real=$(cd "$real" && pwd)
skipped=

skip() {
    echo "!!! SKIPPED: tests/real.sh: $1" >&2
    skipped="$skipped $2"
}

# Unpacks one version of a package to its folder.
fetch() {
    flat=$(echo "$2" | tr -d @ | tr / -)
    target=$real/packages/$flat-$3
    [ ! -e "$target" ] || return 0
    rm -rf "$real/fetch"
    mkdir -p "$real/fetch/unpacked" "$real/fetch/src"
    case $1 in
        pypi)
            "$real/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$real/fetch" "$2==$3" &&
                tar xzf "$real"/fetch/*.tar.gz -C "$real/fetch/unpacked" ;;
        npm)
            npm pack --silent --pack-destination "$real/fetch" "$2@$3" >/dev/null &&
                tar xzf "$real"/fetch/*.tgz -C "$real/fetch/unpacked" ;;
        crates)
            : > "$real/fetch/src/lib.rs"
            printf '[package]\nname = "fetch"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n[dependencies]\nfetched = { package = "%s", version = "=%s", default-features = false }\n' \
                "$2" "$3" > "$real/fetch/Cargo.toml"
            (cd "$real/fetch" && cargo vendor --quiet --versioned-dirs vendor >/dev/null) &&
                mv "$real/fetch/vendor/$2-$3" "$real/fetch/unpacked/" ;;
    esac || return 1
    # What a build left in the package is no source.
    find "$real/fetch/unpacked" -name __pycache__ -prune -exec rm -rf {} +
    rm -f "$real"/fetch/unpacked/*/.cargo-checksum.json
    mv "$real"/fetch/unpacked/* "$target"
}

# Debian's source of cJSON, and two fixes that Debian carries as patches, one on top of the other.
cjson() {
    packages=$real/packages
    [ ! -e "$packages/cjson-1.7.15+2" ] || return 0
    rm -rf "$real/fetch"
    mkdir -p "$real/fetch/lists/partial"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb-src [signed-by=$keys] http://deb.debian.org/debian bookworm main" > "$real/fetch/sources.list"
    apt="apt-get -q -o Dir::Etc::sourcelist=$real/fetch/sources.list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=$real/fetch/lists"
    (
        cd "$real/fetch"
        $apt update >/dev/null && $apt source --download-only cjson=1.7.15-1+deb12u4 >/dev/null &&
            tar xzf cjson_*.orig.tar.gz && tar xJf cjson_*.debian.tar.xz || exit 1
        base=cJSON-1.7.15
        for fix in 1:0001-add-null-checkings 2:0001-allocate-memory-for-the-temporary-buffer; do
            cp -R "$base" "cjson-1.7.15+${fix%%:*}"
            base=cjson-1.7.15+${fix%%:*}
            patch -s -p1 -d "$base" < "debian/patches/${fix#*:}.patch" || exit 1
        done
    ) || return 1
    rm -rf "$packages"/cjson-*
    mv "$real/fetch/cJSON-1.7.15" "$packages/cjson-1.7.15"
    mv "$real"/fetch/cjson-1.7.15+* "$packages/"
}

# What the tests of the projects need.
python() {
    [ "$(cat "$real/venv/installed" 2>/dev/null)" != "pytest 8.3.4" ] || return 0
    python3 -m venv --clear "$real/venv" && "$real/venv/bin/pip" install -q pytest==8.3.4 &&
        echo "pytest 8.3.4" > "$real/venv/installed"
}
node() {
    [ "$(cat "$real/node/installed" 2>/dev/null)" != "tape 5.9.0" ] || return 0
    mkdir -p "$real/node" && echo '{"private":true}' > "$real/node/package.json" &&
        (cd "$real/node" && npm install --save-exact --ignore-scripts --no-audit --no-fund --loglevel=error tape@5.9.0) &&
        echo "tape 5.9.0" > "$real/node/installed"
}
python || skip "python3 can't install pytest" pypi
if ! command -v npm >/dev/null; then skip "npm is missing" npm; else node || skip "npm can't install tape" npm; fi
if command -v apt-get >/dev/null && command -v cc >/dev/null; then
    cjson || skip "apt can't fetch the source of cjson" cjson
else
    skip "apt-get or a C compiler is missing" cjson
fi

while read -r registry name versions; do
    case "$registry:$skipped " in '#'* | :* | pypi:*' pypi '* | npm:*' npm '*) continue ;; esac
    for version in $versions; do
        fetch "$registry" "$name" "$version" </dev/null || skip "$registry has no $name $version now" "$name"
    done
done < tests/real/packages.txt

rm -f "$real"/rows/*
export AFK_REAL="$real"
result=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --no-fail-fast --run-ignored only --test real -E "test(/$filter/)" || result=$?
else
    cargo test --test real -- --ignored "$filter" || result=$?
fi
# The table of docs/gate.md: a row for each fix, as its test wrote it.
if [ "$result" = 0 ] && [ -z "$filter" ] && [ -z "$skipped" ]; then
    {
        sed '/^<!-- tests\/real.sh/q' docs/gate.md
        echo
        echo "$(date -u +%F), commit $(git rev-parse --short HEAD), by \`tests/real.sh\`: each run ended *done*."
        echo "The times are in seconds; a run that was repeated has several. Cost is the time of all runs but the baseline, divided by"
        echo "that of the first red and green run. cJSON's tests have no names that afk reads."
        echo "Somebody else pushed before each claim but a chain's first. $(cat "$real/waits")"
        echo
        echo "| project | fix | runner | fail to pass | pass to pass | baseline | red | green | old tests | without a hunk | cost |"
        echo "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        cat "$real"/rows/*
    } > "$real/gate.md"
    cat "$real/gate.md" > docs/gate.md
fi
exit "$result"
