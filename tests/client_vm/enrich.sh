# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client that has the volume as a disk. Lets the kernel's own ext4 make what mkfs.ext4 -d cannot:
# hashed directories, times with nanoseconds and beyond 2038, ACLs, attributes of every namespace, nodes of every
# type, unwritten extents.
set -eu
mkdir /volume
mount -t ext4 /dev/vda /volume
cd /volume
mkdir made
cd made

# A directory that the kernel fills has an index; the one that mkfs.ext4 filled is linear.
mkdir many
find ../many -type f -exec mv -t many {} +

mkdir nodes
cd nodes
mknod null c 1 3
mknod disk b 259 300
mknod wide c 511 1048575
mkfifo pipe
ln -s target short-link
ln -s "$(printf '%0200d' 0)" long-link
ln -s ../many/file-0 working-link
: >setuid
chown 4294967294:4294967293 setuid
chmod 6755 setuid
mkdir sticky
chmod 1777 sticky
cd ..

mkdir times
cd times
touch -d @0 epoch
touch -d @2147483648 after-2038
touch -d @4294967296 after-2106
touch -d @7000000000 after-2190
touch -d @-1000000000 before-1970
: >now
cd ..

mkdir attributes
cd attributes
: >user
setfattr -n user.text -v value user
setfattr -n user.empty user
setfattr -n user.binary -v 0x000102ff00 user
: >security
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 security
: >trusted
setfattr -n trusted.key -v 0xdeadbeef trusted
: >large
setfattr -n user.large -v "0x$(head -c 3000 /dev/zero | tr '\0' '\253' | hexdump -v -e '1/1 "%02x"')" large
: >several
i=0
while [ $i -lt 40 ]; do
    setfattr -n "user.number-$i" -v "value $i" several
    i=$((i + 1))
done
mkdir directory
setfattr -n user.of.directory -v yes directory
mkdir acl
setfacl -m u:1000:r-x,g:2000:-wx,m::rwx acl
setfacl -d -m u:1000:rwx,g:3000:r-- acl
: >acl/inherits
: >acl-file
setfacl -m u:70000:rw- acl-file
ln -s nowhere link
setfattr -h -n trusted.of.link -v 1 link
cd ..

mkdir extents
cd extents
fallocate -l 3000000 unwritten
echo start | dd of=unwritten conv=notrunc 2>/dev/null
truncate -s 5000000000 hole
echo end | dd of=hole bs=1 seek=4999999000 conv=notrunc 2>/dev/null
printf 'no newline' >tail
: >empty
cd ..

cd /
umount /volume
