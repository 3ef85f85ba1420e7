#!/usr/bin/env bash
# ClickHouse 26.7 (chdb-core 26.7.3): a query setting makes an aggregate projection answer with wrong hours.
#
# With `enable_extended_results_for_datetime_functions = 1`, `toStartOfHour` of a DateTime64 gives DateTime64 instead of
# DateTime. A projection that was built without the setting holds DateTime; the query takes its bytes as DateTime64, so
# the hours come out in 1970 and in the year 6413, without an error. `optimize_use_projections = 0` makes it right, and so
# does 26.9.0. Who sets the option for a session gets wrong charts from tables whose projections are older.
# Seen: hours of 2026 without the setting, others with it. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cat >"$dir/finding.py" <<'PY'
import sys
from chdb.session import Session

session = Session(sys.argv[2])
session.query(
    "CREATE TABLE calls (id UInt64, at DateTime64(3, 'UTC'), tokens UInt32, "
    "PROJECTION hourly (SELECT toStartOfHour(at), sum(tokens) GROUP BY toStartOfHour(at))) "
    "ENGINE = MergeTree ORDER BY id")
session.query(
    "INSERT INTO calls SELECT number, toDateTime64('2026-11-30 12:00:00', 3, 'UTC') + number, 1 FROM numbers(10000)")
told = []
extended = "enable_extended_results_for_datetime_functions = 1"
for settings in ["", f"SETTINGS {extended}", f"SETTINGS {extended}, optimize_use_projections = 0"]:
    hours = session.query(
        f"SELECT toStartOfHour(at) AS hour, sum(tokens) FROM calls GROUP BY hour {settings}", "TSV")
    told.append("right" if all(line.startswith("2026-11-30 1") for line in str(hours).splitlines()) else "wrong")
print(sys.argv[1], "plain", told[0], "extended", told[1], "without projection", told[2], sep=" | ")
PY
seen="$(
  for version in 26.7.3 26.9.0; do
    python3 -m venv "$dir/$version"
    "$dir/$version/bin/pip" install --quiet --disable-pip-version-check "chdb-core==$version"
    "$dir/$version/bin/python" "$dir/finding.py" "$version" "$dir/data-$version"
  done
)"
echo "$seen"
[ "$seen" = "26.7.3 | plain | right | extended | wrong | without projection | right
26.9.0 | plain | right | extended | right | without projection | right" ]
