// Charts over time, drawn by uPlot. Series differ by dash and place in the legend as well as by colour,
// and every chart has the same figures as a table.
import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { useCell } from "./cell";
import { colours } from "./theme";
import { clock, count, day, duration, percent, time } from "./values";
import { dollars } from "./money";

export type Unit = "count" | "usd" | "ms" | "percent";

export interface Series {
  label: string;
  /** As many as there are times; null where there is nothing. */
  values: (number | null)[];
}

interface ChartProps {
  label: string;
  unit: Unit;
  /** Starts of the buckets, in seconds since 1970. */
  times: number[];
  series: Series[];
  /** Series on top of each other, as areas. */
  stacked?: boolean;
  height?: number;
  /** Called with the range that was marked, in seconds. */
  zoom?: (from: number, to: number) => void;
}

const DASHES = [[], [6, 3], [2, 3], [9, 3, 2, 3], [12, 4], [1, 4], [6, 2, 2, 2, 2, 2], [3, 6]];
const HOUR_S = 3_600;
export const SERIES_MAX = DASHES.length;

export const shown = (unit: Unit, value: number | null | undefined): string => {
  if (value === null || value === undefined) return "–";
  if (unit === "usd") return dollars(BigInt(Math.round(value * 1e12)));
  if (unit === "ms") return duration(value);
  if (unit === "percent") return percent(value / 100);
  return count(Number.isInteger(value) ? value : value.toFixed(1));
};

/** A single bucket gets room around it. */
function withRoom(props: ChartProps): ChartProps {
  const [only, second] = props.times;
  if (only === undefined || second !== undefined) return props;
  const series = props.series.map((one) => ({ ...one, values: [null, ...one.values, null] }));
  return { ...props, times: [only - HOUR_S, only, only + HOUR_S], series };
}

export function Chart(given: ChartProps) {
  const props = withRoom(given);
  const { label, unit, times, series } = props;
  const box = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState<number | null>(null);
  const palette = useCell(colours);
  const plot = useRef<uPlot>(null);
  const shape = JSON.stringify([series.map((one) => one.label), unit, props.stacked, palette]);
  useEffect(() => {
    const element = box.current!;
    const drawn = new uPlot(options(props, element, setAt), dataOf(props), element);
    plot.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize({ width: element.clientWidth, height: drawn.height }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      drawn.destroy();
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(dataOf(props)), [given.times, given.series]);
  return (
    <figure class="chart">
      <Legend series={series} unit={unit} at={at} times={times} />
      <div ref={box} role="img" aria-label={`${label}. ${summary(unit, series)}`} />
      <ChartTable label={label} unit={unit} times={given.times} series={given.series} />
    </figure>
  );
}

function Legend({ series, unit, at, times }: { series: Series[]; unit: Unit; at: number | null; times: number[] }) {
  return (
    <figcaption class="legend" aria-hidden="true">
      {series.map((one, i) => (
        <span key={one.label} class="legend-entry">
          <svg viewBox="0 0 22 8"><line class={`series-${i}`} x1="0" x2="22" y1="4" y2="4" stroke-dasharray={DASHES[i % SERIES_MAX]!.join(" ")} /></svg>
          <bdi>{one.label || "(none)"}</bdi>
          {at !== null && <b class="number">{shown(unit, one.values[at])}</b>}
        </span>
      ))}
      {at !== null && times[at] !== undefined && <span class="legend-time">{time(new Date(times[at]! * 1000)).slice(0, 16)} UTC</span>}
    </figcaption>
  );
}

function ChartTable({ label, unit, times, series }: { label: string; unit: Unit; times: number[]; series: Series[] }) {
  const [open, setOpen] = useState(false);
  return (
    <details class="chart-table" onToggle={(event) => setOpen((event.currentTarget as HTMLDetailsElement).open)}>
      <summary>As a table<span class="unseen">: {label}</span></summary>
      {open && (
        <div class="table-scroll" tabIndex={0} role="region" aria-label={label}>
          <table>
            <thead><tr><th scope="col">Time, UTC</th>{series.map((one) => <th key={one.label} scope="col" class="numeric"><bdi>{one.label || "(none)"}</bdi></th>)}</tr></thead>
            <tbody>
              {times.map((at, i) => (
                <tr key={at}><td class="number">{time(new Date(at * 1000)).slice(0, 16)}</td>{series.map((one) => <td key={one.label} class="numeric">{shown(unit, one.values[i])}</td>)}</tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}

const summary = (unit: Unit, series: Series[]): string =>
  series.map((one) => {
    const known = one.values.filter((value) => value !== null);
    if (!known.length) return `${one.label}: nothing`;
    return `${one.label}: between ${shown(unit, Math.min(...known))} and ${shown(unit, Math.max(...known))}`;
  }).join("; ");

/** The series as uPlot wants them; stacked ones as running sums, the last on top. */
function dataOf({ times, series, stacked }: ChartProps): uPlot.AlignedData {
  if (!stacked) return [times, ...series.map((one) => one.values)];
  const sums = times.map(() => 0);
  return [times, ...series.map((one) => one.values.map((value, i) => (sums[i]! += value ?? 0)))];
}

function options(props: ChartProps, box: HTMLElement, setAt: (at: number | null) => void): uPlot.Options {
  const style = getComputedStyle(box);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
  return {
    width: box.clientWidth || 300,
    height: props.height ?? 180,
    legend: { show: false },
    padding: [8, 18, 0, 0],
    tzDate: (at) => new Date(at * 1000),
    cursor: { y: false, points: { size: 6 }, drag: { setScale: false, x: Boolean(props.zoom) } },
    scales: { y: { range: (_plot, min, max) => [Math.min(0, min ?? 0), max > 0 ? max * 1.05 : 1] } },
    axes: [
      { ...axis, values: (_plot, splits) => splits.map(tick), space: 64, size: 30 },
      { ...axis, size: 64, values: (_plot, splits) => splits.map((value) => shown(props.unit, value)) },
    ],
    series: [{}, ...props.series.map((one, i) => stroke(one, i, colour(`--series-${i}`), props))],
    bands: props.stacked ? props.series.slice(1).map((_one, i) => ({ series: [i + 2, i + 1] as [number, number] })) : [],
    hooks: {
      setCursor: [(plot) => setAt(plot.cursor.idx ?? null)],
      setSelect: [(plot) => zoomed(plot, props)],
    },
  };
}

function stroke(one: Series, i: number, colour: string, { stacked, times }: ChartProps): uPlot.Series {
  return {
    label: one.label,
    stroke: colour,
    width: 1.75,
    dash: DASHES[i % SERIES_MAX]!,
    fill: stacked ? `${colour}33` : undefined,
    points: { show: times.length <= 3, size: 7, fill: colour },
  };
}

const tick = (seconds: number): string => {
  const at = new Date(seconds * 1000);
  return clock(at) === "00:00:00" ? day(at).slice(5) : clock(at).slice(0, 5);
};

function zoomed(plot: uPlot, { zoom }: ChartProps): void {
  const { left, width } = plot.select;
  if (zoom && width > 4) zoom(Math.floor(plot.posToVal(left, "x")), Math.ceil(plot.posToVal(left + width, "x")));
}
