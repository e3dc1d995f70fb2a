#!/bin/sh
# Install Haraka where bench/peers/haraka.py looks for it: a folder of its own, with what it cannot do without. It takes
# Node.js 20 or later, and npm, which are not installed here: Debian 12 has an older one, with hundreds of packages.
target=/usr/local/lib/mta-peers/haraka
version=3.3.4
set -eu

if [ "$(cat "$target/version" 2>/dev/null)" = "$version" ]; then exit; fi
command -v npm >/dev/null || { echo 'missing: please install Node.js 20 or later, with npm' >&2; exit 1; }
mkdir -p "$target"
# Nothing that a package wants to run is run; its optional plugins are not needed.
npm install --silent --prefix "$target" --omit=optional --ignore-scripts --no-audit --no-fund --no-save \
    "Haraka@$version" >/dev/null
# The last: whoever finds it finds all of it.
echo "$version" >"$target/version"
