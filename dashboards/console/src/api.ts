// Calls of the console's server. Paths are relative, so that the console works behind any prefix.
import { Cell } from "./cell";
import { bounds } from "./range";

export type Value = string | number | boolean | null | Value[] | { [name: string]: Value };
export type Row = Record<string, Value>;

/** Rows of a query. 64-bit integers and Decimals are strings, because numbers here would round them. */
export interface Result {
  columns: { name: string; type: string }[];
  rows: Row[];
  /** Whether the row limit left rows out. */
  truncated: boolean;
  elapsed_s: number;
  rows_read: number;
}

export interface Session {
  name: string;
  role: "admin" | "auditor" | "finance" | "team_owner";
  team?: string | null;
  expires: string;
  csrf: string;
}

/** Who is signed in; null is nobody, undefined is not known yet. */
export const session = new Cell<Session | null | undefined>(undefined);

/** Why a call failed, in words for people. */
export class Problem extends Error {
  constructor(readonly status: number, readonly code: string, message: string) {
    super(message);
  }
}

export async function fetchOk(path: string, init: RequestInit = {}): Promise<Response> {
  const response = await fetch(`api/${path}`, init).catch((error: Error) => {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "console_away", "The console does not answer. Is it running?");
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => ({}));
  const code: string = said.error?.code ?? "unknown";
  if (response.status === 401 && path !== "session") session.set(null);
  throw new Problem(response.status, code, said.error?.message ?? `The console answered with status ${response.status}.`);
}

/** Calls api/PATH with a JSON body, if there is one. */
export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const signedIn = session.get();
  if (method !== "GET" && signedIn) headers["x-weir-csrf"] = signedIn.csrf;
  const response = await fetchOk(path, { method, headers, body: body === undefined ? null : JSON.stringify(body), signal: signal ?? null });
  const text = await response.text();
  return (text ? JSON.parse(text) : undefined) as T;
}

/** `queries/NAME` or `explore` with its parameters, the range among them turned into times. */
export function queryPath(path: string, params: URLSearchParams): string {
  const asked = new URLSearchParams(params);
  const { from, to } = bounds(params);
  asked.delete("range");
  asked.set("from", from.toISOString());
  asked.set("to", to.toISOString());
  return `${path}?${asked}`;
}

export async function query(path: string, params: URLSearchParams, signal?: AbortSignal): Promise<Result> {
  const response = await fetchOk(queryPath(path, params), { signal: signal ?? null });
  const said = await response.json();
  const columns: Result["columns"] = said.meta;
  const named = (cells: Value[]): Row => Object.fromEntries(columns.map((column, i) => [column.name, cells[i]!]));
  return {
    columns,
    rows: said.data.map(named),
    truncated: response.headers.get("x-weir-truncated") === "true",
    elapsed_s: said.statistics?.elapsed ?? 0,
    rows_read: said.statistics?.rows_read ?? 0,
  };
}

export async function signIn(token: string): Promise<void> {
  await call("POST", "session", { token });
  await findSession();
}

export async function findSession(): Promise<void> {
  session.set(await call<Session>("GET", "session").catch((problem: Problem) => {
    if (problem.status === 401) return null;
    throw problem;
  }));
}

export async function signOut(): Promise<void> {
  await call("DELETE", "session");
  session.set(null);
}
