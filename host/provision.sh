#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Brings a fresh Debian 12 or 13 machine to where Skerry builds and runs. Installs what is missing
# from Debian's archive and keeps everything else below target/provision:
#
#   qemu      a launcher for a QEMU that can create the vhost-user 9P device (the system's own
#             where it can, else a private copy that leaves the system untouched)
#   kernel/   Debian's kernel package for the client VM, unpacked: boot/vmlinuz, lib/modules
#
# Says what it does on stderr; prints nothing on stdout; a second run does nothing and is silent.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/target/provision
mkdir -p "$here"

say() { printf 'provision: %s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

exec 9>"$here/lock"
flock 9

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "need root (or sudo) to run: $*"; fi
}

# ---- packages of the system -------------------------------------------------------------------

# Each line: a file the package brings, the package.
missing=()
while read -r file package; do
    [ -e "$file" ] || missing+=("$package")
done <<'PACKAGES'
/usr/bin/cc                gcc
/usr/sbin/mkfs.ext4        e2fsprogs
/usr/bin/busybox           busybox-static
/usr/bin/setfattr          attr
/usr/bin/setfacl           acl
/usr/bin/xz                xz-utils
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
PACKAGES
# Debian's plain `busybox` package installs the same path, but is linked dynamically and cannot run in the client.
if [ -e /usr/bin/busybox ] && ! dpkg -s busybox-static >/dev/null 2>&1; then missing+=(busybox-static); fi
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "this is not a Debian machine; install by hand: ${missing[*]}"
    say "installing ${missing[*]} (apt-get)"
    as_root apt-get update -qq >&2
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
command -v cargo >/dev/null || die "cargo is missing: install rustup, then run this again (rust-toolchain.toml pins the version)"

# ---- packages that are unpacked below target/, not installed ----------------------------------

# private_apt DIR SUITE... : prepares an apt that knows only SUITEs and believes nothing is installed.
private_apt() {
    local dir=$1 suite mirror; shift
    # The mirror that this machine itself uses for Debian (not its security archive, which has no other suites).
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' \
        | awk '$1 == "Debian" && $2 !~ /-security$/ { print $3; exit }')
    [ -n "$mirror" ] || die "no Debian mirror among this machine's apt sources; run 'apt-get update', then this again"
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/etc"
    : >"$dir/status"
    : >"$dir/sources.list"
    for suite in "$@"; do
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >>"$dir/sources.list"
    done
    apt_options=(-o "Dir::State=$dir/state" -o "Dir::State::status=$dir/status" -o "Dir::Cache=$dir/cache"
        -o "Dir::Etc::sourcelist=$dir/sources.list" -o "Dir::Etc::sourceparts=$dir/etc" -o "Dir::Etc::preferencesparts=$dir/etc"
        -o "Debug::NoLocking=1" -o "APT::Sandbox::User=root" -o "APT::Install-Recommends=0" -o "Dpkg::Use-Pty=0")
    apt-get -qq "${apt_options[@]}" update >&2 || die "cannot read the package lists of $mirror ($*)"
}

# The vhost-user 9P device: `vhost-user-test-device-pci`, which users may create from QEMU 10.2 on.
can_serve() {
    "$1" -device vhost-user-test-device-pci,help 2>/dev/null | grep -q virtio-id
}

if ! [ -x "$here/qemu" ] || ! can_serve "$here/qemu"; then
    rm -f "$here/qemu"
    if command -v qemu-system-x86_64 >/dev/null && can_serve qemu-system-x86_64; then
        say "using the system's $(command -v qemu-system-x86_64)"
        printf '#!/bin/sh\nexec %q "$@"\n' "$(command -v qemu-system-x86_64)" >"$here/qemu.new"
    else
        say "no system QEMU can create the vhost-user 9P device; unpacking a private copy (about 40 MB to fetch)"
        rm -rf "$here/qemu-root" "$here/qemu-apt"
        private_apt "$here/qemu-apt" trixie trixie-backports
        apt-get -q "${apt_options[@]}" install -y --download-only -t trixie-backports qemu-system-x86 >&2 \
            || die "cannot fetch qemu-system-x86 from trixie-backports"
        mkdir -p "$here/qemu-root"
        archives=("$here"/qemu-apt/cache/archives/*.deb)
        say "unpacking ${#archives[@]} packages"
        for archive in "${archives[@]}"; do dpkg -x "$archive" "$here/qemu-root"; done
        rm -rf "$here/qemu-apt"
        cat >"$here/qemu.new" <<'LAUNCHER'
#!/bin/sh
# Runs the private QEMU with its own loader and libraries.
root=$(dirname "$(readlink -f "$0")")/qemu-root
exec "$root/usr/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu" \
    "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" "$@"
LAUNCHER
    fi
    chmod +x "$here/qemu.new"
    can_serve "$here/qemu.new" || die "QEMU is there but cannot create vhost-user-test-device-pci: $("$here/qemu.new" --version | head -n 1)"
    mv "$here/qemu.new" "$here/qemu"
    say "QEMU: $("$here/qemu" --version | head -n 1)"
fi

if ! [ -e "$here/kernel/complete" ]; then
    say "unpacking Debian's kernel for the client VM (about 70 MB to fetch)"
    rm -rf "$here/kernel" "$here/kernel-apt"
    # The running release's own kernel: what `linux-image-amd64` depends on, never a cloud kernel (those have no 9P).
    suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
    private_apt "$here/kernel-apt" "$suite"
    package=$(apt-cache "${apt_options[@]}" depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
    [ -n "$package" ] || die "no linux-image package in $suite"
    (cd "$here/kernel-apt" && apt-get -q "${apt_options[@]}" download "$package" >&2) || die "cannot fetch $package"
    mkdir -p "$here/kernel"
    dpkg -x "$here"/kernel-apt/linux-image-*.deb "$here/kernel"
    rm -rf "$here/kernel-apt"
    if [ -d "$here/kernel/usr/lib/modules" ] && ! [ -d "$here/kernel/lib/modules" ]; then
        mkdir -p "$here/kernel/lib" && mv "$here/kernel/usr/lib/modules" "$here/kernel/lib/modules"
    fi
    find "$here/kernel/lib/modules" -name '*.ko.xz' -print0 | xargs -0 -r xz -d
    mv "$here"/kernel/boot/vmlinuz-* "$here/kernel/boot/vmlinuz"
    # The dependencies as kmod computes them, so that the initramfs can hold just the modules it loads.
    depmod=$(command -v depmod || echo /usr/sbin/depmod)
    if ! [ -x "$depmod" ]; then depmod="busybox depmod"; fi
    version=$(ls "$here/kernel/lib/modules")
    $depmod -b "$here/kernel" "$version" >&2
    touch "$here/kernel/complete"
    say "client kernel: $version"
fi
