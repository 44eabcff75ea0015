# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: makes the disk /dev/vda, which host/provision-tests.sh made, the root of a script, with the share at /mnt.
# Arguments: the name of a script below /programs, and what it gets.
set -eu
script=$1
shift
root=/userland
mkdir $root
mount -t ext4 -o ro /dev/vda $root
mount --bind /mnt $root/mnt
mount --bind /dev $root/dev
mount -t proc proc $root/proc
mount -t tmpfs tmpfs $root/tmp
cp -r /programs $root/tmp/programs

status=0
env -i HOME=/tmp LC_ALL=C.UTF-8 PATH=/usr/bin chroot $root /bin/sh -eu "/tmp/programs/$script" "$@" || status=$?
# The last use of the share but one: who started this unmounts it.
umount $root/mnt
exit $status
