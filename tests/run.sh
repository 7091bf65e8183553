#!/bin/sh
# Runs every test. Beside Rust, the tests need only git.
set -eu
cd "$(dirname "$0")/.."
command -v git >/dev/null || { echo "tests/run.sh: git is needed" >&2; exit 1; }
failed=0
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --no-fail-fast "$@" || failed=$?
else
    cargo test "$@" || failed=$?
fi
# A test whose program is missing passes after it printed SKIPPED, which the runner hides.
PATH=$PATH:/usr/sbin:/usr/local/sbin
for program in sshd ssh ssh-agent vim less tmux git-crypt git-lfs setpriv systemd-analyze nginx xfs_io; do
    command -v "$program" >/dev/null || echo "SKIPPED: the tests that need $program, which is not installed" >&2
done
if [ "$(id -u)" != 0 ] || ! grep -q ' cgroup2 rw' /proc/mounts; then
    echo "SKIPPED: the tests that need root and control groups of version 2, which are not here" >&2
elif ! grep -qw pids "$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/cgroup.controllers"; then
    echo "SKIPPED: the test that needs the controller pids in control groups of version 2" >&2
fi
exit "$failed"
