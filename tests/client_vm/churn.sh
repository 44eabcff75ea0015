# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: random changes of a directory of its own, each made in the client's memory too, which is compared with the
# share in the end; and of a directory that other clients change at the same time. Arguments: the client's name, how many rounds,
# and the seed.
set -eu
me=$1
rounds=$2
seed=$3
mkdir -p /mnt/shared /mnt/$me /tmp/$me
head -c 300000 /dev/urandom >/tmp/noise

# What to do, line by line: one change of the own directory, then one of the shared one.
changes() {
    awk -v me="$me" -v rounds="$rounds" -v seed="$seed" '
        function any(count) { return int(rand() * count) }
        function name() { return any(3) ? "d" any(6) "/n" any(20) : "n" any(40) }
        function piece() { return "tail -c +" any(99999) " /tmp/noise | head -c " any(30000) * any(5) }
        function shared() { return "s" any(30) }
        BEGIN {
            srand(seed)
            for (round = 0; round < rounds; round++) {
                what = any(12)
                if (what < 3) print piece() " >" name()
                else if (what == 3) print piece() " >>" name()
                else if (what == 4) print "mv -f " name() " " name()
                else if (what == 5) print "rm " name()
                else if (what == 6) print "mkdir d" any(6)
                else if (what == 7) print "rm -r d" any(6)
                else if (what == 8) print "ln " name() " " name()
                else if (what == 9) print "chmod " any(8) any(8) any(8) " " name()
                else if (what == 10) print "truncate -c -s " any(99999) " " name()
                else print "mv -T d" any(6) " d" any(6)
                what = any(5)
                if (what == 0) print "echo " me " " round " >" shared()
                else if (what == 1) print "mv " shared() " " shared()
                else if (what == 2) print "ln " shared() " " shared()
                else if (what == 3) print "rm " shared()
                else print "cat " shared() " >/dev/null"
            }
        }'
}

# In both places, with the same success.
twice() {
    ours=0 theirs=0
    (cd /mnt/$me && eval "$1") 2>/tmp/errors || ours=$?
    (cd /tmp/$me && eval "$1") 2>/dev/null || theirs=$?
    if [ $ours != $theirs ]; then
        echo "differs: $1: status $ours, not $theirs"
        cat /tmp/errors
    fi
}

# Who is first is left open, but not that each finds a file system in order.
at_once() {
    (cd /mnt/shared && eval "$1") 2>/tmp/errors || true
    if grep -q -e 'needs cleaning' -e 'rotocol' -e 'nput/output' /tmp/errors; then
        echo "differs: $1"
        cat /tmp/errors
    fi
}

changes >/tmp/changes
while read -r own && read -r shared; do
    twice "$own"
    at_once "$shared"
done </tmp/changes

describe() {
    (cd "$1" && find . -printf '%p %y %m %n\n' | sort && find . -type f -exec sha256sum '{}' + | sort)
}
describe /mnt/$me >/tmp/ours
describe /tmp/$me >/tmp/theirs
cmp /tmp/ours /tmp/theirs || { echo "differs: the end"; diff /tmp/ours /tmp/theirs | head -n 20; }
echo "compared: $(wc -l </tmp/ours) lines"
