# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: the load of an office's file server on the share. Arguments: for how many seconds, and how many clients
# it is of.
mkdir /mnt/dbench
dbench --directory /mnt/dbench --loadfile /usr/share/dbench/client.txt --timelimit "$1" "$2"
ls -A /mnt/dbench
rmdir /mnt/dbench
