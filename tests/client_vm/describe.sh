# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client: says all there is to say of the tree in the directory that is its argument, but the numbers of inodes.
set -eu
cd "$1"
find . -printf '%P|%y|%m|%n|%U|%G|%s|%b|%C@|%T@|%l\n' | sort
find . -type f -print0 | sort -z | xargs -0 sha256sum
find . \( -type c -o -type b \) -print0 | sort -z | xargs -0 -r stat -c '%n %t %T'
find . -print0 | sort -z | xargs -0 getfattr --no-dereference --dump --match=- --encoding=hex
