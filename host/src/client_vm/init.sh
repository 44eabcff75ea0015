#!/bin/busybox sh
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The first process of the client VM: loads the modules, mounts the share at /mnt, runs one command or a shell,
# and reports to the host. Relies on /etc/skerry, which the host writes into the initramfs:
#
#   modules   files to load, one a line, in this order, below /lib/modules
#   session   shell assignments: tag, mount_options, kind (run, shell or idle), columns, rows, end_mark
#   command   for kind=run: what `sh -c` gets
#
# and on these virtio-serial ports: skerry.control (lines to the host: `mounted`, `failed WHY`, `exit STATUS`),
# skerry.stdin, skerry.stdout, skerry.stderr. Standard input starts with the line `begin`; both outputs end
# with end_mark, so that the host knows that it has everything.

/bin/busybox mkdir -p /dev /proc /sys /tmp /run /mnt /root
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
# What is there already stays: the shells, and what --files brought.
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-linux}"
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=755 tmpfs /run
ln -s /proc/self/fd /dev/fd
ln -s fd/0 /dev/stdin
ln -s fd/1 /dev/stdout
ln -s fd/2 /dev/stderr
hostname skerry-client

. /etc/skerry/session
while read -r module; do
    insmod "/lib/modules/$module" || echo "init: cannot load $module"
done </etc/skerry/modules

# The ports get their names a little after virtio_console is loaded.
port() {
    local name
    while :; do
        for name in /sys/class/virtio-ports/*/name; do
            if [ -e "$name" ] && [ "$(cat "$name")" = "$1" ]; then
                name=${name%/name}
                echo "/dev/${name##*/}"
                return
            fi
        done
        sleep 0.02
    done
}
exec 3>"$(port skerry.control)"

say() { echo "$1" >&3; }
# What the client has not written yet, the server gets now; a file that is still open keeps the share mounted.
leave() {
    cd /
    [ -z "$tag" ] || umount /mnt 2>/dev/null || sync
}
finish() {
    say "$1"
    # The host ends this machine as soon as it has read that.
    while :; do sleep 3600; done
}

if [ -n "$tag" ]; then
    refused=$(mount -t 9p -o "$mount_options" "$tag" /mnt 2>&1) ||
        finish "failed cannot mount $tag at /mnt with -o $mount_options: $refused"
fi
say mounted

case $kind in
run)
    mkfifo /run/stdin /run/stdout /run/stderr
    exec 4>"$(port skerry.stdout)" 5>"$(port skerry.stderr)" 6<"$(port skerry.stdin)"
    # Until the host's end is open, a read of the port looks like its end.
    until read -r line <&6 && [ "$line" = begin ]; do sleep 0.02; done
    # Through pipes: a port can be opened only once, so that /dev/stdout would not work in the command.
    cat /run/stdout >&4 &
    out=$!
    cat /run/stderr >&5 &
    err=$!
    cat <&6 >/run/stdin 2>/dev/null &
    setsid /bin/sh -c "$(cat /etc/skerry/command)" </run/stdin >/run/stdout 2>/run/stderr 3>&- 4>&- 5>&- 6<&- &
    command=$!
    wait $command
    status=$?
    # What the command left running would hold its output open.
    kill -9 -- "-$command" 2>/dev/null
    wait $out $err
    leave
    printf %s "$end_mark" >&4
    printf %s "$end_mark" >&5
    finish "exit $status"
    ;;
shell)
    cd /mnt
    export PS1='client:\w# '
    # The terminal forgets its size when the last process closes it.
    setsid -c /bin/sh -c "stty rows $rows cols $columns; exec bash --norc" </dev/hvc0 >/dev/hvc0 2>&1 3>&-
    status=$?
    leave
    finish "exit $status"
    ;;
esac
while :; do sleep 3600; done
