// The range of time that a page looks at, from its parameters. All times are UTC.

export const RANGES: [name: string, label: string][] = [
  ["1h", "1 hour"],
  ["today", "Today"],
  ["24h", "24 hours"],
  ["7d", "7 days"],
  ["30d", "30 days"],
  ["month", "This month"],
];

export const RANGE_DEFAULT = "24h";

export interface Bounds {
  from: Date;
  /** Exclusive. */
  to: Date;
}

const HOUR_MS = 3_600_000;
const WIDTHS_MS: Record<string, number> = { "1h": HOUR_MS, "24h": 24 * HOUR_MS, "7d": 168 * HOUR_MS, "30d": 720 * HOUR_MS };

export const startOfDay = (at: Date): Date => new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate()));
export const startOfMonth = (at: Date): Date => new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth(), 1));
export const startOfNextMonth = (at: Date): Date => new Date(Date.UTC(at.getUTCFullYear(), at.getUTCMonth() + 1, 1));

export function bounds(params: URLSearchParams, now = new Date()): Bounds {
  const from = new Date(params.get("from") ?? NaN);
  const to = new Date(params.get("to") ?? NaN);
  if (from < to) return { from, to };
  const range = params.get("range") ?? RANGE_DEFAULT;
  if (range === "today") return { from: startOfDay(now), to: now };
  if (range === "month") return { from: startOfMonth(now), to: now };
  return { from: new Date(now.getTime() - (WIDTHS_MS[range] ?? WIDTHS_MS[RANGE_DEFAULT]!)), to: now };
}

/** Whether the range ends now, so that there is something to refresh. */
export const endsNow = (params: URLSearchParams): boolean => !params.get("from") || !params.get("to");
