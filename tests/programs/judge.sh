# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: what sqlite says of the databases that hammer.sh left. Arguments: the databases.

ask() {
    mode=NORMAL
    [ "$1" != exclusive ] || mode=EXCLUSIVE
    sqlite3 -bail -separator " " "/mnt/$1.sqlite" "PRAGMA locking_mode = $mode; $2"
}

for database in "$@"; do
    ask "$database" "
        SELECT 'integrity', '$database', integrity_check FROM pragma_integrity_check;
        SELECT 'torn', '$database', count(*) FROM torn;
        SELECT 'balance', '$database', name, balance FROM accounts;
        SELECT 'numbered', '$database', writer, count(*), max(number) FROM numbered GROUP BY writer;"
    echo "journal $database $(ask "$database" "PRAGMA journal_mode;" | tail -n 1)"
done
