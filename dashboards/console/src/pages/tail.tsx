// Live tail: requests as they are stored, sampled when there are too many to read.
import { useEffect, useState } from "preact/hooks";
import { findSession, type Row } from "../api";
import { Filters } from "../filters";
import { FILTERS } from "../filter_names";
import { useKey } from "../keys";
import { Page, Panel } from "../page";
import { href, useRoute } from "../router";
import { Table, type Column } from "../table";
import { clock, Count, count, Duration, Money, Name, parseTime, Status } from "../values";

const ROWS_MAX = 200;
/** Rows are shown this often: faster, nobody reads them. */
const DRAW_MS = 250;
/** Browsers do not try again where the answer was an error; the page does. */
const AGAIN_MS = 3_000;

/** Of one look at the store. */
interface State {
  shown: number;
  arrived: number;
  sampled_one_in: number;
  store: "ok" | "away";
}

interface Tail {
  rows: Row[];
  /** The newest look, and the sums of all since the stream was opened. */
  state: State | undefined;
  shown: number;
  arrived: number;
  connected: boolean;
  lost: boolean;
}

const NOTHING: Tail = { rows: [], state: undefined, shown: 0, arrived: 0, connected: false, lost: false };

const looked = (tail: Tail, state: State): Tail =>
  ({ ...tail, state, shown: tail.shown + state.shown, arrived: tail.arrived + state.arrived, connected: true, lost: false });

/** Follows the stream until it is paused; what arrives meanwhile is left out, and the rows stay. */
function useTail(filters: URLSearchParams, paused: boolean): Tail {
  const [tail, setTail] = useState(NOTHING);
  const asked = filters.toString();
  useEffect(() => setTail(NOTHING), [asked]);
  useEffect(() => (paused ? undefined : follow(asked, (change) => setTail(change))), [asked, paused]);
  return tail;
}

function follow(asked: string, change: (next: (tail: Tail) => Tail) => void): () => void {
  let arrived: Row[] = [];
  let again: ReturnType<typeof setTimeout> | undefined;
  let source = open();
  function open(): EventSource {
    const source = new EventSource(`api/tail?${asked}`);
    source.addEventListener("request", ({ data }) => arrived.push(JSON.parse(data)));
    source.addEventListener("state", ({ data }) => change((tail) => looked(tail, JSON.parse(data))));
    source.onerror = lost;
    return source;
  }
  function lost(): void {
    change((tail) => ({ ...tail, connected: false, lost: true }));
    void findSession().catch(() => undefined);
    if (source.readyState === EventSource.CLOSED) again = setTimeout(() => (source = open()), AGAIN_MS);
  }
  const draw = setInterval(() => {
    if (!arrived.length) return;
    const fresh = arrived.reverse();
    arrived = [];
    change((tail) => ({ ...tail, rows: [...fresh, ...tail.rows].slice(0, ROWS_MAX) }));
  }, DRAW_MS);
  return () => {
    clearInterval(draw);
    clearTimeout(again);
    source.close();
  };
}

export function LiveTail() {
  const { params } = useRoute();
  const [paused, setPaused] = useState(false);
  const filters = new URLSearchParams([...params].filter(([name]) => FILTERS.includes(name)));
  const tail = useTail(filters, paused);
  const toggle = () => setPaused(!paused);
  useKey("p", paused ? "Go on" : "Pause", toggle);
  return (
    <Page title="Live tail" actions={<button type="button" aria-pressed={paused} onClick={toggle}>{paused ? "Go on" : "Pause"} <kbd>p</kbd></button>}>
      <Filters range={false} />
      <Said tail={tail} paused={paused} />
      <Panel title="Requests" note={`newest first, the last ${ROWS_MAX} · UTC`}>
        <Table
          label="Requests" columns={COLUMNS} rows={tail.rows} shown={ROWS_MAX} id={(row) => String(row.request_id)}
          href={(row) => href(`requests/${row.request_id}`)}
          empty="Waiting for requests. They appear a second or two after they end."
        />
      </Panel>
    </Page>
  );
}

function Said({ tail: { state, shown, arrived, connected, lost }, paused }: { tail: Tail; paused: boolean }) {
  const sampled = state && state.sampled_one_in > 1;
  const away = state?.store === "away";
  const status = paused ? "Paused: what arrives now is not shown"
    : lost ? "The stream of requests cannot be reached: trying again"
    : !connected ? "Connecting"
    : away ? "The store is away: requests appear when it is back"
    : sampled ? `Live, one request in ${count(state.sampled_one_in)} is shown` : "Live, every request is shown";
  return (
    <div class={`freshness tail-said ${!paused && (away || lost) ? "bad" : ""}`}>
      <span role="status">{status}</span>
      {state && <span> · {count(shown)} of {count(arrived)} requests since you came</span>}
    </div>
  );
}

const COLUMNS: Column<Row>[] = [
  { name: "ts", label: "Time", show: (row) => <time class="number" title={String(row.ts)}>{clock(parseTime(String(row.ts)))}</time> },
  { name: "status", label: "Status", show: (row) => <Status status={row.status} error={row.error_kind} /> },
  { name: "team", label: "Team", show: (row) => <Name text={row.team} /> },
  { name: "user", label: "User", show: (row) => <Name text={row.user} /> },
  { name: "feature", label: "Feature", show: (row) => <Name text={row.feature} /> },
  { name: "alias", label: "Asked for", show: (row) => <Name text={row.alias} /> },
  { name: "deployment", label: "Answered by", show: (row) => <Name text={row.deployment} /> },
  { name: "attempts", label: "Attempts", numeric: true, show: (row) => <Count value={row.attempts as string} /> },
  { name: "tokens", label: "Tokens", numeric: true, show: (row) => <><Count value={row.input_tokens as string | null} /> → <Count value={row.output_tokens as string | null} /></> },
  { name: "cost", label: "Cost", numeric: true, show: (row) => <Money usd={row.cost_usd as string | null} /> },
  { name: "ttft", label: "First token", numeric: true, show: (row) => <Duration ms={row.ttft_ms} /> },
  { name: "total", label: "Total", numeric: true, show: (row) => <Duration ms={row.total_ms} /> },
];
