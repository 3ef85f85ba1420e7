// Overview: what is spent, against what, and whether requests are answered, at a glance and live.
import type { ComponentChildren } from "preact";
import { call, type Result, type Row } from "../api";
import { Chart, type Series } from "../chart";
import { Filters } from "../filters";
import { FILTERS, USAGE_FILTERS } from "../filter_names";
import { forecast, monthBounds, spend } from "../forecast";
import { LIVE_MS, useLoad, useQuery, type Loaded } from "../load";
import { picos, ratio, sum } from "../money";
import { Empty, Page, Panel, Show, Sources } from "../page";
import { endsNow } from "../range";
import { carried, changed, go, href, useRoute } from "../router";
import { Table, type Column } from "../table";
import { Bar, Count, Duration, Money, Name, parseTime, percent, Time, time } from "../values";

const SLOW_MS = 30_000;

export function Overview() {
  const { params } = useRoute();
  const asked = usable(params);
  const live = endsNow(asked) ? LIVE_MS : undefined;
  const days = useQuery("spend_and_waste_by_day", changed(asked, { ...monthBounds(new Date()), range: null }), LIVE_MS);
  const total = useQuery("traffic_in_total", asked, live);
  const hours = useQuery("traffic_by_hour", asked, live);
  const tops = useQuery("top_spenders", asked, live && SLOW_MS);
  const sources = useQuery("usage_provenance", asked, live && SLOW_MS);
  return (
    <Page title="Overview" live={[days, total, hours]}>
      <Filters names={USAGE_FILTERS} />
      <Show of={days}>{(days) => <SpendTiles days={days} params={asked} />}</Show>
      <Show of={total}>{(total) => <TrafficTiles total={total} params={asked} />}</Show>
      <div class="grid">
        <Charts hours={hours} params={asked} budgets={<BudgetsPanel params={asked} />} />
        <Tops tops={tops} total={total} params={asked} />
        <Panel title="Where usage comes from" half note="what costs are computed of" actions={<Sources path="queries/usage_provenance" params={asked} />}>
          <Show of={sources}>{(sources) => <Provenance sources={sources} />}</Show>
        </Panel>
      </div>
    </Page>
  );
}

/** The filters that hourly sums know: those of other pages are kept in the URL and shown as not used. */
const usable = (params: URLSearchParams): URLSearchParams =>
  changed(carried(params), Object.fromEntries(FILTERS.filter((name) => !USAGE_FILTERS.includes(name)).map((name) => [name, null])));

const explorer = (params: URLSearchParams, changes: Record<string, string | string[] | null>): string =>
  href("explorer", changed(params, changes));

export function Tile({ label, title, children, below, href }: {
  label: string;
  title?: string;
  children: ComponentChildren;
  below?: ComponentChildren;
  href?: string;
}) {
  return (
    <div class="tile" title={title}>
      <dt>{href ? <a href={href}>{label}</a> : label}</dt>
      <dd class="figure">{children}</dd>
      <dd>{below}</dd>
    </div>
  );
}

function SpendTiles({ days, params }: { days: Result; params: URLSearchParams }) {
  const now = new Date();
  const { today, yesterday, month } = spend(days.rows, now);
  const at = forecast(days.rows, now);
  const total = (name: string) => month.reduce((total, row) => total + Number(row[name] ?? 0), 0);
  const cost = sum(month.map((row) => row.cost_usd as string | null));
  const waste = sum(month.map((row) => row.waste_usd as string | null));
  const [input, cached, unpriced, requests] = [total("input_tokens"), total("cached_input_tokens"), total("unpriced"), total("requests")];
  const inMonth = { range: "month", from: null, to: null };
  return (
    <dl class="tiles">
      <Tile label="Spent today" below={<>yesterday <Money usd={yesterday} /></>} href={explorer(params, { ...inMonth, range: "today", by: "team" })}><Money usd={today} /></Tile>
      <Tile label="This month" title="At the pace of the last seven full days" below={<>forecast <Money usd={at} /></>} href={explorer(params, { ...inMonth, by: "day" })}><Money usd={cost} /></Tile>
      <Tile label="Wasted this month" title="What attempts cost whose answer was not delivered" below={<>{percent(ratio(waste, cost + waste))} of what was paid</>} href={explorer(params, { ...inMonth, by: "deployment", measure: "waste_usd,retries,fallbacks,requests" })}><Money usd={waste} /></Tile>
      <Tile label="Input from prompt caches" title="Share of this month's input tokens that providers read from their prompt caches" below={<><Count value={cached} /> tokens this month</>} href={explorer(params, { ...inMonth, by: "model", measure: "cached_input_tokens,input_tokens,cost_usd" })}>{input ? percent(cached / input) : "–"}</Tile>
      <Tile label="Unpriced this month" title="Requests whose cost is not known: no sum includes them" below={requests ? `${percent(unpriced / requests)} of requests` : "no requests"} href={explorer(params, { ...inMonth, by: "model", measure: "unpriced,requests" })}>
        <span class={unpriced ? "warn" : ""}><Count value={unpriced} /></span>
      </Tile>
    </dl>
  );
}

const quantile_ms = (row: Row | undefined, name: string, at: number): number | null => {
  const value = (row?.[name] as (number | null)[] | null)?.[at];
  return typeof value === "number" ? value / 1000 : null;
};
const [P50, P95] = [0, 2];

function TrafficTiles({ total, params }: { total: Result; params: URLSearchParams }) {
  const row = total.rows[0];
  const [requests, errors] = [Number(row?.requests ?? 0), Number(row?.errors ?? 0)];
  const since = row ? `since ${time(parseTime(String(row.since))).slice(5, 16)} UTC` : "";
  return (
    <dl class="tiles">
      <Tile label="Requests" below={since} href={explorer(params, { by: "model", measure: "requests,errors,cost_usd" })}><Count value={requests} /></Tile>
      <Tile label="Errors" below={requests ? `${percent(errors / requests)} of requests` : "no requests"} href={explorer(params, { by: "error_kind", measure: "requests", status: "error" })}>
        <span class={errors / requests > 0.05 ? "bad" : ""}><Count value={errors} /></span>
      </Tile>
      <Tile label="Cost of these" below={<>waste <Money usd={row?.waste_usd as string | null} /></>}><Money usd={row?.cost_usd as string | null} /></Tile>
      <Tile label="First token, p95" below={<>median <Duration ms={quantile_ms(row, "ttft_us_quantiles", P50)} /></>} href={explorer(params, { by: "model", measure: "ttft_ms_p95,ttft_ms_p50,requests" })}><Duration ms={quantile_ms(row, "ttft_us_quantiles", P95)} /></Tile>
      <Tile label="Total time, p95" below={<>median <Duration ms={quantile_ms(row, "total_us_quantiles", P50)} /></>} href={explorer(params, { by: "model", measure: "total_ms_p95,total_ms_p50,requests" })}><Duration ms={quantile_ms(row, "total_us_quantiles", P95)} /></Tile>
    </dl>
  );
}

function Charts({ hours, params, budgets }: { hours: Loaded<Result>; params: URLSearchParams; budgets: ComponentChildren }) {
  const sources = <Sources path="queries/traffic_by_hour" params={params} />;
  const at = (seconds: number) => new Date(seconds * 1000).toISOString();
  const zoom = (from: number, to: number) => go("", changed(params, { range: null, from: at(from), to: at(to) }));
  const chart = (title: string, unit: "usd" | "count" | "ms", series: (rows: Row[]) => Series[], half = false) => (
    <Panel key={title} title={title} note="by hour, UTC" half={half} actions={sources}>
      <Show of={hours}>
        {({ rows }) => rows.length ? <Chart label={title} unit={unit} times={rows.map(seconds)} series={series(rows)} zoom={zoom} /> : <Nothing />}
      </Show>
    </Panel>
  );
  return (
    <>
      {chart("Spend", "usd", (rows) => [numbers(rows, "Cost", "cost_usd"), numbers(rows, "Waste", "waste_usd")], true)}
      {budgets}
      {chart("Requests", "count", (rows) => [numbers(rows, "Requests", "requests"), numbers(rows, "Errors", "errors")])}
      {chart("Time to first token", "ms", (rows) => quantiles(rows, "ttft_us_quantiles"))}
      {chart("Total time", "ms", (rows) => quantiles(rows, "total_us_quantiles"))}
    </>
  );
}

const seconds = (row: Row): number => parseTime(String(row.time)).getTime() / 1000;
const numbers = (rows: Row[], label: string, name: string): Series => ({ label, values: rows.map((row) => Number(row[name] ?? 0)) });
const quantiles = (rows: Row[], name: string): Series[] => [
  { label: "p95", values: rows.map((row) => quantile_ms(row, name, P95)) },
  { label: "Median", values: rows.map((row) => quantile_ms(row, name, P50)) },
];

const Nothing = () => <Empty>No requests in this range. Send one, or choose a longer range.</Empty>;

const TOPS: [dimension: string, title: string][] = [["team", "Teams"], ["feature", "Features"], ["model", "Models"]];

function Tops({ tops, total, params }: { tops: Loaded<Result>; total: Loaded<Result>; params: URLSearchParams }) {
  const cost = total.value?.rows[0]?.cost_usd as string | null | undefined;
  const whole = cost ? picos(cost) : 0n;
  return (
    <>
      {TOPS.map(([dimension, title]) => (
        <Panel key={dimension} title={title} note="by cost" actions={<Sources path="queries/top_spenders" params={params} />}>
          <Show of={tops}>
            {({ rows }) => (
              <Table
                label={`${title} by cost`} columns={topColumns(whole)} empty={<Nothing />}
                rows={rows.filter((row) => row.dimension === dimension)} id={(row) => String(row.name)}
                href={(row) => explorer(params, { [dimension]: String(row.name), by: dimension === "feature" ? "model" : "feature" })}
              />
            )}
          </Show>
        </Panel>
      ))}
    </>
  );
}

const topColumns = (whole: bigint): Column<Row>[] => [
  { name: "name", label: "Name and share", show: (row) => <Name text={row.name} />, below: (row) => <Bar share={ratio(sum([row.cost_usd as string | null]), whole)} /> },
  { name: "cost", label: "Cost", numeric: true, by: (row) => Number(row.cost_usd), show: (row) => <Money usd={row.cost_usd as string | null} /> },
  { name: "change", label: "Before", numeric: true, show: (row) => <Change now={row.cost_usd as string | null} before={row.cost_usd_before as string | null} /> },
  { name: "requests", label: "Requests", numeric: true, by: (row) => Number(row.requests), show: (row) => <Count value={row.requests as string} /> },
];

/** How an amount differs from that of the period before. */
function Change({ now, before }: { now: string | null; before: string | null }) {
  if (!now || !before || picos(before) === 0n) return <span class="note">{now && picos(now) > 0n ? "new" : "–"}</span>;
  const change = ratio(picos(now) - picos(before), picos(before));
  return <span class="number note" title={`${before} USD before`}>{change > 0 ? "+" : change < 0 ? "−" : "±"}{percent(Math.abs(change))}</span>;
}

const SOURCES: Record<string, string> = {
  reported: "reported by the provider",
  drained: "read after the client had left",
  estimated: "estimated by Weir",
  none: "none: nothing was consumed, or not known",
};

function Provenance({ sources }: { sources: Result }) {
  const all = sources.rows.reduce((total, row) => total + Number(row.requests), 0);
  const columns: Column<Row>[] = [
    { name: "source", label: "Token counts", show: (row) => <span title={SOURCES[String(row.usage_source)]}><Name text={row.usage_source} /></span> },
    { name: "share", label: "Share", show: (row) => <Bar share={Number(row.requests) / all} kind={row.usage_source === "estimated" ? "warn" : ""} /> },
    { name: "requests", label: "Requests", numeric: true, show: (row) => <Count value={row.requests as string} /> },
    { name: "percent", label: "%", numeric: true, show: (row) => percent(Number(row.requests) / all) },
    { name: "cost", label: "Cost", numeric: true, show: (row) => <Money usd={row.cost_usd as string | null} /> },
  ];
  return <Table label="Where usage comes from" columns={columns} rows={sources.rows} empty={<Nothing />} />;
}

interface Budget {
  id: string;
  usd?: string;
  tokens?: number;
  window: string;
  soft?: boolean;
  standings: { subject: string; spent: string; reserved: string; remaining: string; ends: string | null; resets: string | null }[] | null;
}

interface Standing {
  budget: Budget;
  subject: string;
  spent: string;
  used: number;
  ends: string | null;
}

const BUDGETS_SHOWN = 8;

/** One row per budget and who has it for themselves, the fullest first. */
function standings(budgets: Budget[]): Standing[] {
  const all = budgets.flatMap((budget) => (budget.standings ?? []).map((one) => ({
    budget, subject: one.subject, spent: one.spent, ends: one.ends,
    used: ratio(picos(one.spent) + picos(one.reserved), picos(String(budget.usd ?? budget.tokens ?? 0))),
  })));
  return all.sort((a, b) => b.used - a.used).slice(0, BUDGETS_SHOWN);
}

function BudgetsPanel({ params }: { params: URLSearchParams }) {
  const budgets = useLoad("budgets", (signal) => call<{ data: Budget[] }>("GET", "admin/budgets", undefined, signal), LIVE_MS);
  return (
    <Panel title="Budgets" note="least left first" half actions={<a class="button quiet" href={href("budgets", carried(params))}>All budgets</a>}>
      <Show of={budgets}>{({ data }) => <Budgets budgets={data} />}</Show>
    </Panel>
  );
}

function Ends({ of }: { of: Standing }) {
  if (of.used >= 1) return <span class="bad">used up</span>;
  return of.ends ? <span class="warn"><Time at={of.ends} /></span> : <span class="note">not before it resets</span>;
}

function Budgets({ budgets }: { budgets: Budget[] }) {
  const amount = (budget: Budget, text: string) => (budget.usd ? <Money usd={text} /> : <><Count value={text} /> tokens</>);
  const kind = (used: number) => (used >= 1 ? "bad" : used >= 0.8 ? "warn" : "");
  const columns: Column<Standing>[] = [
    { name: "budget", label: "Budget", show: ({ budget, subject }) => <><Name text={budget.id} />{subject && <div class="note"><Name text={subject} /></div>}</> },
    { name: "share", label: "Used", show: ({ used }) => <Bar share={used} kind={kind(used)} /> },
    { name: "used", label: "%", numeric: true, show: ({ used }) => <span class={kind(used)}>{percent(used)}</span> },
    { name: "spent", label: "Spent of", numeric: true, show: ({ budget, spent }) => <>{amount(budget, spent)}<div class="note">{amount(budget, String(budget.usd ?? budget.tokens ?? 0))} a {budget.window}</div></> },
    { name: "ends", label: "Ends, UTC", show: (standing) => <Ends of={standing} /> },
  ];
  const empty = <>No budget is in use. <code>weir budgets set</code> makes one.</>;
  return <Table label="Budgets" columns={columns} rows={standings(budgets)} empty={empty} href={() => href("budgets")} id={({ budget, subject }) => `${budget.id} ${subject}`} />;
}
