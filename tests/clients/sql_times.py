"""Every column of Weir's tables and views that holds a time, read in Arrow and in Avro: prints those that are no
time there, and how many there are. `sql_times.py URL_OF_THE_STORE USER PASSWORD`"""

import io
import json
import sys
import urllib.parse
import urllib.request

import fastavro
import nanoarrow


def ask(statement, form):
    # The default codec of ClickHouse, Snappy, needs a package of its own in Python.
    _, _, user, password = sys.argv
    query = {"default_format": form, "output_format_avro_codec": "deflate", "user": user, "password": password}
    query = urllib.parse.urlencode(query)
    request = urllib.request.Request(f"{sys.argv[1]}/?{query}", data=statement.encode())
    return urllib.request.urlopen(request).read()


def of_arrow(table):
    stream = nanoarrow.ArrayStream.from_readable(io.BytesIO(ask(f"SELECT * FROM weir.{table} LIMIT 1", "ArrowStream")))
    return {field.name: field.type.name for field in stream.schema.fields}


def of_avro(table):
    reader = fastavro.reader(io.BytesIO(ask(f"SELECT * FROM weir.{table} LIMIT 1", "Avro")))
    row = next(iter(reader), {})
    types = {}
    for field in reader.writer_schema["fields"]:
        name, kinds = field["name"], field["type"] if isinstance(field["type"], list) else [field["type"]]
        types[name] = next((kind["logicalType"] for kind in kinds if isinstance(kind, dict) and "logicalType" in kind), "none")
        if isinstance(row.get(name), int):
            types[name] = "a number"
    return types


columns = [json.loads(line) for line in ask(
    "SELECT table, name, type FROM system.columns WHERE database = 'weir' AND type LIKE '%Date%' ORDER BY table, name",
    "JSONEachRow",
).splitlines()]
known = {"TIMESTAMP", "DATE32", "timestamp-millis", "timestamp-micros", "date"}
wrong, formats = [], {}
for column in columns:
    table, name = column["table"], column["name"]
    if table not in formats:
        formats[table] = (of_arrow(table), of_avro(table))
    wrong += [[table, name, column["type"], types[name]] for types in formats[table] if types[name] not in known]
print(json.dumps({"columns": len(columns), "wrong": wrong}))
