# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: has the kernel's own ext4 mount every disk, replay its journal and work off its orphans, and says all there is to
# say of the tree. Arguments: how many disks there are, and up to which length in bytes files are read.
#
# Everything is said in records that a NUL ends, because names hold any other byte. The first byte tells what a record is.
#
#   V the number of a disk, and its name       S what statfs says
#   A the attributes of a path, and the path  L, then =: a symbolic link, its target
#   C the sum of a content, and the path      M, then =: a long file, what filefrag says
#   X the extended attributes of all paths    D what the kernel logged
#   E what went wrong
set -eu
count=$1
longest=$2
mkdir /disk

device() {
    for serial in /sys/block/*/serial; do
        # It ends without a newline.
        read -r found <"$serial" || true
        if [ "$found" = "disk-$1" ]; then
            serial=${serial%/serial}
            echo "/dev/${serial##*/}"
            return
        fi
    done
    echo "no disk has the serial number disk-$1" >&2
    return 1
}

tree() {
    stat -f -c 'S%s %b %f %a %c %d %l' . | tr '\n' '\0'
    find . -print0 |
        xargs -0 stat --printf 'A%f %h %u %g %s %b %i %t:%T %.9X %.9Y %.9Z %.9W %n\0'
    find . -type l -printf 'L%p\0=%l\0'
    find . -type f -size "-$((longest + 1))c" -print0 | xargs -0 -r sha256sum -z | sed -z 's/^/C/'
    find . -type f -size "+${longest}c" -print0 |
        xargs -0 -r -n 1 sh -c 'printf "M%s\0=" "$1" && filefrag -v -e -- "$1" && printf "\0"' sh
    printf X
    find . -print0 | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex --absolute-names --
    printf '\0'
}

number=0
while [ "$number" -lt "$count" ]; do
    disk=$(device "$number")
    printf 'V%s %s\0' "$number" "${disk#/dev/}"
    dmesg -c >/dev/null
    if mount -t ext4 -o rw,noatime "$disk" /disk 2>/tmp/errors; then
        (cd /disk && tree) 2>/tmp/errors || printf 'Ethe tree cannot be read\0'
        umount /disk
    else
        printf 'Eit cannot be mounted\0'
    fi
    if [ -s /tmp/errors ]; then printf 'E%s\0' "$(cat /tmp/errors)"; fi
    printf 'D%s\0' "$(dmesg)"
    number=$((number + 1))
done
