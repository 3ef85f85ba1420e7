// ClickHouse's JavaScript client as the store's reader: prints what it reads, and what it throws for what it may not do.

import { ClickHouseError, ClickHouseLogLevel, createClient } from "@clickhouse/client";

const [url, password, operator] = process.argv.slice(2);
const connect = (options) =>
  createClient({ url, username: "reader", password, database: "weir", log: { level: ClickHouseLogLevel.OFF }, ...options });
const client = connect();

async function read(query, { by = client, ...more } = {}) {
  let rows = [];
  const answer = await by.query({ query, format: "JSONEachRow", ...more });
  for await (const chunk of answer.stream()) rows = rows.concat(chunk.map((row) => row.json()));
  return rows;
}

/** The code of ClickHouse that the client's own error has. */
async function code(call) {
  try {
    await call();
  } catch (error) {
    return error instanceof ClickHouseError ? Number(error.code) : String(error);
  }
  return null;
}

const tables = await read("SELECT name FROM system.tables WHERE database = 'weir'");
for (const { name } of tables) await read(`SELECT * FROM ${name}`);
const many = "SELECT number FROM numbers(300000)";
const [row] = await read("SELECT alias, status, output_tokens, cost_usd, usage_source FROM requests");
const params = { query_params: { x: 5 }, clickhouse_settings: { max_execution_time: 60, wait_end_of_query: 1 } };
const one = async (by, more) => Object.values((await read("SELECT 1", { by, ...more }))[0])[0];
const seen = {
  tables: tables.length,
  row: Object.values(row).map(String),
  rows: (await read(many)).length,
  packed: [(await read(many, { by: connect({ compression: { response: true } }) })).length],
  settings: (await read("SELECT {x:UInt32} AS x", params))[0].x,
  session: await one(client, { session_id: "one" }),
  operator: await one(connect({ username: "operator", password: operator })),
  raised: {
    password: await code(() => read("SELECT 1", { by: connect({ password: "wrong" }) })),
    insert: await code(() => client.insert({ table: "requests", values: [{ alias: "forged" }], format: "JSONEachRow" })),
    drop: await code(() => client.command({ query: "DROP TABLE requests" })),
    temporary: await code(() => client.command({ query: "CREATE TEMPORARY TABLE mine (a UInt8)" })),
    beyond: await code(() => read("SELECT 1", { clickhouse_settings: { max_memory_usage: "0" } })),
    memory: await code(() =>
      read("SELECT length(groupArray(number)) FROM numbers(100000000000)", { clickhouse_settings: { max_memory_usage: "50000000" } }),
    ),
    late: await code(() => read("SELECT throwIf(number = 290000) FROM numbers(300000)")),
  },
};
console.log(JSON.stringify(seen));
process.exit(0);
