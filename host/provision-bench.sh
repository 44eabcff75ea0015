#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Brings what `skerry bench` measures with and against, once, from Debian's archive, unpacked and not installed:
#
#   target/tools/bin/diod        another 9P server
#   target/tools/bin/valgrind    counts instructions
#   target/tools/bin/virtiofsd   the server of virtio-fs; Debian 13's, since Debian 12 has only its predecessor
#   target/tools/userland.ext4   what client VMs run, fio among it (host/userland.sh)
#
# Says what it does on stderr; a second run does nothing and is silent. A run that was interrupted is taken up by the next one.
set -euo pipefail
# apt's words are read.
export LC_ALL=C
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

script=provision-bench
. host/private-apt.sh
. host/userland.sh

take_directory "$tools"

# Higher after each change of what is unpacked.
version=2

# unpack DIR SUITE PACKAGE... : makes DIR a root of those packages and what they depend on. No script of theirs runs.
unpack() {
    local root=$1 suite=$2 apt_directory=$tools/bench-apt; shift 2
    say "fetching $* from $suite"
    rm -rf "$root" "$apt_directory"
    private_apt "$apt_directory" deb "$suite"
    fetch_packages "$suite" "$@"
    unpack_packages "$apt_directory" "$root"
}

# launcher NAME ROOT PROGRAM [SETTING] : runs that program of a root below target/tools with its own loader and libraries.
launcher() {
    mkdir -p "$tools/bin"
    cat >"$tools/bin/$1.new" <<LAUNCHER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/../$2
${4:-:}
exec "\$root/lib64/ld-linux-x86-64.so.2" --library-path "\$root/lib/x86_64-linux-gnu:\$root/usr/lib/x86_64-linux-gnu" \\
    "\$root/$3" "\$@"
LAUNCHER
    chmod +x "$tools/bin/$1.new"
    mv "$tools/bin/$1.new" "$tools/bin/$1"
}

suite=$(own_suite)
complete=$tools/bench-$suite-$version
if ! [ -e "$complete" ]; then
    rm -rf "$tools"/bench-*
    unpack "$tools/bench-root" "$suite" diod valgrind
    launcher diod bench-root usr/sbin/diod
    launcher valgrind bench-root usr/bin/valgrind.bin 'export VALGRIND_LIB="$root/usr/libexec/valgrind"'
    unpack "$tools/bench-virtiofsd" trixie virtiofsd
    launcher virtiofsd bench-virtiofsd usr/libexec/virtiofsd
    touch "$complete"
fi
userland
