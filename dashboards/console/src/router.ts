// Where the page is: a path and parameters behind the #, so that any prefix before it works.
import { Cell, useCell } from "./cell";
import { FILTERS } from "./filter_names";

export interface Route {
  /** Without slashes at its ends: "", "explorer", "requests/ID". */
  path: string;
  params: URLSearchParams;
}

export function parseHash(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#/, "").split(/\?(.*)/s);
  return { path: path.replace(/^\/+|\/+$/g, ""), params: new URLSearchParams(query) };
}

const here = new Cell(parseHash(location.hash));
addEventListener("hashchange", () => here.set(parseHash(location.hash)));

export const useRoute = (): Route => useCell(here);

export function href(path: string, params = new URLSearchParams()): string {
  const query = params.toString();
  return `#/${path}${query && `?${query}`}`;
}

export function go(path: string, params?: URLSearchParams): void {
  location.hash = href(path, params);
}

/** Changes where the page is without a step to go back to. */
export function replace(path: string, params?: URLSearchParams): void {
  history.replaceState(null, "", href(path, params));
  here.set(parseHash(location.hash));
}

/** A copy of the parameters with these changed; null removes one. */
export function changed(params: URLSearchParams, changes: Record<string, string | string[] | null>): URLSearchParams {
  const copy = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    copy.delete(name);
    for (const one of value === null ? [] : [value].flat()) copy.append(name, one);
  }
  return copy;
}

/** What goes along from page to page: the range and the filters. */
export function carried(params: URLSearchParams): URLSearchParams {
  const kept = new URLSearchParams();
  for (const [name, value] of params) {
    if (FILTERS.includes(name) || ["range", "from", "to"].includes(name)) kept.append(name, value);
  }
  return kept;
}
