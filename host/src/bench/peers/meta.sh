# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in a client, in the root of programs: what people do to a tree of sources, in the directory $1. /tmp/sources.tar is the tree.
# Prints a line for each: its name and the nanoseconds it took.
set -eu
cd "$1"
timed=/tmp/programs/timed
export GIT_CONFIG_GLOBAL=/tmp/gitconfig
cat >$GIT_CONFIG_GLOBAL <<'CONFIGURATION'
[user]
    name = bench
    email = bench@localhost
[safe]
    directory = *
[gc]
    auto = 0
[init]
    defaultBranch = main
CONFIGURATION

mkdir tree
$timed untar tar -xf /tmp/sources.tar -C tree
$timed find find tree -type f -size +1k
cd tree
git init -q
git add -A
git commit -q -m all
$timed git-status git status --porcelain
cd ..
$timed rm rm -r tree
