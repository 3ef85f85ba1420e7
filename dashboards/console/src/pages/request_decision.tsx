// Why a request went where it went: candidates, what was left out, and the routing table behind it.
import type { Row, Value } from "../api";
import { useQuery } from "../load";
import { Empty, Panel } from "../page";
import { Facts } from "../parts";
import { Table } from "../table";
import { Absent, Bar, Name, percent, Time } from "../values";

const STRATEGIES: Record<string, string> = {
  chain: "targets in their order; the next when one fails",
  weighted: "a draw by weight",
  latency: "the fastest answer",
  cost: "the cheapest answer",
  objective: "the best of what its objective weighs",
};

const LAST_RESORTS: Record<string, string> = {
  ejected: "it was out of service, and so was every other",
  told_to_wait: "its provider had asked to wait, and no other could take it",
  over_limit: "its rate limit was used up, and no other could take it",
  too_small: "its window is too small, and no other could take it",
  probing: "it was being probed, and no other could take it",
};

interface Candidate {
  deployment: string;
  score: number | null;
  propensity: number | null;
  out?: string;
  since?: Value;
}

export interface TableTarget {
  deployment: string;
  weight: number;
  ttft_us: number | null;
  ttft_p95_us: number | null;
  error_ratio: number | null;
  output_tokens_per_s: number | null;
  picousd_per_token: number | null;
  tries: number;
  change: string;
}

export function Decision({ request }: { request: Row }) {
  const params = new URLSearchParams({ request_id: String(request.request_id) });
  const ejected = useQuery("request_ejected", params);
  const table = useQuery("request_routing_table", params);
  if (!request.strategy) return <Panel title="Why this one"><Empty>It was not routed: it ended before a deployment was chosen.</Empty></Panel>;
  const considered: Candidate[] = ((request.candidates ?? []) as [string, number | null, number][]).map(([deployment, score, propensity]) => ({ deployment, score, propensity }));
  const out: Candidate[] = (ejected.value?.rows ?? [])
    .filter((row) => !considered.some((one) => one.deployment === row.deployment))
    .map((row) => ({ deployment: String(row.deployment), score: null, propensity: null, out: String(row.why), since: row.since! }));
  const entry = table.value?.rows[0];
  return (
    <Panel title="Why this one">
      <Facts rows={[
        ["Strategy", <><b><bdi>{String(request.strategy)}</bdi></b>{STRATEGIES[String(request.strategy)] && `: ${STRATEGIES[String(request.strategy)]}`}</>],
        ["Last resort", request.last_resort && (LAST_RESORTS[String(request.last_resort)] ?? String(request.last_resort))],
        ["Routing table", request.table_version === null ? "none was in force" : <>{String(request.table_version)}{entry ? <> ({String(entry.origin)}, measured up to <Time at={String(entry.measured_to)} />)</> : ""}</>],
        ["Seed of the draw", request.route_seed !== null && <code>{String(request.route_seed)}</code>],
      ]} />
      <Table label="Candidates" rows={[...considered, ...out]} empty="No candidates are recorded." columns={[
        { name: "deployment", label: "Candidate", show: ({ deployment }) => <>{deployment === request.deployment && <span class="good" title="answered">✓ </span>}<Name text={deployment} /></> },
        { name: "score", label: "Score", numeric: true, show: ({ score }) => (score === null ? <Absent /> : Number(score.toPrecision(4)).toString()) },
        { name: "propensity", label: "Propensity", numeric: true, show: ({ propensity, out }) => (propensity === null ? <span class="warn">ejected: {out}</span> : <>{percent(propensity)}<Bar share={propensity} /></>) },
      ]} />
      {entry && <Entry json={String(entry.entry)} />}
    </Panel>
  );
}

function Entry({ json }: { json: string }) {
  const targets = parsed(json);
  if (!targets.length) return null;
  return (
    <details>
      <summary class="note">What the table says of them</summary>
      <TargetTable targets={targets} />
    </details>
  );
}

function parsed(json: string): TableTarget[] {
  try {
    return (JSON.parse(json) as { targets: TableTarget[] }).targets;
  } catch {
    return [];
  }
}

const number = (value: number | null, digits: number, unit = "") => (value === null ? <Absent /> : `${value.toFixed(digits)}${unit}`);

export function TargetTable({ targets }: { targets: TableTarget[] }) {
  return (
    <Table label="Targets" rows={targets} columns={[
      { name: "deployment", label: "Target", show: (row) => <Name text={row.deployment} /> },
      { name: "weight", label: "Weight", numeric: true, show: (row) => row.weight.toFixed(3) },
      { name: "ttft", label: "First token", numeric: true, show: (row) => number(row.ttft_us && row.ttft_us / 1000, 0, " ms") },
      { name: "errors", label: "Errors", numeric: true, show: (row) => number(row.error_ratio && row.error_ratio * 100, 1, "%") },
      { name: "price", label: "$/Mtok", numeric: true, show: (row) => number(row.picousd_per_token && row.picousd_per_token / 1e6, 3) },
      { name: "tries", label: "Attempts", numeric: true, show: (row) => String(row.tries) },
    ]} />
  );
}
