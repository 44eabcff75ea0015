# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The root that client VMs run programs in, for the scripts that provision, which source this after host/private-apt.sh:
#
#   target/tools/userland.ext4   dbench, fio, gcc, git, make, sqlite3 of Debian, of the release that this machine runs, and what
#                                they need; below /src the source of Lua
#
# Relies on `tools`, the directory, and on its lock, which the script has.

# The root is made of these packages and what they depend on.
programs=(dbench fio gcc libc6-dev git make sqlite3)
# What scripts and makefiles take for granted.
programs+=(coreutils dash diffutils findutils grep gzip sed tar)
compiled=lua5.4
# Higher after each change of what is in the image.
userland_version=2

userland() {
    local suite complete root=$tools/userland-new apt_directory=$tools/userland-apt size
    suite=$(own_suite)
    complete=$tools/userland-$suite-$userland_version
    [ -e "$complete" ] && [ -e "$tools/userland.ext4" ] && return
    say "fetching ${programs[*]} and the source of $compiled from $suite"
    rm -rf "$root" "$apt_directory" "$tools"/userland-*
    private_apt "$apt_directory" "deb deb-src" "$suite"
    fetch_packages "$suite" "${programs[@]}"
    (cd "$apt_directory" && apt-get "${apt[@]}" source --download-only "$compiled" | sizes) \
        || die "cannot fetch the source of $compiled of $suite from $mirror"
    # Where the client mounts its own.
    mkdir -p "$root"/{dev,etc,mnt,proc,root,src,tmp}
    # What upstream published, without Debian's changes.
    mv "$apt_directory/${compiled}_"*.orig.tar.gz "$root/src/$compiled.tar.gz"

    unpack_packages "$apt_directory" "$root"
    rm -rf "$root"/usr/share/{doc,info,lintian,locale,man}
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
