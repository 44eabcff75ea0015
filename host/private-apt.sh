# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What the scripts that provision share, which source it: a directory is for one of them at a time, and Debian packages are fetched
# and unpacked there, not installed.
# Relies on `script`, which the messages begin with, and on LC_ALL=C, because apt's words are read.

say() { printf '%s: %s\n' "$script" "$*" >&2; }
die() { say "error: $*"; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else die "this needs root, or sudo: $*"; fi
}

# take_directory DIR : makes that directory and locks it, as file 9, until this script ends.
take_directory() {
    { mkdir -p "$1" && exec 9>>"$1/lock"; } || die "cannot write to $1; was it made by another user?"
    flock --nonblock 9 && return
    say "waiting for another run that uses $1"
    flock 9
}

# Of what apt-get says, how much there is to fetch.
sizes() { sed --unbuffered --quiet "s/^\(Need to get\|Fetched\) /$script:   &/p" >&2; }

# The release that this machine runs.
own_suite() { (. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}"); }

# Sets `mirror` to the one that this machine itself uses for Debian: not its security archive, which has no other
# suites, and no installation disc.
find_mirror() {
    mirror=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' \
        | awk '$1 == "Debian" && $2 !~ /-security$/ && $3 !~ /^cdrom:/ && !found++ { print $3 }')
    [ -n "$mirror" ]
}

# private_apt DIR KINDS SUITE... : prepares an apt that knows only SUITEs and believes nothing is installed; sets `apt`, its
# options. KINDS are the types of its sources: "deb", or "deb deb-src".
private_apt() {
    local dir=$1 kinds=$2 kind suite; shift 2
    if ! find_mirror; then
        say "reading this machine's package lists (apt-get update)"
        as_root apt-get -qq update >&2 || true
        find_mirror || die "no Debian mirror among this machine's apt sources (only Debian 12 and 13 can be set up), or no network"
    fi
    mkdir -p "$dir/state/lists/partial" "$dir/cache/archives/partial" "$dir/empty"
    : >"$dir/status"
    for suite in "$@"; do
        for kind in $kinds; do
            echo "$kind [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
        done
    done >"$dir/sources.list"
    # Read after the machine's own configuration, whose proxies and credentials stay; what would change or follow the result goes.
    cat >"$dir/apt.conf" <<CONFIGURATION
Dir::State "$dir/state";
Dir::State::status "$dir/status";
Dir::Cache "$dir/cache";
Dir::Cache::archives "archives";
Dir::Etc::sourcelist "$dir/sources.list";
Dir::Etc::sourceparts "$dir/empty";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "$dir/empty";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Default-Release "";
APT::Install-Recommends "0";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Debug::NoLocking "1";
CONFIGURATION
    apt=(-q -c "$dir/apt.conf")
    say "reading the package lists of $*"
    apt-get "${apt[@]}" -qq update >&2 || die "cannot read the package lists of $* from $mirror; is there a network?"
}

# fetch_packages SUITE PACKAGE... : fetches those packages and what they depend on, with the apt that private_apt prepared.
fetch_packages() {
    local suite=$1; shift
    apt-get "${apt[@]}" install -y --download-only "$@" | sizes || die "cannot fetch $* of $suite from $mirror"
}

# unpack_packages DIR ROOT : makes ROOT, where there is nothing yet but what the caller put there, a root of the packages that were
# fetched to DIR, and removes DIR. No script of theirs runs.
unpack_packages() {
    local dir=$1 root=$2 directory archive archives=("$1"/cache/archives/*.deb)
    say "unpacking ${#archives[@]} packages"
    mkdir -p "$root/usr"/{bin,sbin,lib,lib64}
    # Packages of Debian 12 have some of their files below /lib and /bin, which an installed system has as links.
    for directory in bin sbin lib lib64; do ln -s "usr/$directory" "$root/$directory"; done
    for archive in "${archives[@]}"; do
        dpkg-deb --fsys-tarfile "$archive" | tar --extract --keep-directory-symlink --directory "$root"
    done
    rm -rf "$dir"
}
