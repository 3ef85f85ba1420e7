"""ClickHouse's Python client as the store's reader: prints what it reads, and what it raises for what it may not do."""

import json
import sys

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

HOST, PORT, PASSWORD, OPERATOR = sys.argv[1:]


def connect(password=PASSWORD, username="reader", **options):
    return clickhouse_connect.get_client(
        host=HOST, port=int(PORT), username=username, password=password, database="weir", **options
    )


def code(call):
    """The code of ClickHouse that the client's own exception has."""
    try:
        call()
    except ClickHouseError as error:
        return error.code or repr(error)
    return "nothing"


client = connect()
tables = client.query("SELECT name FROM system.tables WHERE database = 'weir'").result_rows
many = "SELECT number, toString(number) FROM numbers(300000)"
with client.query_row_block_stream(many) as blocks:
    rows = sum(len(block) for block in blocks)
packed = [connect(compress=coding).query(many).row_count for coding in ("lz4", "zstd", "gzip", False)]
sent = {"wait_end_of_query": 1, "send_progress_in_http_headers": 1, "max_execution_time": 60, "session_timeout": 60}
row = client.query("SELECT alias, status, output_tokens, cost_usd, usage_source FROM requests").first_row
print(
    json.dumps(
        {
            "tables": len([client.query(f"SELECT * FROM `{name}`").column_names for (name,) in tables]),
            "row": [str(value) for value in row],
            "rows": rows,
            "packed": packed,
            "settings": client.query("SELECT {x:UInt32}", parameters={"x": 5}, settings=sent).first_row[0],
            "session": connect(session_id="one").query("SELECT 1").first_row[0],
            "operator": connect(password=OPERATOR, username="operator").query("SELECT 1").first_row[0],
            "raised": {
                "password": code(lambda: connect(password="wrong")),
                "insert": code(
                    lambda: client.insert("requests", [[200]], column_names=["status"], column_type_names=["UInt16"])
                ),
                "drop": code(lambda: client.command("DROP TABLE requests")),
                "temporary": code(lambda: client.command("CREATE TEMPORARY TABLE mine (a UInt8)")),
                "beyond": code(lambda: client.query("SELECT 1", settings={"max_memory_usage": 0})),
                "memory": code(
                    lambda: client.query(
                        "SELECT length(groupArray(number)) FROM numbers(100000000000)",
                        settings={"max_memory_usage": 50_000_000},
                    )
                ),
                "late": code(lambda: client.query("SELECT throwIf(number = 290000) FROM numbers(300000)").row_count),
            },
        }
    )
)
