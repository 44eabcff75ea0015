#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Brings what `skerry bench` measures with and against, once, from Debian's archive, unpacked and not installed:
#
#   target/tools/bin/diod        another 9P server
#   target/tools/bin/valgrind    counts instructions
#
# Says what it does on stderr; a second run does nothing and is silent. A run that was interrupted is taken up by the next one.
set -euo pipefail
# apt's words are read.
export LC_ALL=C
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

script=provision-bench
. host/private-apt.sh

take_directory "$tools"

# Higher after each change of what is unpacked.
version=1
packages=(diod valgrind)

# launcher NAME PROGRAM [SETTING] : runs that program of the private root with its own loader and libraries.
launcher() {
    mkdir -p "$tools/bin"
    cat >"$tools/bin/$1.new" <<LAUNCHER
#!/bin/sh
root=\$(dirname "\$(readlink -f "\$0")")/../bench-root
${3:-:}
exec "\$root/lib64/ld-linux-x86-64.so.2" --library-path "\$root/lib/x86_64-linux-gnu:\$root/usr/lib/x86_64-linux-gnu" \\
    "\$root/$2" "\$@"
LAUNCHER
    chmod +x "$tools/bin/$1.new"
    mv "$tools/bin/$1.new" "$tools/bin/$1"
}

suite=$(own_suite)
complete=$tools/bench-$suite-$version
if ! [ -e "$complete" ]; then
    apt_directory=$tools/bench-apt
    root=$tools/bench-root
    say "fetching ${packages[*]} from $suite"
    rm -rf "$root" "$apt_directory" "$tools"/bench-*
    private_apt "$apt_directory" deb "$suite"
    apt-get "${apt[@]}" install -y --download-only "${packages[@]}" | sizes \
        || die "cannot fetch ${packages[*]} of $suite from $mirror"
    mkdir -p "$root/usr"/{bin,sbin,lib,lib64}
    for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
    for archive in "$apt_directory"/cache/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$root"
    done
    rm -rf "$apt_directory"
    launcher diod usr/sbin/diod
    launcher valgrind usr/bin/valgrind.bin 'export VALGRIND_LIB="$root/usr/libexec/valgrind"'
    touch "$complete"
fi
