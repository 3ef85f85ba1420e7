#!/usr/bin/env bash
# Builds the console's page: dashboards/console/src into dashboards/console/dist, which the program embeds.
#
#   compose/build-console.sh          build it, unless it was built from these sources already
#
# Needs node (18 or newer) and npm. Without them it says so and succeeds: everything else of Weir works
# without the page, and the console says what is missing.
set -euo pipefail
cd "$(dirname "$0")/../dashboards/console"

say() { printf '%s\n' "$*" >&2; }

node_major="$(node --version 2>/dev/null | sed 's/^v//; s/\..*//')" || node_major=
if [ -z "$node_major" ] || ! command -v npm >/dev/null; then
  say "The console's page is not built: node and npm are missing (Debian: apt-get install nodejs npm)."
  say "Install them, run compose/build-console.sh, and build weir again."
  exit 0
fi
if [ "$node_major" -lt 18 ]; then
  say "The console's page is not built: node is $(node --version), and it needs v18 or newer."
  exit 0
fi

sources="$(find src package.json package-lock.json tsconfig.json build.mjs -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)"
stamp=dist.stamp
# One at a time.
exec 9>>"$stamp.lock"
if command -v flock >/dev/null; then flock 9; fi
if [ -f dist/index.html ] && [ "$(cat "$stamp" 2>/dev/null)" = "$sources" ]; then
  say "the console's page is there: dashboards/console/dist"
  exit 0
fi

# The stamp is written last: what is half built is built again.
rm -f "$stamp"
npm ci --silent --no-audit --no-fund --ignore-scripts
npm run --silent check
npm run --silent build
printf '%s\n' "$sources" >"$stamp"
