// Budgets and limits: what is spent, reserved and left, when it ends and resets; set and deleted here.
import { useState } from "preact/hooks";
import { call, session } from "../api";
import { useCell } from "../cell";
import { LIVE_MS } from "../load";
import { picos, ratio } from "../money";
import { Empty, Page, Panel, Show } from "../page";
import { ChangeDialog, Field, listed, said, type Scope, ScopeFields, scopeOf, ScopeText, useAdmin } from "../parts";
import { Table } from "../table";
import { Absent, Bar, Count, count, Money, Name, percent, Time } from "../values";

/** What is spent under a budget by one of those for whom it is counted apart. */
interface Standing {
  subject: string;
  spent: string;
  reserved: string;
  remaining: string;
  per_hour: string;
  ends: string | null;
  resets: string | null;
}

interface Budget {
  id: string;
  scope: Scope;
  per?: string[];
  usd?: string;
  tokens?: number;
  window: string;
  zone?: string;
  soft?: boolean;
  thresholds_percent: number[];
  unpriced?: string;
  unbounded?: string;
  overrides?: string[];
  standings?: Standing[] | null;
}

interface Limit {
  id: string;
  scope: Scope;
  per?: string[];
  requests_per_minute?: number;
  tokens_per_minute?: number;
  concurrency?: number;
  overrides?: string[];
}

type Doing = { what: "budget"; budget?: Budget } | { what: "limit"; limit?: Limit } | { what: "delete"; kind: "budgets" | "limits"; id: string };

/** Standings shown of one budget at first; the least is left of the first. */
const STANDINGS_SHOWN = 10;

export function Budgets() {
  const budgets = useAdmin<{ data: Budget[] }>("budgets", LIVE_MS);
  const limits = useAdmin<{ data: Limit[] }>("limits", LIVE_MS * 3);
  const role = useCell(session)?.role;
  const [doing, setDoing] = useState<Doing>();
  const mayBudgets = role === "admin" || role === "finance";
  const mayLimits = role === "admin";
  const actions = (
    <>
      {mayLimits && <button type="button" onClick={() => setDoing({ what: "limit" })}>New limit</button>}
      {mayBudgets && <button type="button" class="main" onClick={() => setDoing({ what: "budget" })}>New budget</button>}
    </>
  );
  return (
    <Page title="Budgets and limits" live={[budgets]} actions={actions}>
      <Show of={budgets}>
        {({ data }) => (data.length === 0
          ? <Panel title="Budgets"><Empty>There are no budgets: nothing bounds what is spent.</Empty></Panel>
          : <>{[...data].sort(byNeed).map((budget) => <BudgetPanel key={budget.id} budget={budget} act={mayBudgets ? setDoing : undefined} />)}</>)}
      </Show>
      <Panel title="Limits"><Show of={limits}>{({ data }) => <Limits limits={data} act={mayLimits ? setDoing : undefined} />}</Show></Panel>
      <Doings doing={doing} close={() => setDoing(undefined)} changed={() => { budgets.reload(); limits.reload(); }} />
    </Page>
  );
}

/** How much of a budget is used up or held, 0 to 1 and beyond. */
function used(budget: Budget, standing: Standing): number {
  const committed = picos(standing.spent) + picos(standing.reserved);
  return ratio(committed, picos(budget.usd ?? String(budget.tokens ?? 0)));
}

const worst = (budget: Budget): number => Math.max(0, ...(budget.standings ?? []).map((standing) => used(budget, standing)));
const byNeed = (one: Budget, other: Budget): number => worst(other) - worst(one) || (one.id < other.id ? -1 : 1);

function Amount({ of, text }: { of: Budget; text: string }) {
  return of.usd === undefined ? <><Count value={text} /> tokens</> : <Money usd={text} />;
}

function BudgetPanel({ budget, act }: { budget: Budget; act: ((doing: Doing) => void) | undefined }) {
  const standings = budget.standings ?? [];
  const buttons = act && (
    <>
      <button type="button" class="quiet" aria-label={`Change the budget ${budget.id}`} onClick={() => act({ what: "budget", budget })}>Change</button>
      <button type="button" class="quiet" aria-label={`Delete the budget ${budget.id}`} onClick={() => act({ what: "delete", kind: "budgets", id: budget.id })}>Delete</button>
    </>
  );
  return (
    <Panel title={budget.id} note={<Terms budget={budget} />} actions={buttons}>
      {standings.length === 0
        ? <Empty>Nobody has spent any of it.</Empty>
        : <Standings budget={budget} standings={standings} />}
    </Panel>
  );
}

function Terms({ budget }: { budget: Budget }) {
  const amount = <Amount of={budget} text={budget.usd ?? String(budget.tokens)} />;
  const window = budget.window === "total" ? "in all" : /^\d/.test(budget.window) ? `in the last ${budget.window}` : `a ${budget.window}`;
  return (
    <>
      <b>{amount} {window}</b>{budget.zone && <> (<bdi>{budget.zone}</bdi>)</>} for <ScopeText scope={budget.scope} per={budget.per ?? []} />
      {budget.soft ? "; soft: it refuses nobody" : "; hard"}
      {budget.thresholds_percent.length > 0 && `; told at ${budget.thresholds_percent.join(", ")}%`}
    </>
  );
}

function Standings({ budget, standings }: { budget: Budget; standings: Standing[] }) {
  const level = (share: number) => (share >= 1 ? "bad" : share >= 0.8 ? "warn" : "");
  return (
    <Table label={`Standing of ${budget.id}`} rows={standings} shown={STANDINGS_SHOWN} columns={[
      { name: "subject", label: "Whose", by: (row) => row.subject, show: (row) => (row.subject ? <Name text={row.subject} /> : "all together") },
      { name: "used", label: "Used", numeric: true, by: (row) => used(budget, row), show: (row) => <span class={level(used(budget, row))}>{percent(used(budget, row))}<Bar share={used(budget, row)} kind={level(used(budget, row))} /></span> },
      { name: "spent", label: "Spent", numeric: true, show: (row) => <Amount of={budget} text={row.spent} /> },
      { name: "reserved", label: "Reserved", numeric: true, show: (row) => <Amount of={budget} text={row.reserved} /> },
      { name: "left", label: "Left", numeric: true, show: (row) => <b><Amount of={budget} text={row.remaining} /></b> },
      { name: "hour", label: "In an hour", numeric: true, show: (row) => <Amount of={budget} text={row.per_hour} /> },
      { name: "ends", label: "Ends, if spent on as now", by: (row) => row.ends, show: (row) => <Forecast row={row} /> },
      { name: "resets", label: "Resets", by: (row) => row.resets, show: (row) => (row.resets ? <Time at={row.resets} /> : <Absent />) },
    ]} />
  );
}

function Forecast({ row }: { row: Standing }) {
  if (/^0(\.0*)?$/.test(row.remaining)) return <span class="bad">it is used up</span>;
  if (row.ends) return <span class="warn"><Time at={row.ends} /></span>;
  return <span class="note">{row.resets ? "not before it resets" : "not in sight"}</span>;
}

function Limits({ limits, act }: { limits: Limit[]; act: ((doing: Doing) => void) | undefined }) {
  const size = (value: number | undefined) => (value === undefined ? <Absent /> : count(value));
  return (
    <Table label="Limits, rows" rows={limits} empty="There are no limits." columns={[
      { name: "id", label: "Limit", by: (row) => row.id, show: (row) => <Name text={row.id} /> },
      { name: "scope", label: "Holds for", show: (row) => <ScopeText scope={row.scope} per={row.per ?? []} /> },
      { name: "rpm", label: "Requests a minute", numeric: true, show: (row) => size(row.requests_per_minute) },
      { name: "tpm", label: "Tokens a minute", numeric: true, show: (row) => size(row.tokens_per_minute) },
      { name: "concurrency", label: "At once", numeric: true, show: (row) => size(row.concurrency) },
      { name: "overrides", label: "Instead of", show: (row) => (row.overrides?.length ? <bdi>{row.overrides.join(", ")}</bdi> : <Absent />) },
      ...(act ? [{ name: "act", label: "Change", show: (row: Limit) => (
        <span class="buttons">
          <button type="button" class="quiet" aria-label={`Change the limit ${row.id}`} onClick={() => act({ what: "limit", limit: row })}>Change</button>
          <button type="button" class="quiet" aria-label={`Delete the limit ${row.id}`} onClick={() => act({ what: "delete", kind: "limits", id: row.id })}>Delete</button>
        </span>
      ) }] : []),
    ]} />
  );
}

function Doings({ doing, close, changed }: { doing: Doing | undefined; close: () => void; changed: () => void }) {
  if (!doing) return null;
  if (doing.what === "budget") return <BudgetForm budget={doing.budget} close={close} changed={changed} />;
  if (doing.what === "limit") return <LimitForm limit={doing.limit} close={close} changed={changed} />;
  const remove = async () => {
    await call("DELETE", `admin/${doing.kind}/${encodeURIComponent(doing.id)}`);
    changed();
  };
  return (
    <ChangeDialog title={`Delete “${doing.id}”?`} submit="Delete it" danger change={remove} close={close}>
      <p>{doing.kind === "budgets" ? "Nothing bounds what it covered, unless another budget does. What was spent under it is forgotten." : "Nothing bounds the rate of what it covered, unless another limit does."}</p>
    </ChangeDialog>
  );
}

const put = (kind: string, id: string, record: object) => call("PUT", `admin/${kind}/${encodeURIComponent(id)}`, record);

const whole = (fields: FormData, name: string): number | undefined => {
  const text = said(fields, name);
  return text === undefined ? undefined : Number(text);
};

interface FormProps {
  close: () => void;
  changed: () => void;
}

/** A record is set as a whole: what the form does not have stays as it was. */
function BudgetForm({ budget, close, changed }: FormProps & { budget: Budget | undefined }) {
  const set = async (fields: FormData) => {
    const { standings: _, ...before } = budget ?? ({} as Budget);
    await put("budgets", budget?.id ?? said(fields, "id") ?? "", {
      ...before, id: undefined, scope: scopeOf(fields), per: fields.getAll("per"),
      usd: said(fields, "usd"), tokens: whole(fields, "tokens"), window: said(fields, "window") ?? "", zone: said(fields, "zone"),
      soft: fields.get("soft") === "on", thresholds_percent: listed(fields, "thresholds").map(Number),
      unpriced: fields.get("unpriced") === "on" ? "allow" : undefined, overrides: listed(fields, "overrides"),
    });
    changed();
  };
  return (
    <ChangeDialog title={budget ? `Change the budget “${budget.id}”` : "New budget"} submit="Save" change={set} close={close}>
      <div class="field-grid">
        {!budget && <Field label="Name" name="id" required hint="refusals carry it" />}
        <Field label="US dollars" name="usd" value={budget?.usd ?? ""} pattern="\d+(\.\d{1,12})?" hint="either dollars" />
        <Field label="Tokens" name="tokens" value={budget?.tokens === undefined ? "" : String(budget.tokens)} pattern="\d+" hint="or tokens" />
        <Field label="Window" name="window" value={budget?.window ?? "month"} required hint="hour, day, week, month, total, or 12h, 30d" />
        <Field label="Time zone" name="zone" value={budget?.zone ?? ""} hint="UTC unless set: Europe/Berlin" />
        <Field label="Told at, in %" name="thresholds" value={(budget?.thresholds_percent ?? [50, 80, 100]).join(", ")} />
        <Field label="Instead of budgets" name="overrides" value={(budget?.overrides ?? []).join(", ")} hint="their names, with commas" />
      </div>
      <div class="checks">
        <label><input type="checkbox" name="soft" defaultChecked={budget?.soft ?? false} /> Soft: tells, and refuses nobody</label>
        <label><input type="checkbox" name="unpriced" defaultChecked={budget?.unpriced === "allow"} /> Let calls through that have no price</label>
      </div>
      <ScopeFields scope={budget?.scope ?? {}} per={budget?.per ?? []} />
    </ChangeDialog>
  );
}

function LimitForm({ limit, close, changed }: FormProps & { limit: Limit | undefined }) {
  const set = async (fields: FormData) => {
    await put("limits", limit?.id ?? said(fields, "id") ?? "", {
      ...limit, id: undefined, scope: scopeOf(fields), per: fields.getAll("per"),
      requests_per_minute: whole(fields, "rpm"), tokens_per_minute: whole(fields, "tpm"), concurrency: whole(fields, "concurrency"),
      overrides: listed(fields, "overrides"),
    });
    changed();
  };
  const size = (value: number | undefined) => (value === undefined ? "" : String(value));
  return (
    <ChangeDialog title={limit ? `Change the limit “${limit.id}”` : "New limit"} submit="Save" change={set} close={close}>
      <div class="field-grid">
        {!limit && <Field label="Name" name="id" required hint="refusals carry it" />}
        <Field label="Requests a minute" name="rpm" value={size(limit?.requests_per_minute)} pattern="\d+" />
        <Field label="Tokens a minute" name="tpm" value={size(limit?.tokens_per_minute)} pattern="\d+" />
        <Field label="Requests at once" name="concurrency" value={size(limit?.concurrency)} pattern="\d+" />
        <Field label="Instead of limits" name="overrides" value={(limit?.overrides ?? []).join(", ")} hint="their names, with commas" />
      </div>
      <ScopeFields scope={limit?.scope ?? {}} per={limit?.per ?? []} />
    </ChangeDialog>
  );
}
