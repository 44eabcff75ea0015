# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client that has one volume twice: through the server at /mnt, and as the disk /dev/vda, which the
# kernel's own ext4 reads. Says on standard output what differs, and how much was compared.
# Arguments: the mount tag, then the options of one mount after the other; with "part:" before them, a part is compared.
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
devices() { xargs -0 stat -c '%n %t %T' -- </tmp/list/devices; }
xattrs() {
    xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex -- </tmp/list/inodes |
        sed -n '/^# file/ { h; d }; /=/ { G; s/\n/ /; p }' | sort
}
made_sums() { xargs -0 sha256sum -- </tmp/list/made; }
given_sums() { xargs -0 sha256sum -- </tmp/list/given; }
# Of files that are holes for gigabytes, the end.
tails() {
    while read -r path; do
        tail -c 2000000 "$path" | sha256sum | sed "s|-$|$path|"
    done </tmp/list/large
}
look() {
    (
        cd "$1"
        attributes "$3" >"$2/attributes"
        for kind in devices xattrs made-sums tails; do
            $(echo $kind | tr - _) >"$2/$kind"
        done
    )
}

# What to open, as the disk has it: with all attributes equal, the share has the same. Most names are hard links,
# so that of each inode one name is enough.
once() {
    find "$@" -printf '%i %p\0' | to_lines | sort -k 2 | sort -s -u -n -k 1,1 | sed 's/^[0-9]* //' | from_lines
}
mkdir /tmp/list
cd /disk
once . >/tmp/list/inodes
once ./made -type f -size -1048576k >/tmp/list/made
find . -path ./made -prune -o -type f -size -1048576k -print0 | sort -z >/tmp/list/given
find . '(' -type b -o -type c ')' -print0 | sort -z >/tmp/list/devices
find . -type f -size +1048576k | sort >/tmp/list/large
cd /

# The names in a few directories, and the contents in which a size of message shows.
part() (
    cd "$1"
    find linear links names sizes -printf '%p|%s|%l\0' | to_lines | sort
    sha256sum sizes/*
)

look /disk /tmp/disk 0
cp /truth/sums /tmp/disk/given-sums

for argument in "$@"; do
    options=${argument#part:}
    umount /mnt 2>/dev/null || true
    mount -t 9p -o "$options" "$tag" /mnt
    if [ "$options" != "$argument" ]; then
        part /disk >/tmp/disk/part
        part /mnt >/tmp/share/part
        cmp /tmp/disk/part /tmp/share/part || echo "differs: a part with $options"
        echo "compared: a part with $options"
        continue
    fi
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
