#!/bin/sh
# Unpack Exim and OpenSMTPD beside Postfix: the Debian packages exclude each other, the programs do not. Only programs
# are wanted; `bench.peers` brings their configuration and spool, and nothing here starts by itself.
#     sh bench/peers/beside.sh [exim4 | smtpd]...
# Where bench/peers looks for them:
target=/usr/local/lib/mta-peers
set -eu
export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"

has_program() { [ -x "$target/usr/sbin/$1" ] || command -v "$1" >/dev/null; }
has_user() { getent passwd "$1" >/dev/null; }

# package, its program, where its daemons live, and the users without whom they do not start, whatever one configures
unpack() {
    package=$1 program=$2 home=$3
    shift 3
    missing=
    has_program "$program" || missing=$program
    for user; do
        has_user "$user" || missing="$missing $user"
    done
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "missing: please run bench/peers/beside.sh as root on Debian, or install $package" >&2
        exit 1
    fi
    for user; do
        has_user "$user" ||
            useradd --system --user-group --no-create-home --home-dir "$home" --shell /usr/sbin/nologin "$user"
    done
    has_program "$program" || (
        work=$(mktemp -d)
        trap 'rm -rf "$work"' EXIT
        cd "$work"
        apt-get -qq update
        apt-get -qq -o APT::Sandbox::User=root download "$package"
        # shellcheck disable=SC2046  # one word a library
        apt-get -qq install -y --no-install-recommends \
            $(dpkg-deb -f "$package"_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |]*\).*/\1/p') >/dev/null
        mkdir -p "$target/usr/sbin"
        dpkg-deb -x "$package"_*.deb unpacked
        # In one step: whoever finds it finds all of it.
        cp "unpacked/usr/sbin/$program" "$target/usr/sbin/$program.part"
        mv "$target/usr/sbin/$program.part" "$target/usr/sbin/$program"
    )
}

[ $# -gt 0 ] || set -- exim4 smtpd
for name; do
    case $name in
    exim4) unpack exim4-daemon-light exim4 /var/spool/exim4 Debian-exim ;;
    smtpd) unpack opensmtpd smtpd /var/lib/opensmtpd/empty opensmtpd opensmtpq ;;
    *) echo "beside.sh: no such program: $name" >&2; exit 2 ;;
    esac
done
