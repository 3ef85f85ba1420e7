// Routing: the table in force and why, what really happened, the tables before, and an operator's commands.
import { useState } from "preact/hooks";
import { call, fetchOk, type Row, session } from "../api";
import { useCell } from "../cell";
import { Filters } from "../filters";
import { useLoad, useQuery } from "../load";
import { Empty, Page, Panel, Show } from "../page";
import { ChangeDialog, series, useAdmin } from "../parts";
import { carried, useRoute } from "../router";
import { Table } from "../table";
import { Absent, Bar, count, Name, percent, Time } from "../values";
import type { TableTarget } from "./request_decision";

interface Target extends TableTarget {
  weight_before: number | null;
  change_in_words: string;
}

interface Version {
  version: number;
  origin: string;
  origin_in_words: string;
  made_ms: number;
}

interface Routing {
  mode: "measuring" | "frozen" | { pinned: { version: number } };
  mode_in_words: string;
  adopted_version: number;
  table: (Version & {
    measured_from_ms: number;
    measured_to_ms: number;
    ages: boolean;
    forgotten_s: number;
    aliases: { alias: string; targets: Target[] }[];
  }) | null;
  history: Version[];
}

interface Command {
  path: string;
  title: string;
  says: string;
  body?: object;
}

const FREEZE: Command = { path: "freeze", title: "Freeze the table", says: "The table in force stays, whatever is measured, until somebody resumes." };
const RESUME: Command = { path: "resume", title: "Resume", says: "Measurements decide again." };
const ROLL_BACK: Command = { path: "rollback", title: "Roll back", says: "The table before this one comes into force and stays until somebody resumes." };
const pin = (version: number): Command => ({ path: "pin", title: `Pin table ${version}`, says: `Table ${version} comes into force and stays until somebody resumes.`, body: { version } });

const REFRESH_MS = 10_000;

export function RoutingPage() {
  const routing = useAdmin<Routing>("routing", REFRESH_MS);
  const isAdmin = useCell(session)?.role === "admin";
  const [command, setCommand] = useState<Command>();
  const held = routing.value && routing.value.mode !== "measuring";
  const actions = isAdmin && routing.value?.table && (
    <>
      {held ? <button type="button" class="main" onClick={() => setCommand(RESUME)}>Resume</button> : <button type="button" onClick={() => setCommand(FREEZE)}>Freeze</button>}
      {routing.value.history.length > 1 && <button type="button" onClick={() => setCommand(ROLL_BACK)}>Roll back</button>}
    </>
  );
  return (
    <Page title="Routing" live={[routing]} actions={actions}>
      <Show of={routing}>{(value) => <InForce routing={value} pinned={isAdmin ? (version) => setCommand(pin(version)) : undefined} />}</Show>
      <Deployments />
      {command && (
        <ChangeDialog title={`${command.title}?`} submit={command.title} change={() => call("POST", `admin/routing/${command.path}`, command.body)} done={() => { setCommand(undefined); routing.reload(); }} close={() => setCommand(undefined)}>
          <p>{command.says} It is recorded with your token’s name.</p>
        </ChangeDialog>
      )}
    </Page>
  );
}

function InForce({ routing, pinned }: { routing: Routing; pinned: ((version: number) => void) | undefined }) {
  const { params } = useRoute();
  const share = useQuery("routing_share", carried(params));
  const { table } = routing;
  return (
    <>
      <Panel title={table ? `Table ${table.version}` : "No routing table yet"} note={<span class={routing.mode === "measuring" ? "" : "warn"}>{routing.mode_in_words}</span>}>
        {table ? (
          <p>
            {table.origin_in_words}, at <Time at={new Date(table.made_ms)} />; measured from <Time at={new Date(table.measured_from_ms)} /> to <Time at={new Date(table.measured_to_ms)} />.
            {table.ages ? ` It is forgotten after ${table.forgotten_s} s unless it is renewed.` : " It does not age."}
            {routing.adopted_version !== table.version && <span class="warn"> This gateway has table {routing.adopted_version}.</span>}
          </p>
        ) : <Empty>Targets have their configured weights until enough is measured.</Empty>}
      </Panel>
      <Filters names={["alias", "team", "environment", "deployment"]} />
      <Show of={share}>
        {({ rows }) => <Aliases routing={routing} shares={rows} wanted={params.getAll("alias")} />}
      </Show>
      <History routing={routing} pinned={pinned} />
    </>
  );
}

/** A target as the table has it, with what its alias's requests did. */
type TargetRow = Partial<Target> & { deployment: string; share: Row | undefined };

function Aliases({ routing, shares, wanted }: { routing: Routing; shares: Row[]; wanted: string[] }) {
  const entries = routing.table?.aliases ?? [];
  const names = [...new Set([...entries.map(({ alias }) => alias), ...shares.map(({ alias }) => String(alias))])].sort();
  const shown = names.filter((name) => wanted.length === 0 || wanted.includes(name));
  if (!shown.length) return <Panel title="Aliases"><Empty>Nothing was routed in this range.</Empty></Panel>;
  return <>{shown.map((alias) => <Alias key={alias} alias={alias} targets={entries.find((entry) => entry.alias === alias)?.targets ?? []} shares={shares.filter((row) => row.alias === alias)} />)}</>;
}

const known = (value: number | null | undefined, show: (value: number) => string) => (value === null || value === undefined ? <Absent /> : show(value));

function Alias({ alias, targets, shares }: { alias: string; targets: Target[]; shares: Row[] }) {
  const names = [...new Set([...targets.map(({ deployment }) => deployment), ...shares.map(({ deployment }) => String(deployment))])];
  const rows = names.map((deployment): TargetRow => ({ deployment, ...targets.find((target) => target.deployment === deployment), share: shares.find((row) => row.deployment === deployment) }));
  const strategy = shares[0]?.strategy;
  const share = (row: TargetRow, name: string) => (row.share ? Number(row.share[name]) / 100 : null);
  return (
    <Panel title={alias} note={strategy ? <>strategy <bdi>{String(strategy)}</bdi></> : undefined}>
      <Table label={`Targets of ${alias}`} rows={rows} columns={[
        { name: "deployment", label: "Target", show: (row) => <Name text={row.deployment} /> },
        { name: "share", label: "First attempts", numeric: true, show: (row) => known(share(row, "share_percent"), percent) },
        { name: "expected", label: "As routing chose", numeric: true, show: (row) => (share(row, "expected_percent") === null ? <Absent /> : <>{percent(share(row, "expected_percent")!)}<Bar share={share(row, "expected_percent")!} /></>) },
        { name: "weight", label: "Weight", numeric: true, show: (row) => <>{known(row.weight, (weight) => weight.toFixed(3))}{row.weight_before !== null && row.weight_before !== undefined && row.weight_before !== row.weight && <span class="note"> was {row.weight_before.toFixed(3)}</span>}</> },
        { name: "why", label: "Why this weight", show: (row) => row.change_in_words ?? <span class="absent">not in the table</span> },
        { name: "ttft", label: "First token", numeric: true, show: (row) => known(row.ttft_us, (us) => `${(us / 1000).toFixed(0)} ms`) },
        { name: "p95", label: "p95", numeric: true, show: (row) => known(row.ttft_p95_us, (us) => `${(us / 1000).toFixed(0)} ms`) },
        { name: "errors", label: "Errors", numeric: true, show: (row) => known(row.error_ratio, percent) },
        { name: "speed", label: "Tokens/s", numeric: true, show: (row) => known(row.output_tokens_per_s, (it) => it.toFixed(0)) },
        { name: "price", label: "$/Mtok", numeric: true, show: (row) => known(row.picousd_per_token, (it) => (it / 1e6).toFixed(3)) },
        { name: "tries", label: "Measured", numeric: true, show: (row) => known(row.tries, count) },
      ]} />
    </Panel>
  );
}

function History({ routing, pinned }: { routing: Routing; pinned: ((version: number) => void) | undefined }) {
  return (
    <Panel title="Tables before" note="as many as are kept, newest first">
      <Table label="Versions" rows={routing.history} shown={12} empty="There is none yet." columns={[
        { name: "version", label: "Version", numeric: true, show: (row) => row.version },
        { name: "made", label: "Made", show: (row) => <Time at={new Date(row.made_ms)} /> },
        { name: "origin", label: "How", show: (row) => row.origin_in_words },
        ...(pinned ? [{ name: "pin", label: "Change", show: (row: Version) => (row.version === routing.table?.version ? "in force" : <button type="button" class="quiet" aria-label={`Pin table ${row.version}`} onClick={() => pinned(row.version)}>Pin</button>) }] : []),
      ]} />
    </Panel>
  );
}

const STATES: Record<string, [words: string, kind: string]> = {
  closed: ["in service", "good"],
  slow_start: ["coming back slowly", "warn"],
  half_open: ["being probed", "warn"],
  open: ["out of service", "bad"],
};

function Deployments() {
  const metrics = useLoad("metrics", async (signal) => (await fetchOk("gateway/metrics", { signal })).text(), REFRESH_MS);
  const { params } = useRoute();
  const range = new URLSearchParams([...carried(params)].filter(([name]) => ["range", "from", "to"].includes(name)));
  const changes = useQuery("routing_states", range);
  return (
    <>
      <Panel title="Deployments" note="as this gateway sees them now"><Show of={metrics}>{(text) => <States text={text} />}</Show></Panel>
      <Panel title="Changes of state">
        <Show of={changes}>
          {({ rows }) => (
            <Table label="Changes of state, rows" rows={rows} shown={12} empty="No deployment left service in this range." columns={[
              { name: "ts", label: "When", show: (row) => <Time at={String(row.ts)} /> },
              { name: "deployment", label: "Deployment", show: (row) => <Name text={row.deployment} /> },
              { name: "state", label: "State", show: (row) => <span class={row.state === "ejected" ? "bad" : "good"}>{String(row.state)}{row.cause ? `: ${row.cause}` : ""}</span> },
              { name: "key", label: "Provider key", show: (row) => (row.provider_key ? <Name text={row.provider_key} /> : <Absent />) },
              { name: "until", label: "Probed from", show: (row) => <Time at={row.until as string | null} /> },
            ]} />
          )}
        </Show>
      </Panel>
    </>
  );
}

function States({ text }: { text: string }) {
  const states = series(text, "weir_deployment_state").filter(({ value }) => value === 1);
  const of = (name: string, deployment: string | undefined) => series(text, name).filter(({ labels }) => labels.deployment === deployment);
  const refused = series(text, "weir_provider_key_refused").filter(({ value }) => value > 0);
  return (
    <>
      {refused.map(({ labels }) => <p key={labels.provider_key} class="said">The provider refuses the key <bdi>{labels.provider_key}</bdi>: replace it in its file or variable.</p>)}
      <Table label="Deployments, rows" rows={[...states].sort((a, b) => (a.labels.deployment! < b.labels.deployment! ? -1 : 1))} empty="The gateway knows no deployment." columns={[
        { name: "deployment", label: "Deployment", show: ({ labels }) => <Name text={labels.deployment ?? ""} /> },
        { name: "state", label: "State", show: ({ labels }) => { const [words, kind] = STATES[labels.state ?? ""] ?? [labels.state, ""]; return <span class={kind}>{words}</span>; } },
        { name: "ok", label: "Succeeded", numeric: true, show: ({ labels }) => known(of("weir_deployment_success_ratio", labels.deployment)[0]?.value, percent) },
        { name: "ejections", label: "Ejections", numeric: true, show: ({ labels }) => known(of("weir_deployment_ejections", labels.deployment)[0]?.value, count) },
        { name: "limits", label: "Rate limit left", show: ({ labels }) => of("weir_provider_limit_left", labels.deployment).map(({ labels: { unit }, value }) => <div key={unit} class="number">{count(value)} {unit}</div>) },
      ]} />
    </>
  );
}
