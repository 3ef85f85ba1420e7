#!/usr/bin/env bash
# Fetches the ClickHouse engine that Weir embeds: libchdb.so, from its npm package, 178 MB.
#
#   compose/fetch-engine.sh                 fetch it with npm, as npm is configured on this machine
#   compose/fetch-engine.sh --from FILE     take a tarball that is here already
#   compose/fetch-engine.sh --where         print where the library goes, and fetch nothing
#
# The tarball must have the checksum that stands below; nothing of it is kept or run otherwise. The
# library ends in ${WEIR_CACHE:-.weir}/chdb/VERSION/libchdb.so, where Weir looks for it. Can be run
# again at any time, and twice at once: what is there already is kept.
set -euo pipefail

# The version that ingestor/store/src/engine.rs is written for (a test holds the two together).
VERSION=26.7.3-stable.1

# platform, package, SHA-512 of the tarball, bytes of the library
PINNED="
Linux-x86_64 @chdb/lib-linux-x64-gnu 5cff7b98caa7739b59a4a432c11f0dedc2d3b073624e61ebdf4a42e66ce8de35a6ba48ca9f62016bad1cd81fe059435cb858ce3235a8a2b408082a81563e70a7 566330096
"

root="$(cd "$(dirname "$0")/.." && pwd)"
target="${WEIR_CACHE:-$root/.weir}/chdb/$VERSION/libchdb.so"

say() { printf '%s\n' "$*" >&2; }
fail() { say "fetch-engine: $*"; exit 1; }

from=
case "${1:-}" in
  "") ;;
  --where) printf '%s\n' "$target"; exit 0 ;;
  --from) from="${2:?--from needs a file}"; [ -r "$from" ] || fail "cannot read $from" ;;
  *) say "usage: fetch-engine.sh [--from FILE | --where]"; exit 2 ;;
esac

platform="$(uname -s)-$(uname -m)"
package='' checksum='' bytes=''
while read -r name row_package row_checksum row_bytes; do
  [ "$name" = "$platform" ] || continue
  package=$row_package checksum=$row_checksum bytes=$row_bytes
done <<<"$PINNED"
[ -n "$package" ] || fail "there is no checked package for $platform.
Use a ClickHouse server instead ([store] kind = \"clickhouse\"), or set WEIR_CHDB_LIB to a libchdb.so \
of version ${VERSION%%-*}."

size_of() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

if [ "$(size_of "$target")" = "$bytes" ]; then
  say "the engine is there: $target"
  exit 0
fi

mkdir -p "$(dirname "$target")"
work="$(mktemp -d "$(dirname "$target")/fetch.XXXXXX")"
ticker=
cleanup() {
  if [ -n "$ticker" ]; then kill "$ticker" 2>/dev/null || true; fi
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

if [ -z "$from" ]; then
  command -v npm >/dev/null || fail "npm is missing (Debian: apt-get install npm).
Or fetch the tarball of $package@$VERSION elsewhere and run: $0 --from FILE"
  say "fetching $package@$VERSION with npm (178 MB)"
  if [ -t 2 ]; then
    # npm says nothing while it works.
    (seconds=0; while sleep 1; do seconds=$((seconds + 1)); printf '\r  %d s' "$seconds" >&2; done) &
    ticker=$!
  fi
  if ! npm pack "$package@$VERSION" --pack-destination "$work" --silent >"$work/npm.out" 2>"$work/npm.err"; then
    [ -t 2 ] && say ""
    tail -n 5 "$work/npm.err" >&2
    fail "npm could not fetch the package. Is its registry reachable? (npm config get registry)"
  fi
  if [ -n "$ticker" ]; then kill "$ticker" 2>/dev/null || true; ticker=; say ""; fi
  for tarball in "$work"/*.tgz; do from=$tarball; done
fi

say "checking it"
if command -v sha512sum >/dev/null; then found="$(sha512sum "$from")"; else found="$(shasum -a 512 "$from")"; fi
[ "${found%% *}" = "$checksum" ] || fail "$from has not the checksum that is expected of $package@$VERSION:
  expected $checksum
  found    ${found%% *}
Nothing was installed. If the package was changed at its source, that is a reason for alarm."

say "unpacking it"
tar -xzf "$from" -C "$work" package/libchdb.so
[ "$(size_of "$work/package/libchdb.so")" = "$bytes" ] || fail "the library did not unpack whole: is the disk full?"
chmod 644 "$work/package/libchdb.so"
# A rename within one directory tree: the library is there whole or not at all.
mv -f "$work/package/libchdb.so" "$target"
say "the engine is there: $target"
