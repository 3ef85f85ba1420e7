// Explorer: any measure by one or two dimensions, over any range, against the period before.
import { call, query, type Result, type Row, type Value } from "../api";
import { Chart, SERIES_MAX, type Series, type Unit } from "../chart";
import { Filters } from "../filters";
import { FILTERS } from "../filter_names";
import { useLoad, useRows } from "../load";
import { Copy, Empty, Page, Panel, Show, Sources } from "../page";
import { carried, changed, go, href, useRoute } from "../router";
import { Table, words, type Column } from "../table";
import { cellOf, count, parseTime, percent } from "../values";

const PATH = "explorer";
const MEASURES_DEFAULT = ["cost_usd", "requests", "error_percent", "waste_usd", "output_tokens"];
/** What a row leads to: the first of these that is not filtered by yet. */
const DRILL_DOWN = ["team", "feature", "model", "deployment", "user", "key", "error_kind"];
const OTHERS = "all others";

interface Known {
  dimensions: string[];
  measures: string[];
}

/** What is looked at, as the URL has it. */
interface View {
  by: string[];
  measures: string[];
  compare: boolean;
}

function viewOf(params: URLSearchParams): View {
  const list = (name: string) => (params.get(name) ?? "").split(",").filter(Boolean);
  const [by, measures] = [list("by"), list("measure")];
  return {
    by: by.length ? by.slice(0, 2) : ["team"],
    measures: measures.length ? measures : MEASURES_DEFAULT,
    compare: params.get("compare") === "true",
  };
}

export function Explorer() {
  const { params } = useRoute();
  const view = viewOf(params);
  const known = useLoad("filters", (signal) => call<Known>("GET", "filters", undefined, signal));
  const asked = changed(carried(params), { by: view.by.join(","), measure: view.measures.join(","), compare: view.compare ? "true" : null });
  const table = useRows("explore", asked);
  return (
    <Page title="Explorer" actions={<Copy text={location.href} label="Copy link" />}>
      <Filters />
      <Show of={known}>{(known) => <Choices view={view} known={known} />}</Show>
      <OverTime view={view} params={params} />
      <Panel title={`${words(view.measures[0]!)} by ${view.by.map(words).join(" and ").toLowerCase()}`} note={table.value && said(table.value)} actions={<Sources path="explore" params={asked} />}>
        <Show of={table}>{(result) => <Slices result={result} view={view} params={params} />}</Show>
      </Panel>
    </Page>
  );
}

const said = ({ rows, truncated, elapsed_s, rows_read }: Result): string =>
  `${truncated ? "the first " : ""}${count(rows.length)} rows · ${count(rows_read)} read in ${Math.round(elapsed_s * 1000)} ms`;

function Choices({ view, known }: { view: View; known: Known }) {
  const { params } = useRoute();
  const set = (changes: Record<string, string | null>) => go(PATH, changed(params, changes));
  const [first, second] = view.by;
  const others = known.dimensions.filter((name) => name !== first);
  const chart = (measure: string) => [measure, ...view.measures.filter((other) => other !== measure)].join(",");
  return (
    <div class="choices">
      <Choice label="By" value={first!} of={withOwn(known.dimensions, first)} set={(name) => set({ by: [...new Set([name, second])].filter(Boolean).join(",") })} />
      <Choice label="and" value={second ?? ""} of={["", ...withOwn(others, second)]} set={(name) => set({ by: [first, name].filter(Boolean).join(",") })} />
      <Choice label="Chart of" value={view.measures[0]!} of={withOwn(known.measures, view.measures[0])} set={(measure) => set({ measure: chart(measure) })} />
      <Measures view={view} known={known} set={(measure) => set({ measure })} />
      <label class="check"><input type="checkbox" checked={view.compare} onChange={(event) => set({ compare: event.currentTarget.checked ? "true" : null })} /> Compare with the period before</label>
    </div>
  );
}

/** A dimension of the URL that is not in the list, such as tag:NAME. */
const withOwn = (names: string[], own: string | undefined): string[] => (own && !names.includes(own) ? [...names, own] : names);

function Choice({ label, value, of, set }: { label: string; value: string; of: string[]; set: (value: string) => void }) {
  return (
    <label>{label} <select value={value} onChange={(event) => set(event.currentTarget.value)}>
      {of.map((name) => <option key={name} value={name}>{name ? words(name) : "nothing else"}</option>)}
    </select></label>
  );
}

function Measures({ view, known, set }: { view: View; known: Known; set: (measures: string) => void }) {
  const toggle = (name: string) => {
    const chosen = view.measures.includes(name) ? view.measures.filter((other) => other !== name) : [...view.measures, name];
    if (chosen.length) set(chosen.join(","));
  };
  return (
    <details class="own-range left">
      <summary>Columns: {view.measures.length}</summary>
      <form class="measures" onSubmit={(event) => event.preventDefault()}>
        {known.measures.map((name) => (
          <label key={name} class="check"><input type="checkbox" checked={view.measures.includes(name)} onChange={() => toggle(name)} /> {words(name)}</label>
        ))}
      </form>
    </details>
  );
}

function OverTime({ view, params }: { view: View; params: URLSearchParams }) {
  const { path } = useRoute();
  const measure = view.measures[0]!;
  const by = view.by.filter((name) => name !== "day" && name !== "hour");
  const asked = changed(carried(params), { by: by.length ? by.join(",") : null, measure, series: "true" });
  const loaded = useLoad(`series?${asked}`, (signal) => query("explore", asked, signal));
  const at = (seconds: number) => new Date(seconds * 1000).toISOString();
  const zoom = (from: number, to: number) => go(path, changed(params, { range: null, from: at(from), to: at(to) }));
  return (
    <Panel title={`${words(measure)} over time`} note="UTC; mark a part to look at it" actions={<Sources path="explore" params={asked} />}>
      <Show of={loaded}>
        {({ rows }) => {
          if (!rows.length) return <Empty>No requests in this range with these filters.</Empty>;
          const { times, series } = seriesOf(rows, by, measure);
          return <Chart label={`${words(measure)} over time`} unit={unitOf(measure)} times={times} series={series} height={220} zoom={zoom} />;
        }}
      </Show>
    </Panel>
  );
}

const unitOf = (measure: string): Unit =>
  /usd/.test(measure) ? "usd" : /_ms(_|$)/.test(measure) ? "ms" : /percent/.test(measure) ? "percent" : "count";
/** Whether values of parts add up to that of the whole. */
const isSum = (measure: string): boolean => !/percent|_p\d+$|per_/.test(measure);

const labelOf = (row: Row, by: string[]): string => by.map((name) => String(row[name] ?? "") || "(none)").join(" · ") || "all";

/** Rows by time and slice as one series per slice: the largest, and, where that means something, the others' sum. */
function seriesOf(rows: Row[], by: string[], measure: string): { times: number[]; series: Series[] } {
  const times = [...new Set(rows.map((row) => parseTime(String(row.time)).getTime() / 1000))].sort((a, b) => a - b);
  const place = new Map(times.map((at, i) => [at, i]));
  const slices = new Map<string, (number | null)[]>();
  for (const row of rows) {
    const label = labelOf(row, by);
    const values = slices.get(label) ?? times.map(() => (isSum(measure) ? 0 : null));
    const value = row[measure];
    values[place.get(parseTime(String(row.time)).getTime() / 1000)!] = value === null || value === undefined ? null : Number(value);
    slices.set(label, values);
  }
  const size = (values: (number | null)[]) => values.reduce<number>((total, value) => total + (value ?? 0), 0);
  const sorted = [...slices].map(([label, values]) => ({ label, values })).sort((a, b) => size(b.values) - size(a.values));
  if (sorted.length <= SERIES_MAX) return { times, series: sorted };
  const [shown, rest] = [sorted.slice(0, SERIES_MAX - 1), sorted.slice(SERIES_MAX - 1)];
  const others = { label: OTHERS, values: times.map((_at, i) => rest.reduce((total, { values }) => total + (values[i] ?? 0), 0)) };
  return { times, series: isSum(measure) ? [...shown, others] : shown };
}

function Slices({ result, view, params }: { result: Result; view: View; params: URLSearchParams }) {
  const columns = result.columns.filter(({ name }) => !name.endsWith("_before")).map((column): Column<Row> => {
    const { numeric, show } = cellOf(column);
    const value = (row: Row) => row[column.name] ?? null;
    const before = `${column.name}_before`;
    const compared = view.compare && result.columns.some(({ name }) => name === before);
    return {
      name: column.name, label: words(column.name), numeric,
      by: (row) => (value(row) === null ? null : numeric ? Number(value(row)) : String(value(row))),
      show: (row) => show(value(row)),
      below: compared ? (row) => <Difference now={value(row)} before={row[before] ?? null} shown={show(row[before] ?? null)} /> : undefined,
    };
  });
  return (
    <Table
      label="Slices" columns={columns} rows={result.rows} id={(row) => labelOf(row, view.by)}
      href={(row) => drillDown(row, view, params)} empty="No requests in this range with these filters."
    />
  );
}

function Difference({ now, before, shown }: { now: Value; before: Value; shown: unknown }) {
  const [a, b] = [Number(now ?? 0), Number(before ?? 0)];
  const change = b === 0 ? (a === 0 ? "±0%" : "new") : `${a > b ? "+" : a < b ? "−" : "±"}${percent(Math.abs(a - b) / Math.abs(b))}`;
  return <div class="note number">{change} · {shown as string}</div>;
}

/** The row's slice as filters (or as a range, if it is a time), by the next dimension. */
function drillDown(row: Row, view: View, params: URLSearchParams): string {
  const changes: Record<string, string | null> = {};
  for (const name of view.by) {
    const value = String(row[name] ?? "");
    if (name === "day" || name === "hour") Object.assign(changes, spanOf(value, name));
    else if (FILTERS.includes(name)) changes[name] = value;
  }
  const next = DRILL_DOWN.find((name) => !(name in changes) && !params.has(name)) ?? "user";
  return href(PATH, changed(params, { ...changes, by: next }));
}

function spanOf(value: string, name: "day" | "hour"): Record<string, string | null> {
  const from = parseTime(value);
  const to = new Date(from.getTime() + (name === "day" ? 24 : 1) * 3_600_000);
  return { range: null, from: from.toISOString(), to: to.toISOString() };
}
