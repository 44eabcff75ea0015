#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the conformance tests that run inside client VMs, from crates.io, once, as static programs:
#
#   target/tools/bin/pjdfstest   POSIX semantics of a file system, call by call
#   target/tools/bin/fsx         random reads, writes, truncations and mappings of one file
#
# Says what it does on stderr; a second run does nothing and is silent.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

say() { printf 'provision-tests: %s\n' "$*" >&2; }

mkdir -p "$tools"
exec 9>>"$tools/lock"
if ! flock --nonblock 9; then
    say "waiting for another run that uses $tools"
    flock 9
fi

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
