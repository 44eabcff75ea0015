# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs in the userland: a repository with a history on the share, clones of it, and what git says of their soundness.
git config --global user.name tests
git config --global user.email tests@example.org
git config --global init.defaultBranch main
git config --global advice.detachedHead false
git config --global protocol.file.allow always

sound() {
    git -C "$1" fsck --full --strict --no-progress
    git -C "$1" status --porcelain >/tmp/status
    if [ -s /tmp/status ]; then
        echo "differs: the status of $1"
        head -n 20 /tmp/status
    fi
    git -C "$1" diff --exit-code --stat HEAD
}

same() {
    diff -r --no-dereference --exclude .git "$1" "$2" || echo "differs: $2"
    [ "$(git -C "$1" rev-parse HEAD)" = "$(git -C "$2" rev-parse HEAD)" ] || echo "differs: the head of $2"
}

cd /mnt
git init --quiet origin
cd origin
text=$(seq 2000)
for directory in $(seq 12); do
    mkdir -p "part $directory/nested"
    for file in $(seq 10); do echo "$directory $file $text" >"part $directory/nested/file-$file"; done
done
head -c 500000 /dev/urandom >noise
ln -s "part 1/nested/file-1" link
printf '#!/bin/sh\necho run\n' >run
chmod +x run
git add --all
git commit --quiet --message first
git tag --annotate --message "the first" first
for commit in $(seq 5); do
    for directory in $(seq "$commit" 4 12); do echo "$commit" >>"part $directory/nested/file-$commit"; done
    git mv "part $commit/nested/file-10" "moved-$commit"
    git rm --quiet "part $commit/nested/file-9"
    git commit --quiet --all --message "change $commit"
done
git switch --quiet --create side first
echo side >side
git add side
git commit --quiet --message side
git switch --quiet main
git merge --quiet --no-edit side
sound .

# Once with its objects as links to those of the origin, and once packed and sent.
cd /mnt
git clone --quiet origin linked
git clone --quiet --no-local origin packed
for clone in linked packed; do
    sound $clone
    same origin $clone
done
# The objects that have two links are packed anew, by one of the two.
git -C linked gc --quiet
for repository in origin linked; do sound $repository; done
git -C packed switch --quiet --detach first
git -C packed switch --quiet main
same linked packed
echo "git: $(git -C linked rev-list --count HEAD) commits, $(git -C linked ls-files | wc -l) files," \
    "$(git -C linked rev-list --objects --all | wc -l) objects"
