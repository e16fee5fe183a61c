# Shared by the scripts of this folder; sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# What a user should know while waiting; results go to standard output, this does not.
note() {
    echo "idemgate: $*" >&2
}

# Ends the script with one message: what is missing, then each further argument as a line on how to get it.
die() {
    echo "idemgate: error: $1" >&2
    shift
    printf '  %s\n' "$@" >&2
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Runs the rest of this script alone among the scripts that take the same lock, so that two makes at once do not
# install the same thing twice. Where `flock` is missing they may, and the last one wins: every result is moved
# into place whole.
take_lock() {
    mkdir -p "$ROOT/.tools"
    if have flock; then
        exec 9>"$ROOT/.tools/$1.lock"
        flock 9
    fi
}

# Whether packages of Debian or a distribution made from it can be installed without asking anyone.
can_apt() {
    have apt-get && { [ "$(id -u)" = 0 ] || { have sudo && sudo -n true 2>/dev/null; }; }
}

# Renews the lists of packages: those that were fetched long ago name versions that the archive no longer has. One
# source of several may fail to answer; what is installed next tells whether that mattered.
apt_update() {
    local as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q </dev/null || true
}

# Installs Debian packages quietly; its output is shown only if it fails.
apt_install() {
    local as_root=() log
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    log=$(mktemp)
    apt_update >"$log" 2>&1
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" >>"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

# Installs Node.js and npm unless they are there; each argument is a line on what to do if that fails.
setup_node() {
    have node && have npm && return
    if can_apt; then
        note "installing Debian's nodejs and npm"
        apt_install nodejs npm && return
    fi
    die "Node.js with npm is missing and could not be installed" \
        "On Debian 12 or newer, as root: apt-get install --no-install-recommends nodejs npm" "$@"
}

# Stops the server that a package of Debian starts, now and at each boot, which nobody asked for.
stop_service() {
    local as_root=() failed="the $1 service of this machine could not be stopped; the tests do not use it"
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    if [ -d /run/systemd/system ]; then
        "${as_root[@]}" systemctl disable --now "$1" >/dev/null 2>&1 || note "$failed"
    elif [ -x "/etc/init.d/$1" ]; then
        "${as_root[@]}" "/etc/init.d/$1" stop >/dev/null 2>&1 || note "$failed"
        "${as_root[@]}" update-rc.d "$1" disable >/dev/null 2>&1 || true
    fi
}

# Installs pip unless it is there.
need_pip() {
    python3 -m pip --version >/dev/null 2>&1 && return
    can_apt && note "installing Debian's python3-pip" && apt_install python3-pip && return
    die "pip is missing and could not be installed" "As root: apt-get install --no-install-recommends python3-pip"
}
