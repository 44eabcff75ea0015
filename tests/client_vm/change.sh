# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client, in the directory that is its argument: one of everything that changes a file system. What comes of it is
# compared with what the kernel's own ext4 finds in the volume afterwards.
set -eu
cd "$1"
mkdir -p work/a/b/c work/many work/moved
cd work

# Contents: short and long, overwritten, appended to, with holes, longer and shorter than they were.
echo short >short
dd if=/dev/urandom of=random bs=65536 count=80 2>/dev/null
dd if=/dev/urandom of=random bs=1000 count=7 seek=1234 conv=notrunc 2>/dev/null
cat random random >>appended
dd if=/dev/urandom of=holes bs=4096 count=3 seek=2000 2>/dev/null
dd if=/dev/urandom of=holes bs=4096 count=1 seek=7 conv=notrunc 2>/dev/null
cp random cut && truncate -s 100001 cut && truncate -s 300000 cut
: >cut-to-nothing && cat random >cut-to-nothing && : >cut-to-nothing
dd if=/dev/zero of=synced bs=512 count=9 conv=fsync 2>/dev/null

# Opened in other ways: past the client's pages, synchronized at each write, only if it is new.
dd if=random of=direct bs=4096 count=64 oflag=direct,dsync 2>/dev/null
dd if=random of=direct bs=512 count=3 seek=77 oflag=direct conv=notrunc 2>/dev/null
dd if=direct bs=4096 iflag=direct 2>/dev/null | cmp - direct
(set -C && echo new >exclusive && ! echo again >exclusive) 2>/dev/null

# Names: many, long, linked, moved, moved over others, removed.
number=0
while [ $number -lt 400 ]; do
    echo "$number" >"many/a name that is somewhat longer than most names are, number $number"
    number=$((number + 1))
done
rm many/*5
ln random linked
ln -s ../elsewhere symbolic
ln -s "$(printf '%0200d' 7)" long-symbolic
mv short a/b/c/renamed
mv many moved/many
echo one >over && echo two >under && mv over under
mkdir empty full && rmdir empty && mv full emptied
mkfifo pipe
mknod device c 12 345
cp -a /bin programs

# Attributes.
chmod 4755 cut && chmod 1777 a && chown 12:34 linked && chown -h 5:6 symbolic
touch -d '2001-02-03 04:05:06' holes
setfattr -n user.short -v value appended
setfattr -n user.long -v "$(printf '%03000d' 8)" appended
setfattr -n trusted.short -v value a
setfattr -n user.removed -v x a && setfattr -x user.removed a
setfacl -m u:77:rw,g:88:r cut
setfacl -d -m u:99:rwx a
echo inherits >a/inherits
mkdir a/inherits-too

# A file that is removed while it is open goes on.
exec 7>removed-while-open
rm removed-while-open
cat random >&7
exec 7>&-
