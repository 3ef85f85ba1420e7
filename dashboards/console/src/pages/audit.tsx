// Ready-made questions of an audit as forms that show their SQL and give CSV, and how far the proof reaches.
import { type Result, type Row, session, type Value } from "../api";
import { useCell } from "../cell";
import { Filters } from "../filters";
import { FILTERS } from "../filter_names";
import { type Loaded, useQuery } from "../load";
import { Page, Panel, Show, Sources } from "../page";
import { Facts, Field, Id, said } from "../parts";
import { bounds } from "../range";
import { carried, changed, go, href, useRoute } from "../router";
import { type Column, columnsOf, Table } from "../table";
import { count, Name, time, Time } from "../values";

interface Question {
  name: string;
  title: string;
  says: string;
  filters: string[];
  /** It cannot be told apart by team: team owners are not shown it. */
  closed?: boolean;
  /** A parameter beside range and filters. */
  asks?: { name: string; label: string };
  empty: string;
}

const NO_FILTERS: string[] = [];

const QUESTIONS: Question[] = [
  { name: "calls", title: "Calls", says: "Which calls were made, newest first?", filters: FILTERS, empty: "No call in this range." },
  { name: "who_called_what", title: "Who called what", says: "Which users called which models, how often, and at what cost?", filters: FILTERS, empty: "Nobody called in this range." },
  { name: "who_changed_what", title: "Who changed what", says: "Which keys, teams, budgets, limits, rules and tokens were changed, and by whom?", filters: NO_FILTERS, closed: true, empty: "Nothing was changed in this range." },
  { name: "new_addresses", title: "Keys from new addresses", says: "Which keys were used from an address that they were not used from before?", filters: FILTERS, empty: "No key was used from a new address." },
  { name: "without_key", title: "Calls without a valid key", says: "Who tried to call without a valid key, how often, and what was wrong with it?", filters: NO_FILTERS, closed: true, empty: "Every call had a valid key." },
  { name: "most_expensive", title: "Most expensive calls", says: "Which single calls cost the most?", filters: FILTERS, empty: "No call cost anything." },
  { name: "unpriced", title: "Unpriced calls", says: "What was used without a known price, and why? Its cost is in no sum.", filters: FILTERS, empty: "Every call has a price." },
  { name: "waste", title: "Wasted spend", says: "What did attempts cost whose answer was not delivered?", filters: FILTERS, empty: "Nothing was wasted." },
  { name: "fallback", title: "Answered by fallback", says: "Which calls were answered by another deployment, and what failed before?", filters: FILTERS, empty: "No call needed a fallback." },
  { name: "incomplete_streams", title: "Incomplete streams", says: "Which streams of events that began in this range lack some?", filters: NO_FILTERS, closed: true, empty: "No stream that began in this range lacks an event." },
  { name: "trace", title: "Calls of one trace", says: "Which calls belong to one trace?", filters: FILTERS, asks: { name: "trace_id", label: "Trace id" }, empty: "No call of that trace in this range." },
];

export function Audit() {
  const { params } = useRoute();
  const isOwner = useCell(session)?.role === "team_owner";
  const questions = QUESTIONS.filter(({ closed }) => !(closed && isOwner));
  const question = questions.find(({ name }) => name === params.get("question")) ?? questions[0]!;
  return (
    <Page title="Audit">
      {!isOwner && <ProofStatus />}
      <div class="audit">
        <nav aria-label="Questions" class="questions">
          {questions.map(({ name, title }) => (
            <a key={name} href={href("audit", changed(carried(params), { question: name }))} aria-current={name === question.name ? "page" : undefined}>{title}</a>
          ))}
        </nav>
        <div>
          <p class="question">{question.says}</p>
          <Filters names={question.filters} />
          {question.asks && <Asks key={question.name} name={question.asks.name} label={question.asks.label} />}
          {(!question.asks || params.get(question.asks.name)) && <Answer key={question.name} question={question} />}
        </div>
      </div>
    </Page>
  );
}

function Asks({ name, label }: { name: string; label: string }) {
  const { path, params } = useRoute();
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    go(path, changed(params, { [name]: said(new FormData(event.currentTarget as HTMLFormElement), name) ?? null }));
  };
  return (
    <form class="inline-form" onSubmit={submit}>
      <Field label={label} name={name} value={params.get(name) ?? ""} required />
      <button type="submit">Ask</button>
    </form>
  );
}

/** Only what the question knows: others would be refused. */
function parameters(question: Question, params: URLSearchParams): URLSearchParams {
  const known = [...question.filters, "range", "from", "to", question.asks?.name];
  return new URLSearchParams([...params].filter(([name]) => known.includes(name)));
}

function Answer({ question }: { question: Question }) {
  const { params } = useRoute();
  const asked = parameters(question, params);
  const path = `queries/audit_${question.name}`;
  const answer = useQuery(`audit_${question.name}`, asked);
  const { from, to } = bounds(asked);
  return (
    <Panel title={question.title} note={`${time(from)} to ${time(to)} UTC`} actions={<Sources path={path} params={asked} />}>
      <Show of={answer}>
        {(result) => (
          <>
            <Table
              label={`${question.title}, rows`} rows={result.rows} columns={columnsFor(result)} empty={question.empty}
              {...(has(result, "request_id") ? { href: (row: Row) => href(`requests/${row.request_id}`) } : {})}
            />
            <p class="note">{count(result.rows.length)} rows{result.truncated ? ", and more: narrow the range or the filters" : ""}, from {count(result.rows_read)} read in {result.elapsed_s.toFixed(2)} s</p>
          </>
        )}
      </Show>
    </Panel>
  );
}

const has = (result: Result, name: string): boolean => result.columns.some((column) => column.name === name);

/** As the columns are, but that ids are short, a row's link stands for the request's, and a change is told by its fields. */
function columnsFor(result: Result): Column<Row>[] {
  const labels = { ts: "When", key_id: "Key", client_ip: "Address", object_kind: "What", object_id: "Which" };
  const columns = columnsOf(result, labels, ["request_id", "before", "after"]);
  const shown = columns.map((column) => (["key_id", "stream", "object_id"].includes(column.name) ? { ...column, show: (row: Row) => <Id text={String(row[column.name])} /> } : column));
  if (has(result, "after")) shown.push({ name: "change", label: "Change", show: (row) => <Change before={fields(row.before)} after={fields(row.after)} /> });
  return shown;
}

const fields = (json: Value | undefined): Record<string, unknown> => {
  try {
    return (JSON.parse(String(json)) ?? {}) as Record<string, unknown>;
  } catch {
    return {};
  }
};

/** The fields that differ: of something new all that are set, of something that is gone what it was. */
function Change({ before, after }: { before: Record<string, unknown>; after: Record<string, unknown> }) {
  const text = (value: unknown): string => (value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value));
  const isSet = (value: unknown): boolean => !(value === null || value === undefined || (typeof value === "object" && Object.keys(value).length === 0));
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => !["id", "created_ms"].includes(name) && text(before[name]) !== text(after[name]) && (isSet(before[name]) || isSet(after[name])));
  return (
    <span class="change">
      {names.map((name) => (
        <span key={name}><b>{name}</b> <bdi>{isSet(before[name]) && `${text(before[name])} → `}{text(after[name])}</bdi></span>
      ))}
    </span>
  );
}

const DAY = new URLSearchParams({ range: "24h" });

function ProofStatus() {
  const checkpoints = useQuery("audit_proof", DAY);
  const gateways = useQuery("audit_gateways", DAY);
  return (
    <details class="panel proof">
      <summary><h2>Proof</h2> <SealedUpTo checkpoints={checkpoints} /></summary>
      <Show of={checkpoints}>{({ rows }) => <Checkpoints rows={rows} />}</Show>
      <Show of={gateways}>{({ rows }) => <Gateways rows={rows} />}</Show>
      <p class="note">
        This is what the tables say. <code>weir audit verify</code> hashes the rows again, checks every signature, compares the anchors
        (<code>[[audit.anchor]]</code>), which are kept outside the tables, and says <b>PROVEN</b>, or names the first row that is not as it was written.
      </p>
    </details>
  );
}

function SealedUpTo({ checkpoints }: { checkpoints: Loaded<{ rows: Row[] }> }) {
  if (checkpoints.problem) return <span class="bad">{checkpoints.problem.message}</span>;
  const newest = checkpoints.value?.rows[0];
  if (!checkpoints.value) return <span class="note">Loading …</span>;
  if (!newest) return <span class="warn">No checkpoint yet: the first is made within a minute.</span>;
  return <>Sealed up to <b><Time at={String(newest.made_at)} /></b> UTC by checkpoint <b>{count(String(newest.last_checkpoint))}</b></>;
}

function Checkpoints({ rows }: { rows: Row[] }) {
  return (
    <>
      {rows.map((row) => (
        <Facts key={String(row.signer)} rows={[
          ["Checkpoints signed by", <Id text={String(row.signer)} />],
          ["Last one", <>{count(String(row.last_checkpoint))}, <Time at={String(row.made_at)} /></>],
          ["Head of the chain", <Id text={String(row.head)} />],
          ["Stored", Number(row.checkpoints) === Number(row.last_checkpoint) ? "all of them" : <span class="warn">{count(String(row.checkpoints))} of {count(String(row.last_checkpoint))}</span>],
        ]} />
      ))}
    </>
  );
}

function Gateways({ rows }: { rows: Row[] }) {
  return (
    <Table label="Keys of gateways" rows={rows} empty="No gateway sealed anything in the last 24 hours." columns={[
      { name: "instance", label: "Gateway", show: (row) => <Name text={row.instance} /> },
      { name: "key", label: "Seals signed with", show: (row) => (row.seal_key ? <Id text={String(row.seal_key)} /> : <span class="warn">no key</span>) },
      { name: "seals", label: "Seals", numeric: true, show: (row) => count(String(row.seals)) },
      { name: "unsigned", label: "Unsigned", numeric: true, show: (row) => <span class={Number(row.unsigned_seals) ? "warn" : ""}>{count(String(row.unsigned_seals))}</span> },
      { name: "sealed", label: "Sealed up to", show: (row) => <Time at={String(row.sealed_up_to)} /> },
      { name: "checkpoint", label: "Under a checkpoint up to", show: (row) => (String(row.checkpointed_up_to).startsWith("1970") ? "not yet" : <Time at={String(row.checkpointed_up_to)} />) },
    ]} />
  );
}
