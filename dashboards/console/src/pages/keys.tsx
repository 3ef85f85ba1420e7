// Virtual keys: whose they are, what they may do, who used them last; created, rotated and revoked here.
import { useState } from "preact/hooks";
import { call, session } from "../api";
import { useCell } from "../cell";
import { Page, Panel, Show } from "../page";
import { ChangeDialog, Facts, Field, Id, listed, said, SecretDialog, useAdmin } from "../parts";
import { href } from "../router";
import { type Column, Table } from "../table";
import { Absent, Name, Time } from "../values";

interface Key {
  id: string;
  organisation: string | null;
  team: string | null;
  project: string | null;
  user: string | null;
  environment: string | null;
  tier: string | null;
  class: string;
  models: string[];
  models_denied: string[];
  networks: string[];
  created_ms: number;
  expires_ms: number | null;
  revoked_ms: number | null;
  previous?: { until_ms: number };
  last_used_ms: number | null;
  last_used_from: string | null;
}

type Doing = { what: "create" } | { what: "rotate" | "revoke"; key: Key } | { what: "shown"; title: string; secret: string };

const REFRESH_MS = 15_000;

export function Keys() {
  const keys = useAdmin<{ data: Key[] }>("keys", REFRESH_MS);
  const role = useCell(session)?.role;
  const may = role === "admin" || role === "team_owner";
  const [doing, setDoing] = useState<Doing>();
  const [wanted, setWanted] = useState("");
  const close = () => setDoing(undefined);
  return (
    <Page title="Keys" live={[keys]} actions={may && <button type="button" class="main" onClick={() => setDoing({ what: "create" })}>New key</button>}>
      <div class="filters">
        <input data-filter aria-label="Search keys" placeholder="Team, user, id …" value={wanted} onInput={(event) => setWanted(event.currentTarget.value)} />
      </div>
      <Panel title="Virtual keys" note="a key itself is shown once, when it is made">
        <Show of={keys}>
          {({ data }) => <KeyTable keys={data.filter((key) => matches(key, wanted))} filtered={wanted !== ""} act={may ? (what, key) => setDoing({ what, key }) : undefined} />}
        </Show>
      </Panel>
      <Doings doing={doing} close={close} show={(title, secret) => setDoing({ what: "shown", title, secret })} changed={keys.reload} />
    </Page>
  );
}

const matches = (key: Key, wanted: string): boolean => {
  const words = [key.id, key.organisation, key.team, key.project, key.user, key.environment, key.tier, key.last_used_from].filter(Boolean).join(" ").toLowerCase();
  return wanted.toLowerCase().split(/\s+/).every((word) => words.includes(word));
};

const isOver = (key: Key): boolean => key.revoked_ms !== null || (key.expires_ms !== null && key.expires_ms < Date.now());

function State({ of }: { of: Key }) {
  if (of.revoked_ms !== null) return <span class="bad" title={new Date(of.revoked_ms).toISOString()}>revoked</span>;
  if (isOver(of)) return <span class="bad">expired</span>;
  if (of.previous && of.previous.until_ms > Date.now()) return <span class="warn">rotated; the old one works until <Time at={new Date(of.previous.until_ms)} /></span>;
  return (
    <>
      <span class="good">works</span>
      {of.expires_ms !== null && <span class="note"> until <Time at={new Date(of.expires_ms)} /></span>}
    </>
  );
}

/** The team, and within it the project and the environment. */
function Owner({ of }: { of: Key }) {
  const within = [of.project, of.environment].filter((name) => name !== null);
  return (
    <>
      {of.team === null ? <Absent /> : <Name text={of.team} />}
      {within.length > 0 && <span class="note"> <bdi>{within.join(" · ")}</bdi></span>}
    </>
  );
}

function KeyTable({ keys, filtered, act }: { keys: Key[]; filtered: boolean; act: ((what: "rotate" | "revoke", key: Key) => void) | undefined }) {
  const columns: Column<Key>[] = [
    { name: "id", label: "Key", show: (key) => <a href={href("audit", new URLSearchParams({ question: "calls", key: key.id }))} title="Its calls"><Id text={key.id} /></a> },
    { name: "team", label: "Team", by: (key) => key.team, show: (key) => <Owner of={key} /> },
    { name: "user", label: "User", by: (key) => key.user, show: (key) => (key.user === null ? <Absent /> : <Name text={key.user} />) },
    { name: "may", label: "May use", show: (key) => <May of={key} /> },
    { name: "state", label: "State", by: (key) => (isOver(key) ? "over" : "works"), show: (key) => <State of={key} /> },
    { name: "used", label: "Used last", by: (key) => key.last_used_ms, show: (key) => (key.last_used_ms === null ? <span class="absent">never</span> : <><Time at={new Date(key.last_used_ms)} /> <span class="note"><bdi>{key.last_used_from}</bdi></span></>) },
    { name: "created", label: "Created", by: (key) => key.created_ms, show: (key) => <Time at={new Date(key.created_ms)} /> },
  ];
  if (act) {
    columns.push({
      name: "act", label: "Change", show: (key) => !isOver(key) && (
        <span class="buttons">
          <button type="button" class="quiet" aria-label={`Rotate ${key.id}`} onClick={() => act("rotate", key)}>Rotate</button>
          <button type="button" class="quiet" aria-label={`Revoke ${key.id}`} onClick={() => act("revoke", key)}>Revoke</button>
        </span>
      ),
    });
  }
  const sorted = [...keys].sort((one, other) => Number(isOver(one)) - Number(isOver(other)) || other.created_ms - one.created_ms);
  return <Table label="Virtual keys, rows" rows={sorted} columns={columns} empty={filtered ? "No key is like that." : <>There are no keys yet. Without one, nobody can call.</>} />;
}

function May({ of }: { of: Key }) {
  return (
    <span>
      {of.models.length ? <bdi>{of.models.join(", ")}</bdi> : "every model"}
      {of.models_denied.length > 0 && <> but <bdi>{of.models_denied.join(", ")}</bdi></>}
      {of.networks.length > 0 && <span class="note"> from <bdi>{of.networks.join(", ")}</bdi></span>}
      {of.class !== "interactive" && <span class="note"> {of.class}</span>}
    </span>
  );
}

function Doings({ doing, close, show, changed }: {
  doing: Doing | undefined;
  close: () => void;
  show: (title: string, secret: string) => void;
  changed: () => void;
}) {
  if (!doing) return null;
  if (doing.what === "shown") return <SecretDialog title={doing.title} secret={doing.secret} close={close} />;
  if (doing.what === "create") return <Create close={close} show={show} changed={changed} />;
  return doing.what === "rotate" ? <Rotate of={doing.key} close={close} show={show} changed={changed} /> : <Revoke of={doing.key} close={close} changed={changed} />;
}

interface DoingProps {
  close: () => void;
  show: (title: string, secret: string) => void;
  changed: () => void;
}

function Create({ close, show, changed }: DoingProps) {
  const own = useCell(session);
  const isOwner = own?.role === "team_owner";
  const create = async (fields: FormData) => {
    const expires = said(fields, "expires");
    const body = {
      team: isOwner ? own?.team : said(fields, "team"), user: said(fields, "user"), project: said(fields, "project"), environment: said(fields, "environment"),
      organisation: said(fields, "organisation"), tier: said(fields, "tier"), class: said(fields, "class"),
      models: listed(fields, "models"), models_denied: listed(fields, "models_denied"), networks: listed(fields, "networks"),
      expires_ms: expires ? new Date(`${expires}Z`).getTime() : undefined,
    };
    const made = await call<{ key: string }>("POST", "admin/keys", body);
    changed();
    return made.key;
  };
  return (
    <ChangeDialog title="New key" submit="Create" change={create} done={(key) => show("The new key", key)} close={close}>
      <div class="field-grid">
        {isOwner ? <label>Team<input name="team" value={own?.team ?? ""} readOnly /></label> : <Field label="Team" name="team" required />}
        <Field label="User" name="user" />
        <Field label="Project" name="project" />
        <Field label="Environment" name="environment" hint="prod, staging, dev …" />
        {!isOwner && <Field label="Organisation" name="organisation" hint="the team’s unless set" />}
        {!isOwner && <Field label="Tier" name="tier" hint="the team’s unless set" />}
        <Field label="Models" name="models" hint="with commas; all if empty; * at the end" />
        <Field label="But not" name="models_denied" hint="with commas" />
        <Field label="From networks" name="networks" hint="10.0.0.0/8, …; all if empty" />
        <label>Class<select name="class"><option value="interactive">interactive</option><option value="batch">batch</option></select></label>
        <label>Expires, UTC<input name="expires" type="datetime-local" /><span class="note">never if empty</span></label>
      </div>
    </ChangeDialog>
  );
}

const GRACES: [label: string, ms: number][] = [["a day", 86_400_000], ["an hour", 3_600_000], ["a week", 604_800_000], ["not at all", 0]];

function Rotate({ of, close, show, changed }: DoingProps & { of: Key }) {
  const rotate = async (fields: FormData) => {
    const body = { grace_ms: Number(fields.get("grace")) };
    const made = await call<{ key: string }>("POST", `admin/keys/${encodeURIComponent(of.id)}/rotate`, body);
    changed();
    return made.key;
  };
  return (
    <ChangeDialog title="Rotate the key" submit="Rotate" change={rotate} done={(key) => show("The key that replaces it", key)} close={close}>
      <Whose of={of} />
      <label>The old one still works<select name="grace">{GRACES.map(([label, ms]) => <option key={ms} value={ms}>{label}</option>)}</select></label>
    </ChangeDialog>
  );
}

function Revoke({ of, close, changed }: { of: Key; close: () => void; changed: () => void }) {
  const revoke = async () => {
    await call("DELETE", `admin/keys/${encodeURIComponent(of.id)}`);
    changed();
  };
  return (
    <ChangeDialog title="Revoke the key?" submit="Revoke it" danger change={revoke} close={close}>
      <p>Calls with it are refused from now on, everywhere. It cannot be taken back.</p>
      <Whose of={of} />
    </ChangeDialog>
  );
}

function Whose({ of }: { of: Key }) {
  return (
    <Facts rows={[
      ["Key", <Id text={of.id} />],
      ["Team", of.team && <bdi>{of.team}</bdi>],
      ["User", of.user && <bdi>{of.user}</bdi>],
      ["Used last", of.last_used_ms ? <><Time at={new Date(of.last_used_ms)} /> from <bdi>{of.last_used_from}</bdi></> : "never"],
    ]} />
  );
}

