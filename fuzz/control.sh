#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Shows that fuzz targets find a core that is broken: plants a fault in a copy of the sources, mostly by taking a check out, one for
# each target here, and lets the target look for what follows from that. A target that finds nothing within two minutes fails the run. It starts from the seeds
# alone, without the inputs of fuzz/regressions. The copy and what is built from it stay below target/fuzz/control.
set -euo pipefail
cd "$(dirname "$0")/.."

# Target, file, and what sed does to the file.
faults=(
    'wire src/wire/codec.rs s/count => Err(WireError::TrailingBytes .*/_ => Ok(()),/'
    'model src/ext4/create.rs 0,/if self.find_name(directory, name)?.is_some() {/s//if false {/'
    'split_ring src/virtq/chain.rs s/= left.checked_sub(1) else/= Some(left) else/'
    'volume src/ext4/dirent.rs s/if length < \(SHORTEST\|name_end\) {/if false {/'
    'journal src/ext4/journal/recovery.rs s/(self.area.offset(position), home, size)/(self.area.offset(position), home, size \/ 2)/'
)
seconds=120

usage() {
    cat <<USAGE
usage: fuzz/control.sh [TARGET ...]

Plants a fault in a copy of the core for each target and fails if the target does not find it in $seconds seconds.
Targets: ${faults[*]%% *}
USAGE
}

main() {
    local target
    for target in "$@"; do
        case $target in
            -h | --help) usage; exit 0 ;;
        esac
        [[ " ${faults[*]%% *} " == *" $target "* ]] || {
            echo "fuzz/control.sh: no fault for a target '$target'" >&2
            usage >&2
            exit 2
        }
    done
    place=target/fuzz/control
    mkdir -p "$place"
    local fault file change log
    for fault in "${faults[@]}"; do
        read -r target file change <<<"$fault"
        [ $# -eq 0 ] || [[ " $* " == *" $target "* ]] || continue
        # All of it anew: the file of the fault before is whole again, and what has not changed keeps its time.
        copy
        sed -i "$change" "$place/$file"
        if cmp --silent "$file" "$place/$file"; then
            echo "fuzz/control.sh: there is nothing in $file for $change" >&2
            exit 1
        fi
        log=$place/$target.log
        if "$place/fuzz/run.sh" --seconds $seconds "$target" >"$log" 2>&1; then
            echo "fuzz/control.sh: $target finds nothing in $seconds seconds with $change in $file" >&2
            exit 1
        fi
        # That it is not the build which failed.
        grep -q "^shown: fuzz $target: .* crashes 1\$" "$log" || { tail -n 40 "$log" >&2; exit 1; }
        echo "shown: fuzz control: $target finds a fault in $file: $(sed -n 's/^shown: [^:]*: //p' "$log")"
    done
}

copy() {
    local path
    while IFS= read -r -d '' path; do
        [ -f "$path" ] || continue
        cmp --silent "$path" "$place/$path" || install -D --mode="$(stat -c %a "$path")" "$path" "$place/$path"
    done < <(git ls-files -z -- Cargo.toml Cargo.lock rust-toolchain.toml src boot host tests fuzz ':!fuzz/regressions')
}

main "$@"
