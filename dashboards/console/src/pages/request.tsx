// One request's whole life: what happened to it and when, why, what it cost, and what proves it.
import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { type Result, type Row, session, type Value } from "../api";
import { useCell } from "../cell";
import { type Loaded, useQuery } from "../load";
import { Copy, Empty, Page, Panel, ProblemNote, Show } from "../page";
import { Facts, Id } from "../parts";
import { picos } from "../money";
import { go, href } from "../router";
import { Table } from "../table";
import { Absent, Count, Duration, Money, Name, parseTime, percent, Status, Time } from "../values";
import { Decision } from "./request_decision";
import { Waterfall } from "./request_waterfall";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** What is not there yet is asked for again this often. */
const ARRIVING_MS = 3_000;

export function RequestSearch() {
  return (
    <Page title="Find a request">
      <Panel title="By its id">
        <RequestForm />
        <p class="note">Every answer carries its id in the header <code>x-request-id</code>; refusals have it, too.</p>
      </Panel>
    </Page>
  );
}

function RequestForm() {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const id = String(new FormData(event.currentTarget as HTMLFormElement).get("id")).trim();
    if (id) go(`requests/${encodeURIComponent(id)}`);
  };
  return (
    <form class="inline-form" onSubmit={submit}>
      <input name="id" aria-label="Request id" placeholder="Request id …" required data-filter autocomplete="off" spellcheck={false} />
      <button type="submit">Open</button>
    </form>
  );
}

export function RequestPage({ id = "" }: Record<string, string>) {
  const known = id.trim().toLowerCase();
  return (
    <Page title="Request" actions={<RequestForm />}>
      {UUID.test(known) ? <Life key={known} id={known} /> : <Empty>“<bdi>{id}</bdi>” is no request id. One looks like 01a22f9d-c174-77c2-87cb-42727d844eff.</Empty>}
    </Page>
  );
}

export const asked = (id: string): URLSearchParams => new URLSearchParams({ request_id: id });

function Life({ id }: { id: string }) {
  const [late, setLate] = useState<Row>();
  const request = useQuery("request", asked(id));
  if (late) return <WithAttempts request={late} />;
  return (
    <Show of={request}>
      {({ rows: [found] }) => (found ? <WithAttempts request={found} /> : <Arriving id={id} arrived={setLate} />)}
    </Show>
  );
}

/** Attempts are stored before their request: once that is there, so are they all. */
function WithAttempts({ request }: { request: Row }) {
  const attempts = useQuery("request_attempts", asked(String(request.request_id)));
  return <Show of={attempts}>{({ rows }) => <Found request={request} attempts={rows} />}</Show>;
}

function Arriving({ id, arrived }: { id: string; arrived: (request: Row) => void }) {
  const request = useQuery("request", asked(id), ARRIVING_MS);
  const tried = useQuery("request_attempts", asked(id), ARRIVING_MS);
  const found = request.value?.rows[0];
  useEffect(() => {
    if (found) arrived(found);
  }, [found]);
  const attempts = tried.value?.rows ?? [];
  return (
    <>
      <p class="said" role="status">
        {attempts.length > 0
          ? "Attempts are stored, the request itself is not: it has not ended, or its row arrives in a moment. This page looks again every few seconds."
          : "There is no request with this id, or none that you may see. A new one takes about a second to arrive; this page looks again every few seconds."}
      </p>
      {attempts.length > 0 ? <Attempts attempts={attempts} /> : <Empty>Rows are deleted when they are older than the store’s retention.</Empty>}
    </>
  );
}

function Found({ request, attempts }: { request: Row; attempts: Row[] }) {
  const id = String(request.request_id);
  const refused = request.stage === "authenticate";
  return (
    <>
      <p class="request-id"><Id text={id} /> <Copy text={id} /> <Copy text={JSON.stringify({ request, attempts }, null, 1)} label="Copy all as JSON" /></p>
      <Outcome request={request} />
      <Figures request={request} attempts={attempts} />
      <Panel title="Timeline" note={<>arrived <Time at={String(request.ts)} /> UTC</>}><Waterfall request={request} attempts={attempts} /></Panel>
      {attempts.length > 0 && <Attempts attempts={attempts} />}
      <div class="grid request-parts">
        {!refused && <Decision request={request} />}
        <Usage row={request} />
        <Cost request={request} attempts={attempts} />
        <Verdicts request={request} />
        <Caller request={request} />
        <Proof request={request} />
        {!refused && <Payload id={id} />}
      </div>
      <Everything rows={[["request", request], ...attempts.map((attempt): [string, Row] => [`attempt ${attempt.attempt}`, attempt])]} />
    </>
  );
}

const STAGES: Record<string, string> = {
  authenticate: "its key was not valid",
  receive: "while it was received",
  resolve: "the model that it asks for was looked up",
  admit: "limits and budgets were asked",
  route: "a deployment was chosen",
  attempt: "no attempt succeeded",
  relay: "while the answer was handed on",
};

function Outcome({ request }: { request: Row }) {
  const { error_kind: kind, error_message: message, stage } = request;
  if (!kind) return null;
  return (
    <div class="problem">
      <p>
        <strong><bdi>{String(kind)}</bdi></strong>
        {stage ? <> at the stage <b><bdi>{String(stage)}</bdi></b>{STAGES[String(stage)] && ` (${STAGES[String(stage)]})`}</> : ""}
        {message ? <>: <bdi>{String(message)}</bdi></> : ""}
      </p>
    </div>
  );
}

function Tile({ title, figure, children }: { title: string; figure: ComponentChildren; children?: ComponentChildren }) {
  return <dl class="tile"><dt>{title}</dt><dd class="figure">{figure}</dd><dd>{children}</dd></dl>;
}

function Figures({ request, attempts }: { request: Row; attempts: Row[] }) {
  const tried = attempts.filter((attempt) => attempt.kind !== "shadow");
  const answeredBy = request.deployment ? <>by <Name text={request.deployment} /></> : "by no deployment";
  const failed = tried.filter((attempt) => attempt.error_kind).length;
  return (
    <div class="tiles">
      <Tile title="Status" figure={<Status status={request.status} />}>{answeredBy}</Tile>
      <Tile title="Cost" figure={<Money usd={request.cost_usd as string | null} />}>
        {request.cost_usd === null ? <>unpriced: <bdi>{String(request.unpriced_reason || "not known")}</bdi></> : Number(request.waste_usd) > 0 ? <>and <Money usd={request.waste_usd as string} /> wasted</> : "nothing wasted"}
      </Tile>
      <Tile title="Total time" figure={<Duration ms={Number(request.total_us) / 1000} />}>
        {request.ttft_us === null ? "no first token" : <>first token after <Duration ms={Number(request.ttft_us) / 1000} /></>}
      </Tile>
      <Tile title="Tokens" figure={<><Count value={request.input_tokens as string} /> → <Count value={request.output_tokens as string} /></>}>
        <bdi>{String(request.usage_source)}</bdi>{speed(request)}
      </Tile>
      <Tile title="Attempts" figure={String(tried.length || request.attempts)}>{failed ? `${failed} failed` : "none failed"}</Tile>
    </div>
  );
}

function speed(request: Row): string {
  const streaming_s = (Number(request.total_us) - Number(request.ttft_us)) / 1e6;
  if (!request.streamed || request.ttft_us === null || !request.output_tokens || streaming_s <= 0.01) return "";
  return `, ${(Number(request.output_tokens) / streaming_s).toFixed(0)} tokens/s`;
}

const KINDS: Record<string, string> = {
  first: "First attempt", retry: "Retry", fallback: "Fallback", hedge: "Hedge", shadow: "Shadow",
};

/** Why an attempt was made. */
function cause({ kind, cause }: Row): ComponentChildren {
  if (kind === "first") return "chosen by routing";
  if (kind === "hedge") return "the first token was late";
  if (kind === "shadow") return "a copy for a deployment on trial";
  return cause ? <>because the one before failed: <bdi>{String(cause)}</bdi></> : "";
}

function Attempts({ attempts }: { attempts: Row[] }) {
  return (
    <Panel title="Attempts" note="each call to a deployment">
      <div class="attempts">{attempts.map((attempt, i) => <Attempt key={i} attempt={attempt} />)}</div>
    </Panel>
  );
}

function Attempt({ attempt }: { attempt: Row }) {
  const us = (name: string) => (attempt[name] === null ? null : <Duration ms={Number(attempt[name]) / 1000} />);
  const lost = attempt.error_kind === "hedge_lost";
  const outcome = attempt.delivered ? "answer delivered" : lost ? "another was faster" : attempt.error_kind ? "failed" : "answer not delivered";
  return (
    <article class="attempt">
      <h3>
        {Number(attempt.attempt) > 0 && `${attempt.attempt}. `}{KINDS[String(attempt.kind)] ?? String(attempt.kind)} at <bdi>{String(attempt.deployment)}</bdi>{" "}
        <span class={attempt.delivered ? "good" : attempt.error_kind && !lost ? "bad" : "note"}>{outcome}</span>
      </h3>
      <p class="note">{cause(attempt)}</p>
      {attempt.error_kind && <p><span class={lost ? "" : "bad"}><bdi>{String(attempt.error_kind)}</bdi></span>{attempt.error_message && <>: <bdi>{String(attempt.error_message)}</bdi></>}</p>}
      <Facts rows={[
        ["Status", attempt.status === null ? "no answer" : String(attempt.status)],
        ["Provider", <Name text={attempt.provider} />],
        ["Region", attempt.region && <bdi>{String(attempt.region)}</bdi>],
        ["Provider key", attempt.provider_key && <bdi>{String(attempt.provider_key)}</bdi>],
        ["Model", attempt.response_model && attempt.response_model !== attempt.model ? <><bdi>{String(attempt.model)}</bdi>, answered as <bdi>{String(attempt.response_model)}</bdi></> : <Name text={attempt.model} />],
        ["Service tier", attempt.service_tier && <bdi>{String(attempt.service_tier)}</bdi>],
        ["Propensity", attempt.propensity !== null && percent(Number(attempt.propensity))],
        ["Pause before", Number(attempt.delay_us) > 0 && us("delay_us")],
        ["Provider asked to wait", us("retry_after_us")],
        ["Connection", attempt.connection_reused ? "reused" : us("connect_us") ? <>made in {us("connect_us")}</> : "new"],
        ["Headers after", us("headers_us")],
        ["First token after", us("ttft_us")],
        ["Ended after", us("total_us")],
        ["Tokens", attempt.input_tokens !== null && <><Count value={attempt.input_tokens as string} /> → <Count value={attempt.output_tokens as string} />, {String(attempt.usage_source)}</>],
        ["Cost", <><Money usd={attempt.cost_usd as string | null} />{attempt.cost_usd === null && ` unpriced: ${attempt.unpriced_reason}`}</>],
        ["Finish reason", attempt.finish_reason && <bdi>{String(attempt.finish_reason)}</bdi>],
        ["Provider’s request id", attempt.upstream_request_id && <Id text={String(attempt.upstream_request_id)} />],
      ]} />
    </article>
  );
}

/** Kinds of tokens, and what else is billed. The first ones are within the next sum above them. */
const INPUT: [column: string, label: string][] = [
  ["cached_input_tokens", "read from the prompt cache"],
  ["cache_write_5m_tokens", "written to the prompt cache, 5 minutes"],
  ["cache_write_30m_tokens", "written to the prompt cache, 30 minutes"],
  ["cache_write_1h_tokens", "written to the prompt cache, 1 hour"],
  ["cache_write_12h_tokens", "written to the prompt cache, 12 hours"],
  ["audio_input_tokens", "audio"],
  ["cached_audio_input_tokens", "audio, from the cache"],
  ["image_input_tokens", "images"],
  ["cached_image_input_tokens", "images, from the cache"],
  ["video_input_tokens", "video"],
];
const OUTPUT: [string, string][] = [
  ["reasoning_tokens", "reasoning"],
  ["audio_output_tokens", "audio"],
  ["image_output_tokens", "images"],
  ["video_output_tokens", "video"],
  ["citation_tokens", "citations"],
];
const OTHER: [string, string][] = [
  ["web_searches", "Web searches"],
  ["file_searches", "File searches"],
  ["code_executions", "Code executions"],
  ["audio_input_ms", "Audio, in ms"],
];
const SOURCES: Record<string, string> = {
  reported: "the provider reported them",
  drained: "the client left; the answer was read to its end, and the provider reported them",
  estimated: "the provider reported none: the gateway estimated them",
  none: "nothing was used, or nobody knows",
};

function Usage({ row }: { row: Row }) {
  const parts = (all: [string, string][]) => all.filter(([name]) => row[name] !== null && row[name] !== undefined && Number(row[name]) > 0).map(([name, label]) => ({ label, value: row[name]!, part: true }));
  const lines: { label: string; value: Value; part: boolean }[] = [
    { label: "Input", value: row.input_tokens!, part: false }, ...parts(INPUT),
    { label: "Output", value: row.output_tokens!, part: false }, ...parts(OUTPUT),
    ...parts(OTHER).map((line) => ({ ...line, part: false })),
  ];
  const source = String(row.usage_source);
  const others = Object.entries((row.other_models ?? {}) as Record<string, Value>);
  return (
    <Panel title="Tokens" note={<><b>{source}</b>: {SOURCES[source] ?? ""}</>}>
      <table>
        <thead class="unseen"><tr><th scope="col">Kind</th><th scope="col">Tokens</th></tr></thead>
        <tbody>
          {lines.map(({ label, value, part }) => (
            <tr key={label}><td class={part ? "part" : ""}>{part ? "of which " : ""}{label}</td><td class="numeric"><Count value={value as string | null} /></td></tr>
          ))}
        </tbody>
      </table>
      {others.length > 0 && <p class="note">Other models within the call: {others.map(([model, used]) => <span key={model}><bdi>{model}</bdi> {JSON.stringify(used)} </span>)}</p>}
      {row.max_output_tokens !== null && <p class="note">The client set a limit of <Count value={row.max_output_tokens as string} /> output tokens.</p>}
    </Panel>
  );
}

function Cost({ request, attempts }: { request: Row; attempts: Row[] }) {
  const corrections = useQuery("request_corrections", asked(String(request.request_id)));
  const wasted = attempts.filter((attempt) => !attempt.delivered && attempt.cost_usd && picos(String(attempt.cost_usd)) > 0n);
  return (
    <Panel title="Cost">
      <Facts rows={[
        ["Charged", <><Money usd={request.cost_usd as string | null} />{request.cost_usd !== null && <span class="note"> {String(request.cost_usd)} USD</span>}</>],
        ["Unpriced because", request.unpriced_reason && <bdi>{String(request.unpriced_reason)}</bdi>],
        ["Wasted", <Money usd={request.waste_usd as string | null} />],
        ["Wasted on", wasted.length > 0 && wasted.map((attempt, i) => <div key={i}>{String(attempt.attempt)}. <bdi>{String(attempt.deployment)}</bdi> ({String(attempt.error_kind || attempt.kind)}) <Money usd={attempt.cost_usd as string} /></div>)],
        ["Price version", request.price_version && <code><bdi>{String(request.price_version)}</bdi></code>],
        ["Service tier", request.service_tier && <bdi>{String(request.service_tier)}</bdi>],
      ]} />
      <Show of={corrections}>
        {({ rows }) => (rows.length === 0 ? <p class="note">Not priced anew since.</p> : (
          <Table label="Corrections" rows={rows} columns={[
            { name: "ts", label: "Corrected", show: (row) => <Time at={String(row.ts)} /> },
            { name: "attempt", label: "Attempt", show: (row) => String(row.attempt) },
            { name: "before", label: "Before", numeric: true, show: (row) => <Money usd={row.cost_before_usd as string | null} /> },
            { name: "now", label: "Now", numeric: true, show: (row) => <Money usd={row.cost_usd as string | null} /> },
            { name: "version", label: "Price version", show: (row) => <Name text={row.price_version} /> },
            { name: "why", label: "By, why", show: (row) => <><Name text={row.actor} /> <Name text={row.reason} /></> },
          ]} />
        ))}
      </Show>
    </Panel>
  );
}

function Verdicts({ request }: { request: Row }) {
  return (
    <Panel title="Limits, budgets and checks">
      <Facts rows={[
        ["Limit or budget", <LimitVerdict verdict={String(request.limit_verdict)} refused={Boolean(request.error_kind)} />],
        ["Waited for admission", <Duration ms={Number(request.queue_us) / 1000} />],
        ["Response cache", request.cache_verdict && <bdi>{String(request.cache_verdict)}</bdi>],
        ["Guardrails", request.guard_verdict && <bdi>{String(request.guard_verdict)}</bdi>],
        ["Finish reason", request.finish_reason && <bdi>{String(request.finish_reason)}</bdi>],
      ]} />
    </Panel>
  );
}

function LimitVerdict({ verdict, refused }: { verdict: string; refused: boolean }) {
  const [, how, name] = /^(?:(clamped|soft):)?(.*)$/s.exec(verdict) ?? [];
  if (!verdict) return <>none refused it or came close</>;
  if (how === "clamped") return <>the budget <bdi>{name}</bdi> bounded the length of the answer</>;
  if (how === "soft") return <>the soft budget <bdi>{name}</bdi> was used up; it refuses nobody</>;
  return <span class={refused ? "bad" : "warn"}><bdi>{name}</bdi>{refused ? " refused it" : " had no room for a further attempt"}</span>;
}

/** A week around the request, filtered by one of its values. */
function around(request: Row, question: string, filter: Record<string, string>): string {
  const at = parseTime(String(request.ts)).getTime();
  const iso = (ms: number) => new Date(ms).toISOString();
  return href("audit", new URLSearchParams({ question, from: iso(at - 3 * 86_400_000), to: iso(at + 3 * 86_400_000), ...filter }));
}

function Caller({ request }: { request: Row }) {
  const linked = (filter: string, value: Value | undefined) =>
    value ? <a href={around(request, "calls", { [filter]: String(value) })} title={`Other calls with this ${filter}`}><bdi>{String(value)}</bdi></a> : null;
  const tags = Object.entries((request.tags ?? {}) as Record<string, Value>);
  return (
    <Panel title="Who called, and what">
      <Facts rows={[
        ["Organisation", linked("organisation", request.organisation)],
        ["Team", linked("team", request.team)],
        ["Project", linked("project", request.project)],
        ["User", linked("user", request.user)],
        ["Key", linked("key", request.key_id)],
        ["Environment", linked("environment", request.environment)],
        ["Tier", linked("tier", request.tier)],
        ["Feature", linked("feature", request.feature)],
        ["Customer", linked("customer", request.customer)],
        ["Tags", tags.length > 0 && tags.map(([name, value]) => <div key={name}><bdi>{name}</bdi> = <bdi>{String(value)}</bdi></div>)],
        ["Address", request.client_ip && <bdi>{String(request.client_ip)}</bdi>],
        ["Program", request.user_agent && <bdi>{String(request.user_agent)}</bdi>],
        ["Asked for", linked("alias", request.alias)],
        ["Answered by", linked("deployment", request.deployment)],
        ["API", <><bdi>{String(request.dialect)}</bdi>{request.streamed ? ", streamed" : ""}</>],
        ["Bytes in, out", <><Count value={request.request_bytes as string} />, <Count value={request.response_bytes as string} /></>],
        ["Client’s request id", request.client_request_id && <Id text={String(request.client_request_id)} />],
        ["Trace", request.trace_id && <a href={around(request, "trace", { trace_id: String(request.trace_id) })} title="All calls of this trace"><Id text={String(request.trace_id)} /></a>],
      ]} />
    </Panel>
  );
}

function Proof({ request }: { request: Row }) {
  const seals = useQuery("request_seals", asked(String(request.request_id)));
  return (
    <Panel title="Proof">
      <Show of={seals}>{({ rows }) => <Sealed request={request} rows={rows} />}</Show>
    </Panel>
  );
}

function Sealed({ request, rows }: { request: Row; rows: Row[] }) {
  const seal = rows.find((row) => row.proof === "seal");
  const checkpoint = rows.find((row) => row.proof === "checkpoint");
  const either = seal ?? checkpoint;
  return (
    <>
      <Facts rows={[
        ["Stream", <Id text={String(request.stream)} />],
        ["Event", <Count value={request.seq as string} />],
        ["Written by", either?.instance && <><bdi>{String(either.instance)}</bdi>, Weir {String(either.program_version)}</>],
        ["Sealed by the gateway", seal ? <><Time at={String(seal.sealed_at)} />, events <Count value={seal.first_seq as string} /> to <Count value={seal.last_seq as string} /></> : "not yet"],
        ["Signature", seal && (seal.signed ? <>with the gateway’s key <Id text={String(seal.signer)} /></> : <span class="warn">none</span>)],
        ["Checkpoint", checkpoint ? <>{String(checkpoint.number)}, <Time at={String(checkpoint.sealed_at)} />, by <Id text={String(checkpoint.signer)} /></> : "not yet: one is made every minute"],
      ]} />
      <p class="note">The console reads what the tables say. <code>weir audit verify</code> checks hashes and signatures.</p>
    </>
  );
}

function Payload({ id }: { id: string }) {
  const role = useCell(session)?.role;
  if (role !== "admin" && role !== "auditor") {
    return <Panel title="Prompt and answer" wide><Empty>Admins and auditors read payloads; the role {role} does not.</Empty></Panel>;
  }
  return <PayloadOf payload={useQuery("request_payload", asked(id))} />;
}

function PayloadOf({ payload }: { payload: Loaded<Result> }) {
  if (payload.problem?.status === 403) return <Panel title="Prompt and answer" wide><ProblemNote problem={payload.problem} /></Panel>;
  return (
    <Panel title="Prompt and answer" wide>
      <Show of={payload}>
        {({ rows: [row] }) => (row ? (
          <>
            <p class="note">
              Captured: <bdi>{String(row.capture)}</bdi>. {Number(row.redactions) > 0
                ? <>{String(row.redactions)} passages were redacted, found by <bdi>{(row.detectors as string[]).join(", ")}</bdi>.</>
                : "Nothing was redacted."}
            </p>
            <Text title="Request" text={String(row.request)} omitted={row.request_omitted} truncated={row.request_truncated} />
            <Text title="Answer" text={String(row.answer)} omitted={row.answer_omitted} truncated={row.answer_truncated} />
          </>
        ) : <Empty>Nothing was captured: no rule of <code>weir payloads</code> asks for it.</Empty>)}
      </Show>
    </Panel>
  );
}

function Text({ title, text, omitted, truncated }: { title: string; text: string; omitted: Value | undefined; truncated: Value | undefined }) {
  return (
    <details class="payload" open>
      <summary>{title}{truncated ? ", shortened" : ""}</summary>
      {text ? <pre class="sql" tabIndex={0} aria-label={title} dir="auto">{indented(text)}</pre> : <Empty>{omitted ? <>Left out: {String(omitted)}</> : "Erased: payload texts are kept for a shorter time."}</Empty>}
    </details>
  );
}

function indented(json: string): string {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function Everything({ rows }: { rows: [string, Row][] }) {
  const shown = (value: Value): ComponentChildren => (value === null ? <Absent /> : typeof value === "object" ? JSON.stringify(value) : String(value));
  return (
    <details class="panel everything">
      <summary>Everything that is recorded</summary>
      {rows.map(([title, row]) => (
        <section key={title}>
          <h3>{title}</h3>
          <dl class="facts">{Object.entries(row).map(([name, value]) => <div key={name}><dt><code>{name}</code></dt><dd><bdi>{shown(value)}</bdi></dd></div>)}</dl>
        </section>
      ))}
    </details>
  );
}

