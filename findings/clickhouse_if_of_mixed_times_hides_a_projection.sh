#!/usr/bin/env bash
# ClickHouse 26.7 and 26.9 (chdb-core 26.7.3, 26.9.0): a constant condition keeps a query from its projection, if the
# branches' types differ.
#
# Dashboards let a variable choose the bucket: `if(<constant>, toStartOfHour(at), …)`. Where both branches are DateTime,
# the constant is folded and an aggregate projection by toStartOfHour(at) answers. Where the other branch is the
# DateTime64 column itself, the result is the same hour as DateTime64, and all rows are read: nothing says so but EXPLAIN.
# multiIf is the same. A cast of the first branch to the common type by hand brings the projection back.
# Seen: which of the queries read the projection. Fails if that changes.
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
    "INSERT INTO calls SELECT number, toDateTime64('2026-11-30 12:00:00', 3, 'UTC') + number, 1 FROM numbers(100000)")
told = []
for name, bucket in [
    ("plain", "toStartOfHour(at)"),
    ("same type", "if(true, toStartOfHour(at), toStartOfDay(at))"),
    ("other type", "if(true, toStartOfHour(at), at)"),
    ("multiIf", "multiIf(true, toStartOfHour(at), at)"),
    ("cast", "if(true, toDateTime64(toStartOfHour(at), 3), at)"),
]:
    plan = str(session.query(f"EXPLAIN SELECT {bucket} AS bucket, sum(tokens) FROM calls GROUP BY bucket", "TSV"))
    told.append(f"{name}: {'projection' if '(hourly)' in plan else 'rows'}")
print(sys.argv[1], *told, sep=" | ")
PY
seen="$(
  for version in 26.7.3 26.9.0; do
    python3 -m venv "$dir/$version"
    "$dir/$version/bin/pip" install --quiet --disable-pip-version-check "chdb-core==$version"
    "$dir/$version/bin/python" "$dir/finding.py" "$version" "$dir/data-$version"
  done
)"
echo "$seen"
[ "$seen" = "26.7.3 | plain: projection | same type: projection | other type: rows | multiIf: rows | cast: projection
26.9.0 | plain: projection | same type: projection | other type: rows | multiIf: rows | cast: projection" ]
