// What several pages are made of: facts in a list, records of the admin API, changes with a confirmation.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { call, Problem } from "./api";
import { type Loaded, useLoad } from "./load";
import { Copy, Dialog, ProblemNote } from "./page";

/** Named facts; those that are absent are left out. */
export function Facts({ rows }: { rows: [label: string, value: ComponentChildren][] }) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== false);
  return <dl class="facts">{known.map(([label, value]) => <div key={label}><dt>{label}</dt><dd>{value}</dd></div>)}</dl>;
}

/** An id or a hash, which is copied rather than read. */
export const Id = ({ text }: { text: string }) => <code class="id" title={text}>{text}</code>;

/** What the admin API says at a path. */
export const useAdmin = <T,>(path: string, refresh_ms?: number): Loaded<T> =>
  useLoad(`admin/${path}`, (signal) => call<T>("GET", `admin/${path}`, undefined, signal), refresh_ms);

/** A form that changes something. It closes when that is done, and says why if it is not. */
export function ChangeDialog<T>({ title, submit, danger, change, done, close, children }: {
  title: string;
  submit: string;
  danger?: boolean;
  change: (fields: FormData) => Promise<T>;
  /** What follows the change, instead of closing. */
  done?: (made: T) => void;
  close: () => void;
  children: ComponentChildren;
}) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const run = (event: SubmitEvent) => {
    event.preventDefault();
    setBusy(true);
    setProblem(undefined);
    change(new FormData(event.currentTarget as HTMLFormElement)).then(done ?? close, (failed: Problem) => {
      setProblem(failed);
      setBusy(false);
    });
  };
  return (
    <Dialog title={title} close={close}>
      <form class="form" onSubmit={run}>
        {children}
        {problem && <ProblemNote problem={problem} />}
        <div class="buttons">
          <button type="submit" class={danger ? "danger" : "main"} disabled={busy}>{busy ? "…" : submit}</button>
          <button type="button" onClick={close}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

/** Something that is shown once and never again. */
export function SecretDialog({ title, secret, close }: { title: string; secret: string; close: () => void }) {
  return (
    <Dialog title={title} close={close}>
      <p>Copy it now: it is kept nowhere and is not shown again.</p>
      <pre class="sql" tabIndex={0}>{secret}</pre>
      <Copy text={secret} label="Copy the key" />
    </Dialog>
  );
}

export interface FieldProps {
  label: string;
  name: string;
  value?: string;
  hint?: string;
  required?: boolean;
  pattern?: string;
}

export function Field({ label, name, value, hint, required, pattern }: FieldProps) {
  return (
    <label>
      {label}
      <input name={name} defaultValue={value ?? ""} required={required} pattern={pattern} autocomplete="off" spellcheck={false} />
      {hint && <span class="note">{hint}</span>}
    </label>
  );
}

/** A field's text; nothing if it is empty. */
export const said = (fields: FormData, name: string): string | undefined => String(fields.get(name) ?? "").trim() || undefined;

/** Names with commas between them. */
export const listed = (fields: FormData, name: string): string[] =>
  (said(fields, name) ?? "").split(",").map((one) => one.trim()).filter(Boolean);

/** What a rule holds for: the dimensions of the admin API. */
export const SCOPES = ["organisation", "team", "project", "user", "key", "environment", "tier", "model", "customer"];

export type Scope = Record<string, string>;

export function ScopeFields({ scope = {}, per = [] }: { scope?: Scope; per?: string[] }) {
  return (
    <>
      <fieldset>
        <legend>Holds for what agrees with all of these; for everything if there are none</legend>
        <div class="field-grid">{SCOPES.map((name) => <Field key={name} label={name} name={`scope-${name}`} value={scope[name]} />)}</div>
      </fieldset>
      <fieldset>
        <legend>Counted apart for each</legend>
        <div class="checks">
          {SCOPES.map((name) => (
            <label key={name}><input type="checkbox" name="per" value={name} defaultChecked={per.includes(name)} /> {name}</label>
          ))}
        </div>
      </fieldset>
    </>
  );
}

export const scopeOf = (fields: FormData): Scope =>
  Object.fromEntries(SCOPES.flatMap((name) => {
    const value = said(fields, `scope-${name}`);
    return value ? [[name, value]] : [];
  }));

export function ScopeText({ scope, per }: { scope: Scope; per?: string[] }) {
  const parts = Object.entries(scope);
  return (
    <span>
      {parts.length === 0 && "everything"}
      {parts.map(([name, value], i) => <span key={name}>{i > 0 && ", "}{name} <bdi>{value}</bdi></span>)}
      {per?.length ? `, each ${per.join(" and ")} apart` : ""}
    </span>
  );
}

/** The samples of a metric in OpenMetrics text, with their labels. */
export function series(text: string, name: string): { labels: Record<string, string>; value: number }[] {
  return text.split("\n").flatMap((line) => {
    if (!line.startsWith(name) || !/^[{ ]/.test(line.slice(name.length))) return [];
    const labels = Object.fromEntries([...line.matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)].map(([, label, value]) => [label, value!.replace(/\\(.)/g, "$1")]));
    return [{ labels, value: Number(/ ([^ ]+)$/.exec(line)?.[1]) }];
  });
}
