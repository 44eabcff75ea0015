# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: random changes of a directory of its own, each made in the client's memory too, which is compared with the
# share in the end; and of a directory that other clients change at the same time. Arguments: the client's name, how many rounds.
set -eu
me=$1
rounds=$2
mkdir -p /mnt/shared /mnt/$me /tmp/$me
head -c 300000 /dev/urandom >/tmp/noise

# The same in both places, with the same success.
twice() {
    ours=0 theirs=0
    (cd /mnt/$me && eval "$1") 2>/tmp/errors || ours=$?
    (cd /tmp/$me && eval "$1") 2>/dev/null || theirs=$?
    if [ $ours != $theirs ]; then
        echo "differs: $1: status $ours, not $theirs"
        cat /tmp/errors
    fi
}
name() { case $((RANDOM % 3)) in 0) echo n$((RANDOM % 40)) ;; *) echo d$((RANDOM % 6))/n$((RANDOM % 20)) ;; esac }
piece() { echo "tail -c +$((RANDOM * 4)) /tmp/noise | head -c $((RANDOM * (RANDOM % 5)))"; }

round=0
while [ $round -lt $rounds ]; do
    round=$((round + 1))
    case $((RANDOM % 12)) in
    0 | 1 | 2) twice "$(piece) >$(name)" ;;
    3) twice "$(piece) >>$(name)" ;;
    4) twice "mv -f $(name) $(name)" ;;
    5) twice "rm $(name)" ;;
    6) twice "mkdir d$((RANDOM % 6))" ;;
    7) twice "rm -r d$((RANDOM % 6))" ;;
    8) twice "ln $(name) $(name)" ;;
    9) twice "chmod $((RANDOM % 8))$((RANDOM % 8))$((RANDOM % 8)) $(name)" ;;
    10) twice "truncate -c -s $((RANDOM * 3)) $(name)" ;;
    11) twice "mv -T d$((RANDOM % 6)) d$((RANDOM % 6))" ;;
    esac
    # Who is first is left open, but not that each finds a file system in order.
    for change in "echo $me $round >s$((RANDOM % 30))" "mv s$((RANDOM % 30)) s$((RANDOM % 30))" \
        "ln s$((RANDOM % 30)) s$((RANDOM % 30))" "rm s$((RANDOM % 30))" "cat s$((RANDOM % 30)) >/dev/null"; do
        (cd /mnt/shared && eval "$change") 2>/tmp/errors || true
        if grep -q -e 'needs cleaning' -e 'Input/output' -e 'rotocol' /tmp/errors; then
            echo "differs: $change"
            cat /tmp/errors
        fi
    done
done

describe() {
    (cd "$1" && find . -printf '%p %y %m %n\n' | sort && find . -type f -exec sha256sum '{}' + | sort)
}
describe /mnt/$me >/tmp/ours
describe /tmp/$me >/tmp/theirs
cmp /tmp/ours /tmp/theirs || { echo "differs: the end"; diff /tmp/ours /tmp/theirs | head -n 20; }
echo "compared: $(wc -l </tmp/ours) lines"
