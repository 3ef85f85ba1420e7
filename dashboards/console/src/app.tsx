// The shell: menu, session, keyboard, and the page that the URL names.
import { useEffect, useLayoutEffect, useState } from "preact/hooks";
import { findSession, Problem, session, signOut, type Session } from "./api";
import { useCell } from "./cell";
import { focusFilter, keys, moveRow, useKey } from "./keys";
import { Dialog, Empty, Page, ProblemNote } from "./page";
import { pageAt, PAGES } from "./pages";
import { SignIn } from "./pages/sign_in";
import { carried, go, href, useRoute } from "./router";
import { nextTheme, theme } from "./theme";

/** The session is looked at this often, so that one that ended is noticed on pages that load nothing. */
const SESSION_MS = 60_000;

export function App() {
  const known = useCell(session);
  const { path, params } = useRoute();
  const [problem, setProblem] = useState<Problem>();
  const find = () => findSession().then(() => setProblem(undefined), setProblem);
  useEffect(() => {
    // Signing in finds it itself; an answer from before would undo that.
    if (path !== "sign-in") void find();
    const timer = setInterval(() => session.get() && void find(), SESSION_MS);
    return () => clearInterval(timer);
  }, []);
  if (path === "sign-in" || known === null) return <SignIn link={params.get("token")} />;
  if (known === undefined) return problem ? <div class="alone"><ProblemNote problem={problem} retry={() => void find()} /></div> : null;
  return <Shell session={known} />;
}

function Shell({ session }: { session: Session }) {
  const [help, setHelp] = useState(false);
  const { path, params } = useRoute();
  useKey("j", "Next row", () => moveRow(1));
  useKey("k", "Row before", () => moveRow(-1));
  useKey("/", "Filter", focusFilter);
  useKey("?", "This help", () => setHelp(true));
  useGo(params);
  const found = pageAt(path);
  return (
    <div class="shell">
      <a class="skip" href="#main" onClick={skip}>Skip to the page</a>
      <Menu session={session} path={path} params={params} help={() => setHelp(true)} />
      {found ? <found.page.view key={path} {...found.parts} /> : <NotFound />}
      {help && <Help close={() => setHelp(false)} />}
    </div>
  );
}

function skip(event: Event): void {
  event.preventDefault();
  document.querySelector<HTMLElement>("main h1")?.focus();
}

/** Two keys: g, then the page's own. */
function useGo(params: URLSearchParams): void {
  const [armed, setArmed] = useState(false);
  // At once, not after the next frame: the second key may come before it.
  useLayoutEffect(() => {
    if (!armed) return;
    const pressed = (event: KeyboardEvent) => {
      const page = PAGES.find((page) => page.key === event.key);
      if (page) {
        event.stopImmediatePropagation();
        event.preventDefault();
        go(page.path, carried(params));
      }
      setArmed(false);
    };
    addEventListener("keydown", pressed, { capture: true, once: true });
    return () => removeEventListener("keydown", pressed, { capture: true });
  }, [armed]);
  const where = PAGES.flatMap((page) => (page.key ? [`${page.key} ${page.menu}`] : [])).join(", ");
  useKey("g", `Go, then ${where}`, () => setArmed(true));
}

function Menu({ session, path, params, help }: { session: Session; path: string; params: URLSearchParams; help: () => void }) {
  const shown = PAGES.filter((page) => page.menu && (page.roles?.includes(session.role) ?? true));
  const current = (page: string) => path === page || (page !== "" && path.startsWith(`${page}/`));
  return (
    <header class="menu">
      <a class="brand" href={href("", carried(params))}><Mark /> Weir</a>
      <nav aria-label="Pages">
        {shown.map((page) => (
          <a key={page.path} href={href(page.path, carried(params))} aria-current={current(page.path) ? "page" : undefined}>{page.menu}</a>
        ))}
      </nav>
      <div class="menu-foot">
        <span class="who" title={`Signed in as ${session.name}`}>
          <bdi>{session.name}</bdi>
          <span class="note">{session.role.replace("_", " ")}{session.team ? <> of <bdi>{session.team}</bdi></> : ""}</span>
        </span>
        <ThemeSwitch />
        <button type="button" class="quiet" onClick={help}>Keys <kbd>?</kbd></button>
        <button type="button" class="quiet" onClick={() => void signOut()}>Sign out</button>
      </div>
    </header>
  );
}

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" />
      <path d="M6 11c3.3 0 3.3 3 6.6 3s3.3-3 6.7-3 3.3 3 6.7 3M6 19c3.3 0 3.3 3 6.6 3s3.3-3 6.7-3 3.3 3 6.7 3" />
    </svg>
  );
}

export function ThemeSwitch() {
  const now = useCell(theme);
  return <button type="button" class="quiet" title="Light, dark, or as the system has it" onClick={nextTheme}>Theme: {now}</button>;
}

function Help({ close }: { close: () => void }) {
  const all = useCell(keys);
  const shown = all.filter((row, i) => all.findLastIndex((other) => other.key === row.key) === i);
  return (
    <Dialog title="Keys" close={close}>
      <dl class="keys">
        {shown.map((row) => <div key={row.key}><dt><kbd>{row.key}</kbd></dt><dd>{row.does}</dd></div>)}
        <div><dt><kbd>Enter</kbd></dt><dd>Open the row</dd></div>
        <div><dt><kbd>Esc</kbd></dt><dd>Leave a field, close this</dd></div>
      </dl>
    </Dialog>
  );
}

function NotFound() {
  return <Page title="Not found"><Empty>There is no such page. <a href="#/">To the overview</a></Empty></Page>;
}
