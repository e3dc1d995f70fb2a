#!/bin/sh
# Unpack Exim beside Postfix: the two Debian packages exclude each other, the programs do not. Only the binary is wanted;
# the tests bring its configuration and spool, and nothing here starts by itself. Where `harness/exim.py` looks for it:
target=/usr/local/lib/mta-peers
set -eu
export DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin"

has_program() { [ -x "$target/usr/sbin/exim4" ] || command -v exim4 >/dev/null; }
has_user() { getent passwd Debian-exim >/dev/null; }

if has_program && has_user; then exit; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "missing: please run tests/harness/exim.sh as root on Debian, or install exim4-daemon-light" >&2
    exit 1
fi

# Debian's Exim does not start, whatever its configuration says, unless this user is there.
has_user ||
    useradd --system --user-group --no-create-home --home-dir /var/spool/exim4 --shell /usr/sbin/nologin Debian-exim

if ! has_program; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cd "$work"
    apt-get -qq update
    apt-get -qq -o APT::Sandbox::User=root download exim4-daemon-light
    # shellcheck disable=SC2046  # one word a library
    apt-get -qq install -y --no-install-recommends \
        $(dpkg-deb -f exim4-daemon-light_*.deb Depends | tr ',' '\n' | sed -n 's/^ *\(lib[^ |]*\).*/\1/p') >/dev/null
    mkdir -p "$target/usr/sbin"
    dpkg-deb -x exim4-daemon-light_*.deb unpacked
    # In one step: whoever finds it finds all of it.
    cp unpacked/usr/sbin/exim4 "$target/usr/sbin/exim4.part"
    mv "$target/usr/sbin/exim4.part" "$target/usr/sbin/exim4"
fi
