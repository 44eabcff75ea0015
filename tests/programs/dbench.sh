# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: the load of an office's file server on the share. Arguments: for how many seconds, and how many clients
# it is of. (That it cannot create a semaphore, dbench says of the first one of a system, whose number is 0.)
mkdir /mnt/dbench
dbench --directory /mnt/dbench --loadfile /usr/share/dbench/client.txt --timelimit "$1" "$2"
# In the end it has removed its files, and not its directories.
find /mnt/dbench ! -type d -exec echo "differs: left behind:" '{}' ';'
rm -r /mnt/dbench
