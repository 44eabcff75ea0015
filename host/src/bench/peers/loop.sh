# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: makes the disk /dev/vda, which host/userland.sh made, a root to run programs in, with the files of /programs in
# its /tmp/programs. Then runs each line of its standard input, and says "==> STATUS" after what that wrote.
set -eu
root=/userland
mkdir $root
mount -t ext4 -o ro /dev/vda $root
mount --bind /dev $root/dev
mount -t proc proc $root/proc
mount -t tmpfs tmpfs $root/tmp
mount -t tmpfs tmpfs $root/mnt
cp -r /programs $root/tmp/programs

inside() { env -i HOME=/tmp LC_ALL=C.UTF-8 PATH=/usr/bin chroot $root /bin/sh -eu -c "$1"; }

while read -r line; do
    status=0
    eval "$line" </dev/null || status=$?
    echo "==> $status"
done
