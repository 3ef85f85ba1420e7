// The keyboard: pages register keys, and the help lists those that work where one is.
import { useEffect } from "preact/hooks";
import { Cell } from "./cell";

export interface Key {
  key: string;
  does: string;
  run: () => void;
}

/** Those registered, the newest last: of two for the same key, the newest works. */
export const keys = new Cell<Key[]>([]);

export function useKey(key: string, does: string, run: () => void): void {
  useEffect(() => {
    const row = { key, does, run };
    keys.set([...keys.get(), row]);
    return () => keys.set(keys.get().filter((other) => other !== row));
  });
}

const isField = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName));

function press(event: KeyboardEvent): void {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (isField(event.target)) {
    if (event.key === "Escape") (event.target as HTMLElement).blur();
    return;
  }
  const row = keys.get().findLast((row) => row.key === event.key);
  if (!row) return;
  event.preventDefault();
  row.run();
}

addEventListener("keydown", press);

/** Moves the focus among the rows of all tables of the page. */
export function moveRow(steps: number): void {
  const rows = [...document.querySelectorAll<HTMLElement>("main tr[data-row]")].filter((row) => row.checkVisibility());
  const now = rows.findIndex((row) => row.contains(document.activeElement));
  const next = now < 0 ? (steps > 0 ? 0 : rows.length - 1) : Math.max(0, Math.min(rows.length - 1, now + steps));
  rows[next]?.focus();
  rows[next]?.scrollIntoView({ block: "nearest" });
}

export const focusFilter = (): void => document.querySelector<HTMLElement>("[data-filter]")?.focus();
