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
#   target/tools/userland.ext4   a root to run programs in: dbench, gcc, git, make, sqlite3 and what they need; below /src the
#                                source of Lua to compile
#
# Says what it does on stderr; a second run does nothing and is silent. A run that was interrupted is taken up by the next one.
set -euo pipefail
# apt's words are read.
export LC_ALL=C
cd "$(dirname "$0")/.."
tools=$PWD/target/tools

script=provision-tests
. host/private-apt.sh

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

# The root is made of these packages and what they depend on. No script of theirs runs.
programs=(dbench gcc libc6-dev git make sqlite3)
# What scripts and makefiles take for granted.
programs+=(coreutils dash diffutils findutils grep gzip sed tar)
compiled=lua5.4
# Higher after each change of what is in the image.
userland_version=1

userland() {
    local suite complete root=$tools/userland-new apt_directory=$tools/userland-apt directory archive size
    suite=$(own_suite)
    complete=$tools/userland-$suite-$userland_version
    [ -e "$complete" ] && [ -e "$tools/userland.ext4" ] && return
    say "fetching ${programs[*]} and the source of $compiled from $suite"
    rm -rf "$root" "$apt_directory" "$tools"/userland-*
    private_apt "$apt_directory" "deb deb-src" "$suite"
    apt-get "${apt[@]}" install -y --download-only "${programs[@]}" | sizes \
        || die "cannot fetch ${programs[*]} of $suite from $mirror"
    (cd "$apt_directory" && apt-get "${apt[@]}" source --download-only "$compiled" | sizes) \
        || die "cannot fetch the source of $compiled of $suite from $mirror"
    mkdir -p "$root/src" "$root/usr"/{bin,sbin,lib,lib64}
    # What upstream published, without Debian's changes.
    mv "$apt_directory/${compiled}_"*.orig.tar.gz "$root/src/$compiled.tar.gz"

    # Packages of Debian 12 have some of their files below /lib and /bin, which an installed system has as links.
    for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
    # Where the client mounts its own.
    mkdir -p "$root"/{dev,etc,mnt,proc,root,tmp}
    local archives=("$apt_directory"/cache/archives/*.deb)
    say "unpacking ${#archives[@]} packages"
    for archive in "${archives[@]}"; do
        dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$root"
    done
    rm -rf "$apt_directory" "$root"/usr/share/{doc,info,lintian,locale,man}
    echo "root:x:0:0:root:/root:/bin/sh" >"$root/etc/passwd"
    echo "root:x:0:" >"$root/etc/group"

    # Nobody writes to it: no journal, and little more room than what is in it takes.
    size=$(du --summarize --block-size=1M "$root" | cut -f 1)
    /usr/sbin/mkfs.ext4 -q -F -O ^has_journal -m 0 -E root_owner=0:0 -d "$root" \
        "$tools/userland.ext4.new" "$((size + size / 4 + 16))M" >/dev/null || die "cannot make the image of the userland"
    rm -rf "$root"
    mv "$tools/userland.ext4.new" "$tools/userland.ext4"
    touch "$complete"
    say "userland: $(du --block-size=1M "$tools/userland.ext4" | cut -f 1) MiB"
}

tool pjdfstest 0.2.2
tool fsx 0.3.2
rm -rf "$tools/build"
userland
