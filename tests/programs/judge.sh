# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: what sqlite says of the databases that hammer.sh left. Arguments: the databases.
for database in "$@"; do
    # The locking is not kept in the database, and without a map the log's index cannot be shared.
    sqlite3 -bail -separator " " "/mnt/$database.sqlite" "
        PRAGMA locking_mode = EXCLUSIVE;
        SELECT 'integrity', '$database', integrity_check FROM pragma_integrity_check;
        SELECT 'torn', '$database', count(*) FROM torn;
        SELECT 'balance', '$database', name, balance FROM accounts;
        SELECT 'numbered', '$database', writer, count(*), max(number) FROM numbered GROUP BY writer;
        SELECT 'journal', '$database';
        PRAGMA journal_mode;"
done
