#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Runs all tests, on a fresh machine too: provisions it first, then style, lints, dependencies, unit tests,
# and the end-to-end tests against the real image, the real QEMU and a real Linux client.
# Stops at the first failure with a non-zero status.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat <<'USAGE'
usage: tests/run.sh [--long] [STEP ...]

Runs the steps named, or all of them in this order (25 to 30 minutes on two processors):
  style      cargo fmt --check, clippy with warnings denied
  deny       cargo deny: licenses, bans, sources (installs cargo-deny below target/tools once)
  unit       unit tests of the core and the host library, those of power loss among them
  ext4       what ext4 volumes are read as, against mkfs.ext4, debugfs and e2fsck
  model      random requests, with kills between, against a model of a file system in memory
  fuzz       inputs that are known and a minute of new ones for each target of fuzz/run.sh (with --long: 30 minutes, and faults
             that are planted in a copy of the core are found)
  ring       the image in QEMU, driven over the preallocated ring and through the bridge, and host mode; what is written survives a kill
  hostile    clients that mean harm, by their rings and by their requests, in both modes, beside one that must not notice
  client     Linux client VMs: every attribute, name and byte against the kernel's own ext4, read and written
  conformance  pjdfstest and fsx in Linux client VMs (builds both below target/tools once)
  programs   git, gcc, dbench and sqlite in Linux client VMs; what sqlite has committed survives a kill (fetches Debian's
             below target/tools once)
  kernel     the volumes that the steps unit, model, ring, client, conformance and programs left, shown to e2fsck, debugfs and the
             ext4 of a Linux client's kernel
  bench      that the benchmarks run (their times are not judged), and instructions for each request against host/instructions.json
             (fetches what they need below target/tools once)

--long takes hours, and does more of the same: a crash at every store of the crash suite's workloads, a directory of a
million files, every byte at every size of message, 50 kills of the service VM under the load of a client, 100000
operations of fsx a run, longer random workloads, the conformance programs on the kernel's own ext4 as well, and the other
programs with every cache of the client. Set before, SKERRY_KILLS and SKERRY_FSX_OPERATIONS are taken as they are.

What the tests of a step counted stays in target/tmp/shown/STEP, with the commit and the time it took, until the step runs again; in
the end all that stands there is printed. So the long form can run in parts, and two parts side by side.
USAGE
}

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
started=$SECONDS
step() { printf '\n==> %s  (%d s)\n' "$*" "$((SECONDS - started))" >&2; }

style() {
    step "style: rustfmt, clippy"
    cargo fmt --all --check
    cargo clippy --locked --quiet -p skerry -p skerry-host --all-targets -- -D warnings
    cargo clippy --locked --quiet --release -p skerry-boot -- -D warnings
    # The fuzz targets are a workspace of their own.
    cargo fmt --all --manifest-path fuzz/Cargo.toml --check
    CARGO_TARGET_DIR=$target/fuzz/build cargo clippy --locked --quiet --manifest-path fuzz/Cargo.toml --workspace --all-targets \
        -- -D warnings
}

deny() {
    step "deny: licenses, bans, sources of the dependencies"
    local tool=target/tools/bin/cargo-deny
    if ! [ -x "$tool" ]; then
        echo "installing cargo-deny below target/tools (some minutes, once)" >&2
        cargo install --quiet --locked --root target/tools cargo-deny
    fi
    local manifest
    for manifest in Cargo.toml fuzz/Cargo.toml; do
        cargo fetch --locked --quiet --manifest-path $manifest
        "$tool" --manifest-path $manifest --offline --log-level error check licenses bans sources
    done
}

unit() {
    step "unit: the core, the host library"
    # Tests are built in several units: as one, which the image's core is, they would keep one processor busy for minutes.
    local units=(--config 'profile.release.package.skerry.codegen-units=16')
    # In release, where it is long.
    cargo test --locked --quiet -p skerry "${units[@]}" "${release[@]}"
    # In any case: in a debug build a missing barrier between driver and device does not show, and costs are others.
    cargo test --locked --quiet -p skerry "${units[@]}" --release --lib -- --nocapture virtq:: mem:: service:: ext4::cost
    host_test --lib --bins --test documents
}

ext4() {
    step "ext4: against mkfs.ext4, debugfs, e2fsck"
    host_test --test ext4_oracle
}

model() {
    step "model: random requests against a model in memory"
    leave_anew model
    host_test "${release[@]}" --test model -- --nocapture
}

fuzz() {
    step "fuzz: what is known, then ${fuzzing[*]} for each target"
    fuzz/run.sh "${fuzzing[@]}"
    [ -z "${SKERRY_LONG:-}" ] || fuzz/control.sh
}

ring() {
    step "ring: the image in QEMU, the preallocated ring, the bridge, host mode"
    build_image
    leave_anew writing
    host_test --test image --test ring --test writing --test front_end --test vhost_user --test serve -- --test-threads=1
}

hostile() {
    step "hostile: clients that mean harm, and one that must not notice"
    build_image
    host_test --test hostile -- --nocapture --test-threads=1
}

client() {
    step "client: Linux client VMs"
    build_image
    leave_anew client
    # A client and its service VM take turns: two tests at a time keep two processors busy. The idle one is measured, and alone.
    host_test --test client_vm -- --nocapture --test-threads=2 --skip idle:: "${ignored[@]}"
    host_test --test client_vm -- --nocapture idle::
}

conformance() {
    step "conformance: pjdfstest, fsx"
    host/provision-tests.sh
    build_image
    leave_anew conformance
    host_test --test conformance -- --nocapture --test-threads=2 "${ignored[@]}"
}

programs() {
    step "programs: git, gcc, dbench, sqlite"
    leave_anew programs
    host/provision-tests.sh
    build_image
    host_test --test programs -- --nocapture --test-threads=1
}

kernel() {
    step "kernel: what the others left, shown to other judges"
    host_test --test kernel -- --nocapture
}

bench() {
    step "bench: the benchmarks run; instructions for each request"
    host/provision-bench.sh
    build_image
    cargo build --locked --quiet --release -p skerry-host
    "$target/release/skerry" bench core --quick >/dev/null
    "$target/release/skerry" bench boot --quick >/dev/null
    "$target/release/skerry" bench scale --quick >/dev/null
    # Those with a Linux client two at a time: the times are not judged.
    two_benchmarks virtfs-table shares
    two_benchmarks meta latency
    "$target/release/skerry" bench instructions --check
    "$target/release/skerry" bench instructions --service-vm --check
}

# Runs two benchmarks at a time.
two_benchmarks() {
    local first status=0
    "$target/release/skerry" bench "$1" --quick >/dev/null &
    first=$!
    "$target/release/skerry" bench "$2" --quick >/dev/null || status=$?
    wait $first || status=$?
    return $status
}

# The volumes that a suite leaves to the step kernel: none from before.
leave_anew() { rm -rf "target/tmp/volumes/$1"; }

build_image() { cargo build --locked --quiet --release -p skerry-boot; }

host_test() { cargo test --locked --quiet -p skerry-host "$@"; }

all=(style deny unit ext4 model fuzz ring hostile client conformance programs kernel bench)
form="short form"
ignored=()
release=()
fuzzing=(--minutes 1 --jobs "$(nproc)")
steps=()
for argument in "$@"; do
    case $argument in
        style | deny | unit | ext4 | model | fuzz | ring | hostile | client | conformance | programs | kernel | bench) steps+=("$argument") ;;
        --long)
            export SKERRY_LONG=1 SKERRY_KILLS=${SKERRY_KILLS:-50} SKERRY_FSX_OPERATIONS=${SKERRY_FSX_OPERATIONS:-100000}
            form="long form"
            ignored=(--include-ignored)
            release=(--release)
            fuzzing=(--minutes 30)
            ;;
        -h | --help) usage; exit 0 ;;
        *) echo "tests/run.sh: no step '$argument'" >&2; usage >&2; exit 2 ;;
    esac
done

step "provision"
host/provision.sh
[ ${#steps[@]} -gt 0 ] || steps=("${all[@]}")
commit=$(git describe --always --dirty --abbrev=7)
mkdir -p target/tmp/shown
for name in "${steps[@]}"; do
    begun=$SECONDS
    log=target/tmp/$name.log
    rm -f "target/tmp/shown/$name"
    "$name" > >(tee "$log")
    wait $!
    counted=$(grep -o 'shown: .*' "$log" | sed 's/^shown: /  /') || true
    printf '%s, %s, at %s: passed in %d s\n%s' "$name" "$form" "$commit" $((SECONDS - begun)) "${counted:+$counted$'\n'}" \
        >"target/tmp/shown/$name"
done
echo
for name in "${all[@]}"; do
    [ ! -e "target/tmp/shown/$name" ] || cat "target/tmp/shown/$name"
done
step "all passed: ${steps[*]}"
