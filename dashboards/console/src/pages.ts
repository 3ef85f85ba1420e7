// Every page, one row each. A page of its own file in pages/ is added here.
import type { ComponentType } from "preact";
import type { Session } from "./api";
import { Audit } from "./pages/audit";
import { Budgets } from "./pages/budgets";
import { Explorer } from "./pages/explorer";
import { Keys } from "./pages/keys";
import { Overview } from "./pages/overview";
import { Pipeline } from "./pages/pipeline";
import { RequestPage, RequestSearch } from "./pages/request";
import { RoutingPage } from "./pages/routing";
import { LiveTail } from "./pages/tail";

export interface PageRow {
  /** Behind #/; a part that begins with ":" is handed to the view by that name: "requests/:id". */
  path: string;
  /** In the menu; pages without it are only linked to. */
  menu?: string;
  /** Second of two keys that lead there, the first is g. */
  key?: string;
  /** Who sees it in the menu; the server decides what they get. */
  roles?: Session["role"][];
  view: ComponentType<Record<string, string>>;
}

export const PAGES: PageRow[] = [
  { path: "", menu: "Overview", key: "o", view: Overview },
  { path: "explorer", menu: "Explorer", key: "e", view: Explorer },
  { path: "tail", menu: "Live tail", key: "t", view: LiveTail },
  { path: "requests", menu: "Find a request", key: "r", view: RequestSearch },
  { path: "requests/:id", view: RequestPage },
  { path: "keys", menu: "Keys", key: "k", view: Keys },
  { path: "budgets", menu: "Budgets", key: "b", view: Budgets },
  { path: "routing", menu: "Routing", key: "u", roles: ["admin", "auditor", "finance"], view: RoutingPage },
  { path: "audit", menu: "Audit", key: "a", view: Audit },
  { path: "pipeline", menu: "Pipeline", key: "p", roles: ["admin", "auditor", "finance"], view: Pipeline },
];

/** The page at a path, with the parts of the path that it names. */
export function pageAt(path: string): { page: PageRow; parts: Record<string, string> } | undefined {
  const given = path.split("/");
  for (const page of PAGES) {
    const wanted = page.path.split("/");
    if (wanted.length !== given.length) continue;
    if (!wanted.every((part, i) => part.startsWith(":") || part === given[i])) continue;
    const named = wanted.flatMap((part, i) => (part.startsWith(":") ? [[part.slice(1), decode(given[i]!)]] : []));
    return { page, parts: Object.fromEntries(named) };
  }
  return undefined;
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
