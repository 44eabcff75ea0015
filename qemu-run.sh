#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Boots the service VM (with --mode host: starts a process instead) and a Linux client VM that mounts an ext4 volume through it at
# /mnt, to be read and written, and gives a shell there.
# Sets up and builds what is missing, then hands over to `skerry vm`, which takes the options: see --help.
set -euo pipefail
say() { printf 'qemu-run: %s\n' "$*" >&2; }

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
"$root/host/provision.sh" </dev/null

# Cargo reads rust-toolchain.toml from here; the caller's directory stays what relative paths refer to.
build() {
    say "building $1"
    (cd "$root" && cargo build --locked --release -p "$2" >&2 </dev/null)
}
build "the image" skerry-boot
build "the host tool" skerry-host

target=$(cd "$root" && realpath -m "${CARGO_TARGET_DIR:-target}")
exec "$target/release/skerry" vm "$@"
