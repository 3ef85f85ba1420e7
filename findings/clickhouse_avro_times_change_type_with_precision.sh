#!/usr/bin/env bash
# ClickHouse 26.9 (chdb-core 26.9.0): in Avro only DateTime64 of precision 3 and 6 is a timestamp, and 9 loses its last digit.
#
# DateTime is written as a plain `int` without a logical type; DateTime64(0), (2) and (9) as decimals of seconds. For (9)
# the schema says decimal(18, 9), but a moment of today has 19 digits. fastavro 1.13.1 keeps to the precision stated and
# rounds without a word: ...123456789 comes back as ...12345679. A UInt64 is written as `long`: a hash above 2^63, as
# `cityHash64` gives for half of all inputs, comes back negative.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check chdb==4.4.0 chdb-core==26.9.0 fastavro==1.13.1 cramjam==2.14.0
cat >"$dir/finding.py" <<'PY'
import io
import chdb, fastavro

moment = "'2026-11-30 12:00:00.123456789'"
columns = [f"toDateTime({moment}, 'UTC') AS seconds"]
columns += [f"toDateTime64({moment}, {digits}, 'UTC') AS d{digits}" for digits in (0, 2, 3, 6, 9)]
columns += ["18446744073709551615 :: UInt64 AS hash"]
rows = fastavro.reader(io.BytesIO(chdb.query("SELECT " + ", ".join(columns), "Avro").bytes()))
row = next(rows)
for field in rows.writer_schema["fields"]:
    kind = field["type"]
    if isinstance(kind, dict):
        kind = " ".join(str(kind[key]) for key in ("logicalType", "precision", "scale") if key in kind)
    print(field["name"], kind, row[field["name"]], sep=" | ")
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py")"
echo "$seen"
[ "$seen" = "seconds | int | 1796040000
d0 | decimal 18 0 | 1796040000
d2 | decimal 18 2 | 1796040000.12
d3 | timestamp-millis | 2026-11-30 12:00:00.123000+00:00
d6 | timestamp-micros | 2026-11-30 12:00:00.123456+00:00
d9 | decimal 18 9 | 1796040000.12345679
hash | long | -1" ]
