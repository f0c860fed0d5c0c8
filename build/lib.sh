# shellcheck shell=bash disable=SC2154
# Shell words of build/check and build/demo (bash). The script that reads this file sets
#   top    the source tree
#   logs   a folder for the output of quiet commands

say() {
    printf '%s\n' "$*"
}

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Runs a command in silence; its output is kept, and the end of it shown when it fails.
quietly() {
    local log="$logs/$1"
    shift
    printf '+ %s\n' "$*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null || {
        tail -n 60 "$log"
        say "(all of it: $log)"
        return 1
    }
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root or sudo: $*"
    fi
}

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# missing_packages GROUP...: names in build/packages that this machine lacks.
missing_packages() {
    local group word rest
    while read -r group word rest; do
        case " $* " in *" $group "*) ;; *) continue ;; esac
        case $word in
        command:*)
            command -v "${word#command:}" >/dev/null && continue
            word=${rest%% *}
            ;;
        esac
        installed "$word" || say "$word"
    done < <(grep -v '^#' "$top/build/packages")
}

# install_packages GROUP...: asks apt only when something is missing.
install_packages() {
    local missing
    command -v dpkg-query >/dev/null || {
        say "This is no Debian: build/packages lists what must be installed."
        return 0
    }
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086
    say "installing:" $missing
    # shellcheck disable=SC2086,SC2016
    quietly apt as_root env DEBIAN_FRONTEND=noninteractive sh -c '
        apt-get -q -o DPkg::Lock::Timeout=300 update &&
        apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"' apt $missing
}

everybody_enters() {
    local folder
    folder=$(cd "$1" 2>/dev/null && pwd -P) || return 1
    while :; do
        case $(stat -c %A "$folder") in *x | *t) ;; *) return 1 ;; esac
        [ "$folder" = / ] && return 0
        folder=$(dirname "$folder")
    done
}

# make_work_folder NAME: prints a new folder that httpd's user, too, can enter. It lies
# below TMPDIR if that lets everybody through, and holds tmp/, where all may write.
make_work_folder() {
    local parent folder
    for parent in "${TMPDIR:-/tmp}" /tmp; do
        everybody_enters "$parent" || continue
        folder=$(mktemp -d "$parent/$1.XXXXXX") || continue
        chmod 755 "$folder"
        mkdir -m 1777 "$folder/tmp"
        say "$folder"
        return 0
    done
    die "neither TMPDIR nor /tmp can be entered by everybody"
}

# configure, made from configure.ac when it is missing or older than what it is made of.
make_configure() {
    local source
    for source in configure.ac Makefile.am build/m4/qo_apxs.m4 build/m4/qo_flags.m4 build/m4/qo_hiredis.m4 build/m4/qo_lmdb.m4; do
        if [ "$top/$source" -nt "$top/configure" ] || [ "$top/$source" -nt "$top/Makefile.in" ]; then
            quietly autoreconf autoreconf -fi "$top"
            return
        fi
    done
}

# build_in FOLDER OPTION...: configures (again when the options changed) and makes. Without
# options a folder stays configured as it is.
build_in() {
    local folder=$1 name=${1##*/}
    shift
    [ ! -f "$top/config.status" ] || die "the source folder is configured itself: run make distclean there"
    make_configure
    mkdir -p "$folder"
    # shellcheck disable=SC2046
    [ $# != 0 ] || set -- $(cat "$folder/options" 2>/dev/null)
    if [ ! -f "$folder/Makefile" ] || [ "$top/configure" -nt "$folder/config.status" ] ||
        [ "$*" != "$(cat "$folder/options" 2>/dev/null)" ]; then
        (cd "$folder" && quietly "$name.configure" "$top/configure" "$@")
        say "$*" >"$folder/options"
    fi
    quietly "$name.make" make -C "$folder" -j "$(nproc)"
}
