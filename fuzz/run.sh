#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the fuzz targets, replays what is known, then lets libFuzzer go on from there.
#
# It needs no nightly compiler and no cargo-fuzz: the coverage that libFuzzer steers by is a pass of LLVM that the pinned stable
# compiler has. What is known is, for each target: fuzz/seeds/TARGET (small inputs that lead far, chosen from what long runs
# found), fuzz/regressions/TARGET (inputs that once failed), and target/fuzz/corpus/TARGET (what earlier runs found, kept from run
# to run). Volumes are made by mkfs.ext4 and debugfs below target/fuzz/volumes, once.
#
# An input that fails stays in target/fuzz/crashes/TARGET. When the fault is found and mended, it goes to
# fuzz/regressions/TARGET, and a unit test stands beside the code.
set -euo pipefail
cd "$(dirname "$0")/.."

targets=(wire session model split_ring packed_ring volume journal vhost_user)

usage() {
    cat <<USAGE
usage: fuzz/run.sh [--replay | --minutes N | --seconds N] [--seed N] [--jobs N] [TARGET ...]

Replays seeds, regressions and the kept corpus of each target, then fuzzes each for some time (one minute, if nothing is said).
Targets: ${targets[*]}

  --replay      replay only
  --minutes N   fuzz each target for N minutes
  --seconds N   fuzz each target for N seconds
  --seed N      the seed of libFuzzer's random numbers (1 if nothing is said; 0 is another each time)
  --jobs N      N targets at a time, each on one processor (1 if nothing is said)
  --build       build only

One line a target is printed on success, when it ends. An input that crashes the target, takes 10 seconds or 2 GiB of memory, ends
that target, and in the end the run, with a non-zero status; what it says then is where the input is and how to replay it.
USAGE
}

# Read as a whole before it starts, so that it can be changed while it runs.
main() {
    seconds=60
    seed=1
    jobs=1
    chosen=()
    while [ $# -gt 0 ]; do
        case $1 in
            --replay) seconds=0 ;;
            --minutes) seconds=$((${2:?--minutes needs a number} * 60)); shift ;;
            --seconds) seconds=$((${2:?--seconds needs a number})); shift ;;
            --seed) seed=$((${2:?--seed needs a number})); shift ;;
            --jobs) jobs=$((${2:?--jobs needs a number})); shift ;;
            --build) seconds=-1 ;;
            -h | --help) usage; exit 0 ;;
            *)
                case " ${targets[*]} " in
                    *" $1 "*) chosen+=("$1") ;;
                    *) echo "fuzz/run.sh: no target '$1'" >&2; usage >&2; exit 2 ;;
                esac
                ;;
        esac
        shift
    done
    [ ${#chosen[@]} -gt 0 ] || chosen=("${targets[@]}")
    [ "$jobs" -ge 1 ] || { echo "fuzz/run.sh: --jobs $jobs" >&2; exit 2; }

    for tool in g++ mkfs.ext4 debugfs; do
        PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null || {
            echo "fuzz/run.sh: $tool is missing: apt-get install g++ e2fsprogs" >&2
            exit 1
        }
    done

    # What cargo-fuzz passes for `--sanitizer none`: edges are counted, and what comparisons compare is seen. With --target the
    # flags are not those of build scripts.
    host=x86_64-unknown-linux-gnu
    flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
    flags+=" -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
    flags+=" -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0"
    flags+=" -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1"

    echo "building (some minutes, the first time)" >&2
    bins=()
    for target in "${chosen[@]}"; do bins+=(--bin "$target"); done
    RUSTFLAGS=$flags CARGO_TARGET_DIR=$PWD/target/fuzz/build \
        cargo build --locked --quiet --release --workspace --manifest-path fuzz/Cargo.toml --target $host "${bins[@]}"
    [ "$seconds" -ge 0 ] || exit 0

    binaries=target/fuzz/build/$host/release
    export SKERRY_FUZZ_VOLUMES=$PWD/target/fuzz/volumes
    # Each input allocates the same again: the heap keeps what it has.
    export MALLOC_TRIM_THRESHOLD_=268435456 MALLOC_MMAP_THRESHOLD_=268435456
    status=0
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap end_all EXIT
    for target in "${chosen[@]}"; do
        [ ${#running[@]} -lt "$jobs" ] || await_one
        start
    done
    while [ ${#running[@]} -gt 0 ]; do await_one; done
    exit $status
}

# The targets that run and when they began, by their process.
declare -A running=() began=()

# Starts $target.
start() {
    local corpus=target/fuzz/corpus/$target crashes=target/fuzz/crashes/$target
    local known=("$corpus") place
    mkdir -p "$corpus" "$crashes"
    for place in seeds regressions; do
        [ ! -d "fuzz/$place/$target" ] || known+=("fuzz/$place/$target")
    done
    local options=(-max_len=2048 -len_control=0 -timeout=10 -rss_limit_mb=2048 -seed="$seed" -artifact_prefix="$crashes/")
    options+=(-print_final_stats=1)
    if [ "$seconds" -eq 0 ]; then
        options+=(-runs=0)
    else
        options+=(-max_total_time="$seconds")
    fi
    "$binaries/$target" "${options[@]}" "${known[@]}" >"target/fuzz/$target.log" 2>&1 &
    running[$!]=$target
    began[$!]=$SECONDS
}

# Waits until one of those that run has ended, and tells how.
await_one() {
    local process failed=0
    wait -n -p process "${!running[@]}" || failed=1
    local target=${running[$process]} took=$((SECONDS - began[$process]))
    unset "running[$process]"
    local log=target/fuzz/$target.log executions points input
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    points=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    echo "shown: fuzz $target: ${executions:-0} executions, ${points:-0} coverage points, $took seconds, crashes $failed"
    if [ $failed -ne 0 ]; then
        status=1
        input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
        {
            tail -n 40 "$log" | cut -c1-300
            echo "fuzz/run.sh: $target failed${input:+ with the input $input}; all it said is in $log"
            echo "replay: SKERRY_FUZZ_VOLUMES=$SKERRY_FUZZ_VOLUMES $binaries/$target ${input:-INPUT}"
        } >&2
    fi
}

# Ends what still runs: this run was interrupted, or has failed itself.
end_all() {
    local process
    for process in "${!running[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
}

main "$@"
