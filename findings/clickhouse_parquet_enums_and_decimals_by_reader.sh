#!/usr/bin/env bash
# One Parquet file of ClickHouse 26.9 (chdb-core 26.9.0), four readers, three answers.
#
# ClickHouse writes an Enum as a byte array with Parquet's ENUM mark. pyarrow 26.0.1, and so pandas 3.1.1, ignores the mark
# and gives bytes: `frame.status == "ok"` is false in every row, without an error. DuckDB 2.0.1 and polars 2.1.0 give text.
# Decimal256 is exact in pyarrow, a DOUBLE in DuckDB (the last digits of a sum of money are gone), and one such column
# makes polars refuse the file unless it is left out.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check chdb==4.4.0 chdb-core==26.9.0 \
  pyarrow==26.0.1 pandas==3.1.1 duckdb==2.0.1 polars==2.1.0
cat >"$dir/finding.py" <<'PY'
import sys
import chdb, duckdb, pandas, polars, pyarrow.parquet

path = sys.argv[1]
with open(path, "wb") as file:
    file.write(chdb.query(
        "SELECT CAST('ok' AS Enum8('ok' = 1, 'error' = 2)) AS status, "
        "toDecimal256('0.123456789012345678', 18) AS dollars", "Parquet").bytes())
print("pyarrow", *pyarrow.parquet.read_table(path).to_pylist()[0].values(), sep=" | ")
frame = pandas.read_parquet(path)
print("pandas", (frame.status == "ok").sum(), "rows are ok")
print("duckdb", *duckdb.sql(f"SELECT * FROM '{path}'").fetchall()[0], sep=" | ")
print("polars", polars.scan_parquet(path).select("status").collect().item(), sep=" | ", end=" | ")
try:
    print(polars.read_parquet(path).to_dicts())
except polars.exceptions.ComputeError as error:
    print("refused" if "can't decode Decimal128" in str(error) else error)
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py" "$dir/calls.parquet")"
echo "$seen"
[ "$seen" = "pyarrow | b'ok' | 0.123456789012345678
pandas 0 rows are ok
duckdb | ok | 0.12345678901234568
polars | ok | refused" ]
