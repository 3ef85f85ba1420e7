// Single values, always in the same form: money exact, counts grouped, times in UTC, absent as a dash.
import type { ComponentChildren } from "preact";
import type { Value } from "./api";
import { dollars, picos } from "./money";

export const Absent = () => <span class="absent" title="not known">–</span>;

/** An amount of US dollars, given as a decimal string or in picodollars; the title has every digit. */
export function Money({ usd }: { usd: string | bigint | null | undefined }) {
  if (usd === null || usd === undefined || usd === "") return <Absent />;
  const amount = typeof usd === "bigint" ? usd : picos(usd);
  return <span class="number" title={typeof usd === "string" ? `${usd} USD` : undefined}>{dollars(amount)}</span>;
}

export const count = (value: string | number | bigint): string => {
  const [whole = "", fraction] = String(value).split(".");
  return whole.replace(/\B(?=(\d{3})+$)/g, ",") + (fraction ? `.${fraction}` : "");
};

export function Count({ value }: { value: string | number | bigint | null | undefined }) {
  if (value === null || value === undefined || value === "") return <Absent />;
  return <span class="number">{count(value)}</span>;
}

export const percent = (share: number): string => {
  const value = share * 100;
  if (value === 0) return "0%";
  if (value < 0.01) return "<0.01%";
  if (value > 99 && value < 100) return ">99%";
  return `${value.toFixed(value < 1 ? 2 : value < 10 ? 1 : 0)}%`;
};

/** A duration in the unit that reads best. */
export const duration = (ms: number): string => {
  if (ms === 0) return "0 ms";
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(2)} s`;
  return `${Math.floor(ms / 60_000)} min ${Math.round((ms % 60_000) / 1000)} s`;
};

export function Duration({ ms }: { ms: Value | undefined }) {
  if (ms === null || ms === undefined || ms === "" || Number.isNaN(Number(ms))) return <Absent />;
  return <span class="number">{duration(Number(ms))}</span>;
}

/** A time from the store ("2026-12-01 03:04:05.678") or in RFC 3339, as a Date. */
export function parseTime(text: string): Date {
  const iso = text.replace(" ", "T").replace(/(\.\d{3})\d+/, "$1");
  return new Date(/T.*(Z|[+-]\d\d:\d\d)$/.test(iso) ? iso : iso.includes("T") ? `${iso}Z` : `${iso}T00:00:00Z`);
}

const pad = (value: number): string => String(value).padStart(2, "0");

export const day = (at: Date): string => `${at.getUTCFullYear()}-${pad(at.getUTCMonth() + 1)}-${pad(at.getUTCDate())}`;
export const clock = (at: Date): string => `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}:${pad(at.getUTCSeconds())}`;
export const time = (at: Date): string => `${day(at)} ${clock(at)}`;

/** A time in UTC; the machine-readable form has all that was given. */
export function Time({ at }: { at: string | Date | null | undefined }) {
  if (!at) return <Absent />;
  const date = at instanceof Date ? at : parseTime(at);
  if (Number.isNaN(date.getTime())) return <>{String(at)}</>;
  return <time class="number" dateTime={date.toISOString()} title={`${at instanceof Date ? time(date) : at} UTC`}>{time(date)}</time>;
}

/** How much of the whole something is; says nothing that the number beside it does not. */
export function Bar({ share, kind = "" }: { share: number; kind?: "" | "warn" | "bad" }) {
  const width = Math.max(0, Math.min(1, Number.isFinite(share) ? share : 0)) * 100;
  return (
    <svg class={`bar ${kind}`} viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
      <rect class="bar-whole" width="100" height="6" />
      <rect class="bar-part" width={width} height="6" />
    </svg>
  );
}

/** A name from outside, cut by the layout and whole in the title; rows without one say so. */
export function Name({ text }: { text: Value | undefined }) {
  const name = text === null || text === undefined ? "" : String(text);
  if (name === "") return <span class="absent">(none)</span>;
  return <span class="name" title={name}><bdi>{name}</bdi></span>;
}

export function Status({ status, error }: { status: Value | undefined; error?: Value | undefined }) {
  const failed = Number(status) >= 400 || Boolean(error);
  return <span class={`status ${failed ? "bad" : "good"}`}>{String(status ?? "–")}{failed && error ? ` ${error}` : ""}</span>;
}

/** How a column's values are shown, by its name, whose end is its unit, and its type. */
export function cellOf(column: { name: string; type: string }): { numeric: boolean; show: (value: Value) => ComponentChildren } {
  const name = column.name.replace(/_before$/, "");
  const type = column.type.replace(/^(?:Nullable|LowCardinality)\((.*)\)$/, "$1");
  if (/usd/.test(name)) return { numeric: true, show: (value) => <Money usd={value as string | null} /> };
  if (/_percent$/.test(name)) return { numeric: true, show: (value) => (value === null ? <Absent /> : percent(Number(value) / 100)) };
  if (/_ms(_p\d+)?$/.test(name)) return { numeric: true, show: (value) => <Duration ms={value} /> };
  if (/_us(_p\d+)?$/.test(name)) return { numeric: true, show: (value) => <Duration ms={value === null ? null : Number(value) / 1000} /> };
  if (/^Date/.test(type)) return { numeric: false, show: (value) => (type.startsWith("Date(") || type === "Date" ? String(value) : <Time at={value as string | null} />) };
  if (/^Float/.test(type)) return { numeric: true, show: (value) => (value === null ? <Absent /> : count(Number(value).toFixed(1))) };
  if (/Int|Decimal/.test(type)) return { numeric: true, show: (value) => <Count value={value as string | null} /> };
  return { numeric: false, show: (value) => (typeof value === "object" && value !== null ? <Name text={JSON.stringify(value)} /> : <Name text={value} />) };
}
