# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: the conformance programs, on the file system at /mnt, or with "disk" on the disk /dev/vda, which the
# kernel's own ext4 has. Arguments: where (mnt or disk), what (pjdfstest or fsx), and for fsx the configuration below
# /conformance, how many operations, and the seeds; for pjdfstest the name of one test, or nothing for all.
set -eu
where=$1
what=$2
shift 2
place=/mnt
if [ "$where" = disk ]; then
    place=/disk
    mkdir -p $place
    mount -t ext4 /dev/vda $place
fi

status=0
case $what in
pjdfstest)
    mkdir -p $place/pjdfstest
    chmod 755 $place/pjdfstest
    judge() { pjdfstest --path $place/pjdfstest --secondary-fs /tmp "$@" || status=$?; }
    judge --configuration-file /conformance/pjdfstest.toml "$@"
    # On their own: these mount the file system read-only, and others leave removed files open.
    sed 's/^allow_remount = false/allow_remount = true/' /conformance/pjdfstest.toml >/tmp/remount.toml
    if [ $# = 0 ]; then judge --configuration-file /tmp/remount.toml erofs; fi
    rm -r $place/pjdfstest
    ;;
fsx)
    configuration=$1
    operations=$2
    shift 2
    for seed in "$@"; do
        # The file stays, for those who look at the volume afterwards.
        if ! fsx -f "/conformance/$configuration.toml" -N "$operations" -S "$seed" -P /tmp $place/fsx-$seed; then
            status=1
            echo "fsx with seed $seed failed"
        else
            echo "fsx: $operations operations with seed $seed"
        fi
    done
    ;;
esac

if [ "$where" = disk ]; then umount $place; fi
exit $status
