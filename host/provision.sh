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
# A run that was interrupted is taken up by the next one: what is not whole is made anew.
set -euo pipefail
# apt's words are read below, and are translated otherwise.
export LC_ALL=C
cd "$(dirname "$0")/.."
here=$PWD/target/provision

script=provision
. host/private-apt.sh

[ "$(uname -m)" = x86_64 ] || die "the image and its tools need an x86-64 machine; this is $(uname -m)"
command -v cargo >/dev/null || die "cargo is missing, or not in PATH: install rustup, then run this again (rust-toolchain.toml pins the version)"

take_directory "$here"

# ---- packages of the system -------------------------------------------------------------------

# gcc links (and only recommends libc6-dev), g++ compiles libFuzzer, ca-certificates is for cargo, the rest is run by scripts and tests.
needed=(acl attr busybox-static ca-certificates debian-archive-keyring e2fsprogs g++ gcc kmod libc6-dev xz-utils)
command -v dpkg-query >/dev/null || die "this is not a Debian machine, and only Debian 12 and 13 can be set up (needs: ${needed[*]})"
installed=" $(dpkg-query --show --showformat '${db:Status-Abbrev}${Package} ' "${needed[@]}" 2>/dev/null)" || true
missing=()
for package in "${needed[@]}"; do
    [[ $installed == *" ii $package "* || $installed == *" hi $package "* ]] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    say "installing ${missing[*]} (apt-get)"
    # An installation that was interrupted has to be ended before apt-get begins another.
    if [ -n "$(dpkg --audit)" ]; then
        say "ending an interrupted installation first (dpkg --configure -a)"
        as_root env DEBIAN_FRONTEND=noninteractive dpkg --configure -a >&2 || say "warning: that failed; trying to go on"
    fi
    # A source that cannot be read may be one that is not needed here.
    as_root apt-get -qq update >&2 || say "warning: not all package lists of this machine could be read"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
        install -y --no-install-recommends "${missing[@]}" | sizes \
        || die "cannot install ${missing[*]}; is there a network, and a Debian mirror among apt's sources?"
fi

# ---- packages that are unpacked below target/, not installed ----------------------------------

# The vhost-user 9P device: `vhost-user-test-device-pci`, which users may create from QEMU 10.2 on.
can_serve() {
    "$1" -device vhost-user-test-device-pci,help 2>/dev/null | grep virtio-id >/dev/null
}

if ! [ -x "$here/qemu" ] || ! can_serve "$here/qemu"; then
    rm -f "$here/qemu"
    if command -v qemu-system-x86_64 >/dev/null && can_serve qemu-system-x86_64; then
        say "using the system's $(command -v qemu-system-x86_64)"
        printf '#!/bin/sh\nexec %q "$@"\n' "$(command -v qemu-system-x86_64)" >"$here/qemu.new"
    else
        say "no system QEMU can create the vhost-user 9P device; fetching a private copy from trixie-backports"
        rm -rf "$here/qemu-root" "$here/qemu-apt"
        private_apt "$here/qemu-apt" deb trixie trixie-backports
        apt-get "${apt[@]}" install -y --download-only -t trixie-backports qemu-system-x86 | sizes \
            || die "cannot fetch qemu-system-x86 of trixie-backports from $mirror"
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
    can_serve "$here/qemu.new" || die "QEMU is there but cannot create vhost-user-test-device-pci: $("$here/qemu.new" --version 2>&1 | head -n 1)"
    mv "$here/qemu.new" "$here/qemu"
    say "QEMU: $("$here/qemu" --version | head -n 1)"
fi

if ! [ -e "$here/kernel/complete" ]; then
    # The running release's own kernel: what `linux-image-amd64` depends on, never a cloud kernel (those have no 9P).
    suite=$(own_suite)
    say "fetching Debian's kernel for the client VM from $suite"
    rm -rf "$here/kernel" "$here/kernel-apt"
    private_apt "$here/kernel-apt" deb "$suite"
    package=$(apt-cache "${apt[@]}" depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*-amd64\)$/\1/p' | head -n 1)
    [ -n "$package" ] || die "no linux-image package in $suite"
    (cd "$here/kernel-apt" && apt-get "${apt[@]}" download "$package" | sed --unbuffered 's/^/provision:   /' >&2) || die "cannot fetch $package"
    say "unpacking $package"
    mkdir -p "$here/kernel"
    dpkg -x "$here"/kernel-apt/linux-image-*.deb "$here/kernel"
    rm -rf "$here/kernel-apt"
    # Debian 12 packs /lib/modules, Debian 13 /usr/lib/modules, with each module compressed.
    if [ -d "$here/kernel/usr/lib/modules" ]; then
        mkdir -p "$here/kernel/lib" && mv "$here/kernel/usr/lib/modules" "$here/kernel/lib/modules"
    fi
    find "$here/kernel/lib/modules" -name '*.ko.xz' -print0 | xargs -0 -r -n 64 -P "$(nproc)" xz --decompress
    mv "$here"/kernel/boot/vmlinuz-* "$here/kernel/boot/vmlinuz"
    # The dependencies as kmod computes them, so that the initramfs can hold just the modules it loads.
    version=$(ls "$here/kernel/lib/modules")
    /sbin/depmod --basedir "$here/kernel" "$version" >&2
    touch "$here/kernel/complete"
    say "client kernel: $version"
fi
