// The way of events from the gateway to the store: what is up, how far behind it is, and what to do.
import type { ComponentChildren } from "preact";
import { fetchOk, Problem, type Row } from "../api";
import { Chart } from "../chart";
import { Filters } from "../filters";
import { LIVE_MS, type Loaded, useLoad, useQuery } from "../load";
import { Page, Panel, Show, Sources } from "../page";
import { Id, series } from "../parts";
import { carried, href, useRoute } from "../router";
import { columnsOf, Table } from "../table";
import { Absent, Count, count, duration, Name, parseTime, Time } from "../values";

interface Part {
  name: string;
  state: "ok" | "restarting" | "failed";
  since: string;
  restarts: number;
  reason?: string;
}

interface Ready {
  status: string;
  parts: Part[];
}

/** Something that is wrong, and what docs/operations.md says to do about it. */
interface Finding {
  what: ComponentChildren;
  todo: ComponentChildren;
}

/** Beyond this, the store is behind. A seal is written about once a second. */
const LAG_S_MAX = 30;

export function Pipeline() {
  const { params } = useRoute();
  const range = new URLSearchParams([...carried(params)].filter(([name]) => ["range", "from", "to"].includes(name)));
  const ready = useLoad("readyz", readyz, LIVE_MS);
  const metrics = useLoad("metrics", async (signal) => (await fetchOk("gateway/metrics", { signal })).text(), LIVE_MS);
  const lag = useQuery("pipeline_lag", range, LIVE_MS);
  const letters = useQuery("pipeline_dead_letters", range);
  const gaps = useQuery("audit_incomplete_streams", range);
  return (
    <Page title="Pipeline health" live={[ready, lag]}>
      <Filters names={[]} />
      <Findings of={findings(ready, metrics.value, lag, letters.value?.rows, gaps.value?.rows)} known={ready.value !== undefined && lag.value !== undefined} />
      <Tiles ready={ready.value} metrics={metrics.value} lag={lag.value?.rows} letters={letters.value?.rows} gaps={gaps.value?.rows} />
      <div class="grid">
        <section class="half"><Panel title="Parts of the process"><Show of={ready}>{({ parts }) => <Parts parts={parts} />}</Show></Panel></section>
        <section class="half"><Panel title="Newest stored event" note="a seal is written about once a second"><Show of={lag}>{({ rows }) => <Newest rows={rows} />}</Show></Panel></section>
      </div>
      <Ingest params={range} />
      <Panel title="Dead letters" note="records that could not become rows" actions={<Sources path="queries/pipeline_dead_letters" params={range} />}>
        <Show of={letters}>{(result) => <Table label="Dead letters, rows" rows={result.rows} columns={columnsOf(result)} empty="None: every record became a row." />}</Show>
      </Panel>
      <Panel title="Incomplete streams" note="of those that began in this range" actions={<Sources path="queries/audit_incomplete_streams" params={range} />}>
        <Show of={gaps}>{(result) => <Table label="Incomplete streams, rows" rows={result.rows} columns={columnsOf(result)} empty="No stream that began in this range lacks an event." />}</Show>
      </Panel>
      <Tables />
      <Streams params={range} />
    </Page>
  );
}

/** A gateway that is not ready answers 503, with the same document. */
async function readyz(signal: AbortSignal): Promise<Ready> {
  const response = await fetch("api/gateway/readyz", { signal });
  const said = await response.json().catch(() => ({}));
  if (said.parts) return said;
  throw new Problem(response.status, said.error?.code ?? "unknown", said.error?.message ?? `it answered with status ${response.status}`);
}

const sumOf = (text: string | undefined, name: string): number | undefined =>
  text === undefined ? undefined : series(text, name).reduce((sum, { value }) => sum + value, 0);

const ageOf = (rows: Row[] | undefined, source: string): number | undefined => {
  const row = rows?.find((one) => one.source === source);
  return row && Number(row.age_s);
};

function findings(ready: Loaded<Ready>, metrics: string | undefined, lag: Loaded<{ rows: Row[] }>, letters: Row[] | undefined, gaps: Row[] | undefined): Finding[] {
  const found: Finding[] = [];
  if (ready.problem) found.push({ what: `The gateway: ${ready.problem.message}`, todo: <>Look at its log, and run <code>weir doctor</code> where it runs.</> });
  if (ready.value && ready.value.status !== "ready") found.push({ what: <>The gateway is not ready: <bdi>{ready.value.status}</bdi></>, todo: "Requests are refused while they cannot be recorded. Free space, or raise [eventlog] journal_bytes_max; it goes on by itself." });
  for (const part of ready.value?.parts ?? []) {
    if (part.state !== "ok") found.push({ what: <>The part <bdi>{part.name}</bdi> {part.state === "failed" ? "failed" : "is started again"}: <bdi>{part.reason ?? "no reason given"}</bdi></>, todo: TODO[part.name] ?? <>Run <code>weir doctor</code>: it says what to do.</> });
  }
  if (lag.problem) found.push({ what: lag.problem.message, todo: TODO.store! });
  const age_s = ageOf(lag.value?.rows, "seals");
  if (age_s !== undefined && age_s > LAG_S_MAX) found.push({ what: `The newest stored event is ${duration(age_s * 1000)} old.`, todo: "No gateway writes, or the ingestor waits: its log says for what. Nothing is lost while the journal has room." });
  const dropped = sumOf(metrics, "weir_journal_dropped_events");
  if (dropped) found.push({ what: `${count(dropped)} events were dropped because the journal was full.`, todo: "Free space or raise [eventlog] journal_bytes_max; when_full = \"refuse\" refuses requests instead." });
  const records = (letters ?? []).reduce((sum, row) => sum + Number(row.records), 0);
  if (records) found.push({ what: `${count(records)} records could not become rows.`, todo: "Read the reasons below. The column payload of weir.dead_letters has each record as it was." });
  if (gaps?.length) found.push({ what: `${count(gaps.length)} streams are incomplete.`, todo: <>Run <code>weir audit verify</code>: it names what is missing. Newest events may be on their way; look again in a minute.</> });
  return found;
}

const TODO: Record<string, ComponentChildren> = {
  store: "Bring the store back; the ingestor goes on where it stopped and stores nothing twice. Requests are served meanwhile.",
  ingestor: "Its log says what it waits for. The journal keeps what is not stored.",
  "control-log": "Requests go on with keys and rules as they are in memory. Delete a wrong file while the gateway runs, which writes the right one, or run weir control repair with Kafka.",
  seals: "A stored row is not what its gateway sealed. Run weir audit verify, and compare with a copy of the checkpoints from elsewhere.",
  "journal-sync": "The disk does not take what is written: look at free space and at the kernel’s log.",
};

function Findings({ of, known }: { of: Finding[]; known: boolean }) {
  if (!of.length) return known ? <p class="said fine" role="status">Everything is well: all parts work, and the store keeps up.</p> : null;
  return (
    <div role="status">
      {of.map((finding, i) => <div class="problem" key={i}><p><b>{finding.what}</b> {finding.todo}</p></div>)}
    </div>
  );
}

function Tile({ title, figure, kind = "", children }: { title: string; figure: ComponentChildren; kind?: string; children?: ComponentChildren }) {
  return <dl class="tile"><dt>{title}</dt><dd class={`figure ${kind}`}>{figure}</dd><dd>{children}</dd></dl>;
}

function Tiles({ ready, metrics, lag, letters, gaps }: { ready: Ready | undefined; metrics: string | undefined; lag: Row[] | undefined; letters: Row[] | undefined; gaps: Row[] | undefined }) {
  const age_s = ageOf(lag, "seals");
  const journal = sumOf(metrics, "weir_journal_disk_bytes");
  const records = letters?.reduce((sum, row) => sum + Number(row.records), 0);
  const working = ready?.parts.filter((part) => part.state === "ok").length;
  const checkpoint_s = ageOf(lag, "checkpoints");
  return (
    <div class="tiles six">
      <Tile title="Parts that work" figure={ready ? `${working} of ${ready.parts.length}` : <Absent />} kind={ready && working !== ready.parts.length ? "bad" : ""}>{ready?.status}</Tile>
      <Tile title="Store is behind by" figure={age_s === undefined ? <Absent /> : duration(Math.max(0, age_s * 1000))} kind={age_s !== undefined && age_s > LAG_S_MAX ? "bad" : ""}>age of the newest seal</Tile>
      <Tile title="Journal" figure={journal === undefined ? <Absent /> : bytes(journal)}>{count(sumOf(metrics, "weir_journal_appended_events") ?? 0)} events since its start</Tile>
      <Tile title="Dead letters" figure={<Count value={records} />} kind={records ? "bad" : ""}>in this range</Tile>
      <Tile title="Incomplete streams" figure={<Count value={gaps?.length} />} kind={gaps?.length ? "bad" : ""}>in this range</Tile>
      <Tile title="Last checkpoint" figure={checkpoint_s === undefined ? <Absent /> : <>{duration(checkpoint_s * 1000)} ago</>}><a href={href("audit")}>Proof</a></Tile>
    </div>
  );
}

function bytes(size: number): string {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let at = 0;
  while (size >= 1000 && at < units.length - 1) {
    size /= 1000;
    at += 1;
  }
  return `${size.toFixed(at === 0 || size >= 100 ? 0 : 1)} ${units[at]}`;
}

function Parts({ parts }: { parts: Part[] }) {
  const sorted = [...parts].sort((a, b) => Number(a.state === "ok") - Number(b.state === "ok"));
  return (
    <Table label="Parts, rows" rows={sorted} columns={[
      { name: "name", label: "Part", show: (part) => <Name text={part.name} /> },
      { name: "state", label: "State", show: (part) => <span class={part.state === "ok" ? "good" : "bad"}>{part.state}{part.reason && <>: <bdi>{part.reason}</bdi></>}</span> },
      { name: "since", label: "Since", show: (part) => <Time at={part.since} /> },
      { name: "restarts", label: "Restarts", numeric: true, show: (part) => count(part.restarts) },
    ]} />
  );
}

function Newest({ rows }: { rows: Row[] }) {
  return (
    <Table label="Newest stored events" rows={rows} empty="Nothing was stored in the last day." columns={[
      { name: "source", label: "Table", show: (row) => <Name text={row.source} /> },
      { name: "newest", label: "Newest", show: (row) => <Time at={String(row.newest)} /> },
      { name: "age", label: "Age", numeric: true, show: (row) => duration(Math.max(0, Number(row.age_s) * 1000)) },
    ]} />
  );
}

function Ingest({ params }: { params: URLSearchParams }) {
  const ingest = useQuery("pipeline_ingest", params);
  return (
    <Panel title="Events" note="stored, by when they happened" actions={<Sources path="queries/pipeline_ingest" params={params} />}>
      <Show of={ingest}>
        {({ rows }) => (
          <Chart
            label="Events stored over time" unit="count" times={rows.map((row) => parseTime(String(row.time)).getTime() / 1000)}
            series={["requests", "attempts"].map((name) => ({ label: name, values: rows.map((row) => Number(row[name])) }))}
          />
        )}
      </Show>
    </Panel>
  );
}

function Tables() {
  const tables = useQuery("pipeline_tables", new URLSearchParams());
  return (
    <Panel title="Store" note={tables.value && `${bytes(tables.value.rows.reduce((sum, row) => sum + Number(row.bytes), 0))} on disk`}>
      <Show of={tables}>
        {({ rows }) => (
          <Table label="Tables" rows={rows} columns={[
            { name: "name", label: "Table", by: (row) => String(row.name), show: (row) => <span title={String(row.comment)}><Name text={row.name} /></span> },
            { name: "rows", label: "Rows", numeric: true, by: (row) => Number(row.rows), show: (row) => <Count value={row.rows as string} /> },
            { name: "bytes", label: "Size", numeric: true, by: (row) => Number(row.bytes), show: (row) => bytes(Number(row.bytes)) },
            { name: "oldest", label: "Oldest", show: (row) => (Number(row.rows) && !String(row.oldest).startsWith("1970") ? <Time at={String(row.oldest)} /> : <Absent />) },
            { name: "kept", label: "Kept", numeric: true, show: (row) => (row.retention_days ? `${row.retention_days} days` : "for good") },
          ]} />
        )}
      </Show>
    </Panel>
  );
}

function Streams({ params }: { params: URLSearchParams }) {
  const streams = useQuery("pipeline_streams", params);
  return (
    <Panel title="Streams" note="opened or closed in this range: one for each worker of a process">
      <Show of={streams}>
        {({ rows }) => (
          <Table label="Streams, rows" rows={rows} shown={12} empty="No stream was opened or closed in this range." columns={[
            { name: "stream", label: "Stream", show: (row) => <Id text={String(row.stream)} /> },
            { name: "instance", label: "Of", show: (row) => <><Name text={row.instance} /> <span class="note"><bdi>{String(row.process)} {String(row.version)}</bdi></span></> },
            { name: "opened", label: "First seen", show: (row) => <Time at={String(row.opened)} /> },
            { name: "closed", label: "Closed", show: (row) => (row.closed ? <><Time at={String(row.closed)} /> <span class="note">{String(row.reason)}</span></> : "open") },
            { name: "torn", label: "Cut off", numeric: true, show: (row) => (Number(row.torn_bytes) ? bytes(Number(row.torn_bytes)) : "") },
            { name: "dropped", label: "Dropped", numeric: true, show: (row) => (Number(row.dropped_events) ? <span class="bad">{count(String(row.dropped_events))}</span> : "") },
          ]} />
        )}
      </Show>
    </Panel>
  );
}
