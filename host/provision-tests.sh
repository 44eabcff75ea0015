#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Brings what the tests run inside client VMs, once. Built from crates.io, as static programs:
#
#   target/tools/bin/pjdfstest   POSIX semantics of a file system, call by call
#   target/tools/bin/fsx         random reads, writes, truncations and mappings of one file
#
# And of Debian's archive, of the release that this machine runs:
#
#   target/tools/userland.ext4   a root to run programs in (host/userland.sh says which)
#
# Says what it does on stderr; a second run does nothing and is silent. A run that was interrupted is taken up by the next one.
set -euo pipefail
# apt's words are read.
export LC_ALL=C
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

script=provision-tests
. host/private-apt.sh
. host/userland.sh

take_directory "$tools"

# tool NAME VERSION : the program of that crate; the version is part of what is looked for, so that another one is built anew.
tool() {
    local name=$1 version=$2
    [ -e "$tools/$name-$version" ] && [ -x "$tools/bin/$name" ] && return
    say "building $name $version (some minutes, once)"
    # Static, because a client VM has no C library. With a target given, the flags are not for build scripts.
    RUSTFLAGS="-C target-feature=+crt-static" cargo install --quiet --locked --force \
        --target x86_64-unknown-linux-gnu --target-dir "$tools/build" --root "$tools" \
        "$name@$version" >&2 9>&-
    touch "$tools/$name-$version"
}

tool pjdfstest 0.2.2
tool fsx 0.3.2
rm -rf "$tools/build"
userland
