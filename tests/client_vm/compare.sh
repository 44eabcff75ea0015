# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client that has one volume twice: through the server at /mnt, and as the disk /dev/vda, which the
# kernel's own ext4 reads. Says on standard output what differs, and how much was compared.
# Arguments: the mount tag, then the options of one mount after the other.
# /truth/sums holds the sums of the files outside made/, which the host has computed.
set -eu
tag=$1
shift
mkdir /disk /tmp/disk /tmp/share
mount -t ext4 -o ro,noload /dev/vda /disk

# Every attribute of every node. Of the inode's number, what it is above the root's: see below.
attributes() {
    find . -printf "%P|%y|%m|%n|%U|%G|%s|%b|%A@|%C@|%T@|%l|%i\0" | sort -z
}
devices() {
    find . '(' -type b -o -type c ')' -exec stat -c '%n %t %T' {} + | sort
}
# Each inode once: most names are hard links.
once() {
    find "$@" -printf '%i %p\0' | sort -z -s -n -k 1,1 | awk 'BEGIN { RS = ORS = "\0" } $1 != last { last = $1; print substr($0, length($1) + 2) }'
}
xattrs() {
    once . | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex -- | sed -n '/^# file/ { h; d }; /=/ { G; s/\n/ /; p }' | sort
}
made_sums() {
    once ./made -type f | xargs -0 sha256sum | sort
}
given_sums() {
    find . -path ./made -prune -o -type f -print0 | sort -z | xargs -0 sha256sum
}
look() {
    (
        cd "$1"
        attributes >"$2/attributes"
        devices >"$2/devices"
        xattrs >"$2/xattrs"
        made_sums >"$2/made-sums"
    )
}

look /disk /tmp/disk
cp /truth/sums /tmp/disk/given-sums

for options in "$@"; do
    umount /mnt 2>/dev/null || true
    mount -t 9p -o "$options" "$tag" /mnt
    # Linux adds a constant to the inode numbers of a 9P server: 2, and none in some releases.
    above=$(($(stat -c %i /mnt) - $(stat -c %i /disk)))
    case $above in 0 | 2) ;; *) echo "differs: the root's inode number by $above" ;; esac
    look /mnt /tmp/share
    awk -v above=$above 'BEGIN { FS = OFS = "|"; RS = ORS = "\0" } { $NF -= above; print }' \
        </tmp/share/attributes >/tmp/share/numbered
    mv /tmp/share/numbered /tmp/share/attributes
    (cd /mnt && given_sums) >/tmp/share/given-sums
    for kind in attributes devices xattrs made-sums given-sums; do
        if ! cmp -s /tmp/disk/$kind /tmp/share/$kind; then
            echo "differs: $kind with $options"
            tr '\0' '\n' </tmp/disk/$kind >/tmp/expected
            tr '\0' '\n' </tmp/share/$kind >/tmp/found
            diff /tmp/expected /tmp/found | head -n 40
        fi
    done
    echo "compared: $options in $(cut -d. -f1 /proc/uptime) s"
done
for kind in attributes devices xattrs made-sums given-sums; do
    echo "count: $kind $(tr '\0' '\n' </tmp/disk/$kind | wc -l)"
done
umount /disk
