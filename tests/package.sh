#!/usr/bin/env bash
# Makes the Debian package for real, unpacks it into an empty folder, and checks what an operator gets: programs that
# run, completions that complete, man pages that render, units, roles and pages. The profile is `dist`, or that of
# AFK_PACKAGE_PROFILE: `release` is quicker to build.
set -euo pipefail
cd "$(dirname "$0")/.."

for program in cargo-deb dpkg-deb; do
    if ! command -v "$program" >/dev/null; then
        echo "!!! SKIPPED: $program is not installed, so no package is made (docs/releasing.md)"
        exit 0
    fi
done

profile=${AFK_PACKAGE_PROFILE:-dist}
target=${CARGO_TARGET_DIR:-target}
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

cargo build --locked --profile "$profile" --bins
files=target/dist-files
rm -rf "$files"
mkdir -p "$files/man"
"$target/$profile/afk" completions bash >"$files/afk.bash"
"$target/$profile/afk" completions zsh >"$files/_afk"
"$target/$profile/afk" completions fish >"$files/afk.fish"
"$target/$profile/afk" man "$files/man"
cargo deb --no-build --profile "$profile" --output "$tree/afk.deb"

root=$tree/root
mkdir "$root"
dpkg -x "$tree/afk.deb" "$root"
field() {
    dpkg-deb --field "$tree/afk.deb" "$1"
}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | sed -n 1p)
echo "afk.deb: $(field Version), $(stat -c %s "$tree/afk.deb") bytes, depends on $(field Depends)"
case $(field Version) in "$version"*) ;; *) fail "the package has the version $(field Version), and not $version" ;; esac
case $(field Depends) in *git*) ;; *) fail "the package does not depend on git" ;; esac

# The programs run from where they lie, and the launcher is beside afk.
"$root/usr/bin/afk" --version | grep -q "^afk $version (" || fail "afk --version"
[ -x "$root/usr/bin/afk-launch" ] || fail "there is no afk-launch"
"$root/usr/bin/afk" --state "$tree/state" status >/dev/null || fail "afk status"

# The completions of each shell offer a command.
bash -c "source '$root/usr/share/bash-completion/completions/afk'
    COMP_WORDS=(afk conf) COMP_CWORD=1 COMP_TYPE=9
    PATH='$root/usr/bin':\$PATH
    function=\$(complete -p afk | sed 's/.*-F \([^ ]*\).*/\1/')
    \$function afk conf afk 2>/dev/null
    printf '%s\n' \"\${COMPREPLY[@]}\"" | grep -q '^config' || fail "bash completes nothing"
if command -v zsh >/dev/null; then
    zsh -fc "fpath=('$root/usr/share/zsh/vendor-completions' \$fpath)
        autoload -Uz compinit; compinit -u -D; print \${_comps[afk]}" | grep -q afk || fail "zsh finds no completion"
else
    echo "!!! SKIPPED: zsh is not installed"
fi
if command -v fish >/dev/null; then
    PATH="$root/usr/bin:$PATH" fish --no-config -c "source '$root/usr/share/fish/vendor_completions.d/afk.fish'
        complete -C 'afk conf'" | grep -q '^config' || fail "fish completes nothing"
else
    echo "!!! SKIPPED: fish is not installed"
fi

# The man pages, as dpkg has compressed them or not.
page=$(find "$root/usr/share/man/man1" -name 'afk.1*' | sed -n 1p)
[ -n "$page" ] || fail "there is no man page"
find "$root/usr/share/man/man1" -name 'afk-backup.1*' | grep -q . || fail "afk-backup has no man page"
if command -v man >/dev/null; then
    LC_ALL=C.UTF-8 MANPAGER=cat MANWIDTH=80 man --warnings=all -l "$page" >"$tree/page" 2>"$tree/warnings" ||
        fail "man does not render $page"
    grep -qi '^NAME' "$tree/page" || fail "the man page has no NAME"
    [ -s "$tree/warnings" ] && fail "the man page has warnings: $(sed -n 1,3p "$tree/warnings")"
else
    echo "!!! SKIPPED: man is not installed"
fi

# The example configurations are right by the packaged program itself.
docs=$root/usr/share/doc/afk
for file in examples/afk.toml examples/roles/pipeline.toml examples/roles/breakglass.toml; do
    chmod go-w "$docs/$file"
    "$root/usr/bin/afk" config check "$docs/$file" >/dev/null || fail "$file"
done
for file in examples/system/afk-pipeline.service examples/user/afk.service examples/monitoring/alerts.yml operate.md \
    upgrade.md; do
    [ -e "$docs/$file" ] || [ -e "$docs/$file.gz" ] || fail "there is no $file"
done
# Nothing of it is writable by others or owned by a user of this machine.
dpkg-deb --contents "$tree/afk.deb" | awk '$2 != "root/root" || substr($1, 6, 1) == "w" || substr($1, 9, 1) == "w"' |
    grep . && fail "these files have another owner or are writable by others"

[ "$failed" = 0 ] && echo "package: ok"
exit "$failed"
