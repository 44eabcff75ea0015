# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: numbered transactions on sqlite databases on the share, without end. Says of each, when its COMMIT has
# returned: `committed`, the database, the writer, the number. Arguments: the databases, of these:
#
#   shared     a write-ahead log, whose index two writers share in mapped memory
#   exclusive  a write-ahead log, whose index its one writer has to itself
#   rollback   a journal of old pages, removed by each commit

# A text that follows from a number, as SQL.
text() { echo "replace(hex(zeroblob(2000)), '00', printf('%08d', $1))"; }

prepare() {
    case $1 in
    shared) echo "PRAGMA journal_mode = WAL;" ;;
    exclusive) echo "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;" ;;
    rollback) echo "PRAGMA journal_mode = DELETE;" ;;
    esac
    # Pages go from the log to the database often.
    echo "PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 50;"
}

create() {
    prepare "$1"
    echo "CREATE TABLE numbered(writer INTEGER, number INTEGER, body TEXT, PRIMARY KEY (writer, number));"
    echo "CREATE TABLE accounts(name TEXT PRIMARY KEY, balance INTEGER);"
    echo "INSERT INTO accounts VALUES ('from', 0), ('to', 0);"
    echo "CREATE VIEW torn AS SELECT * FROM numbered WHERE body IS NOT $(text number);"
}

write() {
    echo ".timeout 60000"
    prepare "$1"
    number=1
    while :; do
        echo "BEGIN IMMEDIATE;
            UPDATE accounts SET balance = balance - 1 WHERE name = 'from';
            INSERT INTO numbered VALUES ($2, $number, $(text $number));
            UPDATE accounts SET balance = balance + 1 WHERE name = 'to';
            COMMIT;
            SELECT 'committed', '$1', $2, $number;"
        number=$((number + 1))
    done
}

for database in "$@"; do create "$database" | sqlite3 -bail "/mnt/$database.sqlite"; done
for database in "$@"; do
    writers=1
    [ "$database" != shared ] || writers="1 2"
    for writer in $writers; do
        write "$database" "$writer" | sqlite3 -bail -separator " " "/mnt/$database.sqlite" &
    done
done
wait
