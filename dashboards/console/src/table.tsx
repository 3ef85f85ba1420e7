// Tables: sorted by their headings, walked by j and k, a row opened by Enter.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import type { Result, Row } from "./api";
import { cellOf } from "./values";
import { Empty } from "./page";

export interface Column<T> {
  name: string;
  label: string;
  numeric?: boolean;
  show: (row: T) => ComponentChildren;
  /** Below it in the cell, outside the link. */
  below?: (row: T) => ComponentChildren;
  /** What the column is sorted by; without it, it is not sorted. */
  by?: (row: T) => string | number | null;
}

interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  rows: T[];
  /** Where a row leads. */
  href?: (row: T) => string;
  empty?: ComponentChildren;
  /** What a row is the same by when rows come and go. */
  id?: (row: T) => string;
  /** Rows shown at first; a button shows more. */
  shown?: number;
}

export function Table<T>({ label, columns, rows, href, id, empty = "Nothing in this range.", shown = 100 }: TableProps<T>) {
  const [order, setOrder] = useState<{ name: string; down: boolean }>();
  const [max, setMax] = useState(shown);
  if (!rows.length) return <Empty>{empty}</Empty>;
  const sorted = order ? sortedBy(rows, columns.find((column) => column.name === order.name), order.down) : rows;
  return (
    <div class="table-scroll" tabIndex={0} role="region" aria-label={label}>
      <table>
        <thead>
          <tr>{columns.map((column) => <Heading key={column.name} column={column} order={order} setOrder={setOrder} />)}</tr>
        </thead>
        <tbody>{sorted.slice(0, max).map((row, i) => <Line key={id?.(row) ?? i} row={row} columns={columns} href={href?.(row)} />)}</tbody>
      </table>
      {sorted.length > max && (
        <button type="button" class="more" onClick={() => setMax(max + 500)}>
          Show more ({max} of {sorted.length} rows)
        </button>
      )}
    </div>
  );
}

function Line<T>({ row, columns, href }: { row: T; columns: Column<T>[]; href: string | undefined }) {
  const open = (event: MouseEvent) => {
    const selecting = String(getSelection()) !== "";
    if (href && !selecting && !(event.target as Element).closest("a,button,input,select,label")) location.assign(href);
  };
  const enter = (event: KeyboardEvent) => {
    if (href && event.key === "Enter" && event.target === event.currentTarget) location.assign(href);
  };
  return (
    <tr data-row tabIndex={-1} class={href ? "opens" : ""} onClick={open} onKeyDown={enter}>
      {columns.map((column, i) => (
        <td key={column.name} class={column.numeric ? "numeric" : ""}>
          {href && i === 0 ? <a href={href}>{column.show(row)}</a> : column.show(row)}
          {column.below?.(row)}
        </td>
      ))}
    </tr>
  );
}

function Heading<T>({ column, order, setOrder }: {
  column: Column<T>;
  order: { name: string; down: boolean } | undefined;
  setOrder: (order: { name: string; down: boolean }) => void;
}) {
  const mine = order?.name === column.name ? order : undefined;
  const sorted = mine ? (mine.down ? "descending" : "ascending") : undefined;
  return (
    <th scope="col" class={column.numeric ? "numeric" : ""} aria-sort={sorted}>
      {column.by ? (
        <button type="button" class="heading" onClick={() => setOrder({ name: column.name, down: mine ? !mine.down : Boolean(column.numeric) })}>
          {column.label}<span aria-hidden="true">{mine ? (mine.down ? " ↓" : " ↑") : ""}</span>
        </button>
      ) : column.label}
    </th>
  );
}

function sortedBy<T>(rows: T[], column: Column<T> | undefined, down: boolean): T[] {
  const by = column?.by;
  if (!by) return rows;
  const before = (a: T, b: T): number => {
    const [one, other] = [by(a), by(b)];
    if (one === other) return 0;
    if (one === null) return 1;
    if (other === null) return -1;
    return (one < other ? -1 : 1) * (down ? -1 : 1);
  };
  return [...rows].sort(before);
}

export const words = (name: string): string => {
  const said = name.replaceAll("_", " ").replace(/ usd\b/, "").replace(/ (ms|us)\b/, "").replace(/\bttft\b/, "first token")
    .replace(/ before$/, ", before");
  return said.charAt(0).toUpperCase() + said.slice(1);
};

/** The columns of a result as they are, shown by name and type; `labels` and `hidden` change that. */
export function columnsOf(result: Result, labels: Record<string, string> = {}, hidden: string[] = []): Column<Row>[] {
  return result.columns.filter(({ name }) => !hidden.includes(name)).map((column) => {
    const { numeric, show } = cellOf(column);
    const by = (row: Row) => {
      const value = row[column.name] ?? null;
      return value === null ? null : numeric ? Number(value) : String(value);
    };
    return { name: column.name, label: labels[column.name] ?? words(column.name), numeric, by, show: (row: Row) => show(row[column.name]!) };
  });
}
