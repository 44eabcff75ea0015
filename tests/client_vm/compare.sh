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

# NUL-terminated names as lines, and back: a newline in a name is \001 in between.
to_lines() { tr '\0\n' '\n\001'; }
from_lines() { tr '\n\001' '\0\n'; }

# Every attribute of every node; $1 is what the numbers of inodes are too high by.
attributes() {
    find . -printf "%P|%y|%m|%n|%U|%G|%s|%b|%A@|%C@|%T@|%l|%i\0" | to_lines |
        awk -v above="$1" 'BEGIN { FS = OFS = "|" } { $NF -= above; print }' | sort
}
devices() {
    find . '(' -type b -o -type c ')' -exec stat -c '%n %t %T' {} + | sort
}
# One name of each inode: most names are hard links.
once() {
    find "$@" -printf '%i %p\0' | to_lines | sort -k 2 | sort -s -u -n -k 1,1 | sed 's/^[0-9]* //' | from_lines
}
xattrs() {
    once . | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex -- |
        sed -n '/^# file/ { h; d }; /=/ { G; s/\n/ /; p }' | sort
}
made_sums() {
    once ./made -type f -size -1048576k | xargs -0 sha256sum | sort
}
given_sums() {
    find . -path ./made -prune -o -type f -size -1048576k -print0 | sort -z | xargs -0 sha256sum
}
# Of files that are holes for gigabytes, the end.
tails() {
    find . -type f -size +1048576k | sort | while read -r path; do
        tail -c 2000000 "$path" | sha256sum | sed "s|-$|$path|"
    done
}
look() {
    (
        cd "$1"
        attributes "$3" >"$2/attributes"
        devices >"$2/devices"
        xattrs >"$2/xattrs"
        made_sums >"$2/made-sums"
        tails >"$2/tails"
    )
}

look /disk /tmp/disk 0
cp /truth/sums /tmp/disk/given-sums

for options in "$@"; do
    umount /mnt 2>/dev/null || true
    mount -t 9p -o "$options" "$tag" /mnt
    # Linux adds a constant to the inode numbers of a 9P server: 2, and none in some releases.
    above=$(($(stat -c %i /mnt) - $(stat -c %i /disk)))
    case $above in 0 | 2) ;; *) echo "differs: the root's inode number by $above" ;; esac
    look /mnt /tmp/share $above
    (cd /mnt && given_sums) >/tmp/share/given-sums
    for kind in attributes devices xattrs made-sums tails given-sums; do
        if ! cmp -s /tmp/disk/$kind /tmp/share/$kind; then
            echo "differs: $kind with $options"
            diff -a /tmp/disk/$kind /tmp/share/$kind | head -n 40
        fi
    done
    echo "compared: $options in $(cut -d. -f1 /proc/uptime) s"
done
for kind in attributes devices xattrs made-sums tails given-sums; do
    echo "count: $kind $(wc -l </tmp/disk/$kind)"
done
umount /disk
