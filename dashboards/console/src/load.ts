// Loading, with what pages show of it: the last good value, what is wrong now, and since when.
import { useEffect, useReducer, useRef } from "preact/hooks";
import { Problem, query, type Result } from "./api";

export interface Loaded<T> {
  /** The last value that was loaded; stays while a newer one cannot be had. */
  value: T | undefined;
  problem: Problem | undefined;
  /** When the value was loaded. */
  at: Date | undefined;
  loading: boolean;
  reload: () => void;
}

/** How often a live page refreshes itself while it is visible. */
export const LIVE_MS = 5_000;

/** Loads when `key` changes, and every `refresh_ms` while the page is visible. */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>, refresh_ms?: number): Loaded<T> {
  const [, redraw] = useReducer((turn: number) => turn + 1, 0);
  const state = useRef<Loaded<T> & { key: string }>({
    key, value: undefined, problem: undefined, at: undefined, loading: true, reload: () => {},
  }).current;
  if (state.key !== key) Object.assign(state, { key, value: undefined, problem: undefined, at: undefined, loading: true });
  useEffect(() => follow(state, load, redraw, refresh_ms), [key, refresh_ms]);
  return { ...state };
}

function follow<T>(
  state: Loaded<T>,
  load: (signal: AbortSignal) => Promise<T>,
  redraw: (nothing: void) => void,
  refresh_ms?: number,
): () => void {
  let current = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  async function run(): Promise<void> {
    clearTimeout(timer);
    current.abort();
    current = new AbortController();
    const { signal } = current;
    state.loading = true;
    redraw();
    try {
      const value = await load(signal);
      if (signal.aborted) return;
      Object.assign(state, { value, problem: undefined, at: new Date() });
    } catch (error) {
      if (signal.aborted) return;
      state.problem = error instanceof Problem ? error : new Problem(0, "unknown", String(error));
    }
    state.loading = false;
    redraw();
    if (refresh_ms) timer = setTimeout(again, refresh_ms);
  }
  const again = () => (document.visibilityState === "visible" ? void run() : undefined);
  const seen = () => {
    if (refresh_ms && !state.loading) again();
  };
  state.reload = () => void run();
  document.addEventListener("visibilitychange", seen);
  void run();
  return () => {
    document.removeEventListener("visibilitychange", seen);
    clearTimeout(timer);
    current.abort();
  };
}

/** Rows of a named query; `params` are its range, filters and parameters. */
export const useQuery = (name: string, params: URLSearchParams, refresh_ms?: number): Loaded<Result> =>
  useRows(`queries/${name}`, params, refresh_ms);

export const useRows = (path: string, params: URLSearchParams, refresh_ms?: number): Loaded<Result> =>
  useLoad(`${path}?${params}`, (signal) => query(path, params, signal), refresh_ms);
