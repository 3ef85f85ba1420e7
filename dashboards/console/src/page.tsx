// The frame of a page: its title, how fresh it is, and what it says when there is nothing to show.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { fetchOk, type Problem, queryPath } from "./api";
import type { Loaded } from "./load";
import { clock } from "./values";

interface PageProps {
  title: string;
  /** What the page's figures come from: their freshness is shown. */
  live?: Loaded<unknown>[];
  actions?: ComponentChildren;
  children: ComponentChildren;
}

export function Page({ title, live = [], actions, children }: PageProps) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${title} · Weir`;
    heading.current?.focus({ preventScroll: true });
  }, [title]);
  return (
    <main id="main">
      <div class="page-head">
        <h1 ref={heading} tabIndex={-1}>{title}</h1>
        {live.length > 0 && <Freshness live={live} />}
        <div class="page-actions">{actions}</div>
      </div>
      {children}
    </main>
  );
}

/** When the figures were loaded last, or why they no longer are. The time is not announced, the state is. */
function Freshness({ live }: { live: Loaded<unknown>[] }) {
  const failed = live.find((one) => one.problem);
  const oldest = live.reduce<Date | undefined>((oldest, { at }) => (at && (!oldest || at < oldest) ? at : oldest), undefined);
  const asOf = oldest && `${clock(oldest)} UTC`;
  return (
    <div class={`freshness ${failed ? "bad" : ""}`}>
      <span role="status">{failed ? failed.problem!.message : oldest ? "Live" : "Loading"}</span>
      {asOf && <span> · {failed ? `figures of ${asOf}` : asOf}</span>}
    </div>
  );
}

export function Panel({ title, note, actions, half, wide, children }: {
  title: string;
  note?: ComponentChildren;
  actions?: ComponentChildren;
  /** In a grid: half its width, or all of it; a third without them. */
  half?: boolean;
  wide?: boolean;
  children: ComponentChildren;
}) {
  return (
    <section class={`panel ${wide ? "wide" : half ? "half" : ""}`} aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
        {note && <span class="note">{note}</span>}
        {actions && <div class="panel-actions">{actions}</div>}
      </header>
      {children}
    </section>
  );
}

export function Empty({ children }: { children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}

export function ProblemNote({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="problem" role="alert">
      <p>{problem.message}</p>
      {retry && <button type="button" onClick={retry}>Try again</button>}
    </div>
  );
}

/** What was loaded; before that that it is loading, or why it is not to be had. */
export function Show<T>({ of, children }: { of: Loaded<T>; children: (value: T) => ComponentChildren }) {
  if (of.value !== undefined) return <>{children(of.value)}</>;
  if (of.problem) return <ProblemNote problem={of.problem} retry={of.reload} />;
  return <p class="loading" aria-busy="true">Loading …</p>;
}

/** Links to the same rows as CSV, and to the statement that made them. */
export function Sources({ path, params }: { path: string; params: URLSearchParams }) {
  const [sql, setSql] = useState<string>();
  const asked = (name: string, value: string) => {
    const all = new URLSearchParams(params);
    all.set(name, value);
    return queryPath(path, all);
  };
  const show = () => {
    fetchOk(asked("show", "sql"))
      .then((response) => response.text())
      .then(setSql, (problem: Problem) => setSql(`-- ${problem.message}`));
  };
  return (
    <>
      <button type="button" class="quiet" onClick={show}>SQL</button>
      <a class="button quiet" href={`api/${asked("format", "csv")}`} download>CSV</a>
      {sql !== undefined && <Sql text={sql} close={() => setSql(undefined)} />}
    </>
  );
}

function Sql({ text, close }: { text: string; close: () => void }) {
  return (
    <Dialog title="The statement behind this" close={close}>
      <p class="note">Paste it into <code>weir sql</code>, or into any ClickHouse client.</p>
      <pre class="sql" tabIndex={0}>{text}</pre>
      <Copy text={text} />
    </Dialog>
  );
}

export function Copy({ text, label = "Copy" }: { text: string; label?: string }) {
  const [said, setSaid] = useState("");
  const copy = () => {
    navigator.clipboard?.writeText(text).then(() => setSaid("Copied"), () => setSaid("Not permitted: select the text"));
    if (!navigator.clipboard) setSaid("Not permitted here: select the text");
  };
  return <><button type="button" onClick={copy}>{label}</button> <span role="status" class="note">{said}</span></>;
}

export function Dialog({ title, close, children }: { title: string; close: () => void; children: ComponentChildren }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-label={title} onClose={close}>
      <header class="panel-head">
        <h2>{title}</h2>
        <div class="panel-actions">
          <button type="button" class="quiet" onClick={() => dialog.current?.close()}>Close</button>
        </div>
      </header>
      {children}
    </dialog>
  );
}
