#!/usr/bin/env bash
# Puts promtool, which checks the rules here, into ${WEIR_CACHE:-.weir}/promtool. It comes from Debian's package
# of Prometheus, which is unpacked and not installed: nothing is started.
set -euo pipefail
cd "$(dirname "$0")/../.."
cache="${WEIR_CACHE:-$PWD/.weir}/promtool"
[ -x "$cache/promtool" ] && exit 0
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
(cd "$work" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb unpacked)
mkdir -p "$cache"
cp "$work/unpacked/usr/bin/promtool" "$cache/"
