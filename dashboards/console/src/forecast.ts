// What the month will have cost, if it goes on as in the last seven full days.
import type { Row } from "./api";
import { sum } from "./money";
import { startOfDay, startOfMonth, startOfNextMonth } from "./range";
import { day } from "./values";

const DAY_MS = 86_400_000;
const PACE_DAYS = 7;

/** The range that the figures of this month need: the pace's days may lie in the month before. */
export function monthBounds(now: Date): { from: string; to: string } {
  const pace = startOfDay(now).getTime() - PACE_DAYS * DAY_MS;
  const from = new Date(Math.min(pace, startOfMonth(now).getTime()));
  return { from: from.toISOString(), to: new Date(startOfDay(now).getTime() + DAY_MS).toISOString() };
}

const cost = (rows: Row[]): bigint => sum(rows.map((row) => row.cost_usd as string | null));

/** Of rows by day: those of this month, and what today and yesterday cost. */
export function spend(rows: Row[], now: Date): { today: bigint; yesterday: bigint; month: Row[] } {
  const on = (at: number) => rows.filter((row) => row.day === day(new Date(at)));
  const first = day(startOfMonth(now));
  return {
    today: cost(on(now.getTime())),
    yesterday: cost(on(now.getTime() - DAY_MS)),
    month: rows.filter((row) => String(row.day) >= first),
  };
}

/** What was spent this month, and the rest of it at the pace of the last seven full days: fewer, if there
 * are no more; today, if there is no full one. */
export function forecast(rows: Row[], now: Date): bigint {
  const today = startOfDay(now).getTime();
  const before = rows.filter((row) => String(row.day) < day(now) && String(row.day) >= day(new Date(today - PACE_DAYS * DAY_MS)));
  const { month, today: so_far } = spend(rows, now);
  const left_ms = BigInt(startOfNextMonth(now).getTime() - now.getTime());
  if (!before.length) return cost(month) + (so_far * left_ms) / BigInt(Math.max(1, now.getTime() - today));
  const first = new Date(`${before[0]!.day}T00:00:00Z`).getTime();
  return cost(month) + (cost(before) * left_ms) / BigInt(today - first);
}
