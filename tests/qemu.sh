#!/bin/sh
# Runs breakglass against a real QEMU guest: a kernel and busybox of Debian, with a disk that stalls.
#
#   tests/qemu.sh            all tests
#   tests/qemu.sh FILTER     the tests whose names contain FILTER
#
# It unpacks the kernel and busybox, and QEMU where that is not installed, below the folder of builds; nothing is
# installed. That needs apt. There is no KVM: QEMU interprets the guest, so that each machine can.
# AFK_QEMU names a folder with the files, in place of unpacking them.
set -eu
cd "$(dirname "$0")/.."
filter=${1:-}

skip() {
    echo "!!! SKIPPED: tests/qemu.sh: $1" >&2
    echo "!!! No real guest was run." >&2
    exit 0
}

[ "$(uname -sm)" = "Linux x86_64" ] || skip "the guest is for Linux on x86-64"
PATH=$PATH:/usr/sbin:/usr/local/sbin
for program in perl ssh sshd; do
    command -v "$program" >/dev/null || skip "$program is missing"
done
folder=${CARGO_TARGET_DIR:-$PWD/target}/qemu
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

# Unpacks packages of Debian into a folder.
unpack() {
    target=$1
    shift
    mkdir -p "$folder/new/packages" "$target"
    (
        cd "$folder/new/packages"
        apt-get download -q "$@" || exit 1
        for package in *.deb; do dpkg -x "$package" "$target" || exit 1; done
    ) >>"$folder/apt.log" 2>&1 || return 1
    rm -rf "$folder/new/packages"
}

# Fetches what the guest needs: a kernel for virtual machines, its modules for a disk, busybox, and QEMU with
# the libraries that this machine lacks.
fetch() {
    rm -rf "$folder/new"
    kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | grep '^linux-image-' | head -n 1)
    [ -n "$kernel" ] || return 1
    files=$folder/new/files
    root=$folder/new/root
    unpack "$files" "$kernel" busybox-static || return 1
    mkdir -p "$root/bin" "$root/dev" "$root/modules"
    cp "$files"/boot/vmlinuz-* "$folder/new/vmlinuz"
    cp "$(find "$files" -path '*bin/busybox' | head -n 1)" "$root/bin/busybox"
    for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
        find "$files" -name "$module.ko" -exec cp {} "$root/modules/" \;
    done
    rm -rf "$files"
    if ! command -v qemu-system-x86_64 >/dev/null; then
        # Only names; the installation is not carried out.
        packages=$(apt-get install --print-uris -qq --no-install-recommends qemu-system-x86 | cut -d ' ' -f 2 | cut -d _ -f 1)
        # shellcheck disable=SC2086 # Each package is one word.
        unpack "$folder/new/qemu" $packages || return 1
        libraries=$folder/new/qemu/usr/lib/x86_64-linux-gnu:$folder/new/qemu/lib/x86_64-linux-gnu
        LD_LIBRARY_PATH=$libraries "$folder/new/qemu/usr/bin/qemu-system-x86_64" --version \
            >>"$folder/apt.log" 2>&1 || return 1
    fi
    rm -rf "$folder/guest"
    mv "$folder/new" "$folder/guest"
}

if [ -z "${AFK_QEMU:-}" ]; then
    if [ ! -e "$folder/guest/vmlinuz" ]; then
        command -v apt-get >/dev/null && command -v dpkg >/dev/null || skip "apt or dpkg is missing"
        : >"$folder/apt.log"
        fetch || skip "apt can't fetch the kernel, busybox or QEMU: see $folder/apt.log (and try apt-get update)"
    fi
    # The guest's own program may have changed since.
    root=$folder/guest/root
    install -m 755 tests/qemu/init "$root/init"
    (cd "$root" && find . | bin/busybox cpio -o -H newc 2>/dev/null) >"$folder/guest/initramfs"
    AFK_QEMU=$folder/guest
fi
export AFK_QEMU
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --no-fail-fast --run-ignored only --test qemu -E "test(/$filter/)"
fi
exec cargo test --test qemu -- --ignored "$filter"
