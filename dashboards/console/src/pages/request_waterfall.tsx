// The stages and attempts of one request on one axis of time.
import type { Row } from "../api";
import { duration, parseTime } from "../values";

interface Piece {
  from_us: number;
  to_us: number;
  kind: "queue" | "gateway" | "delay" | "connect" | "wait" | "answer" | "failed" | "lost";
  says: string;
}

interface Lane {
  label: string;
  note?: string;
  pieces: Piece[];
}

const WIDTH = 1000;

/** Microseconds since 1970. */
function micros(text: string): number {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  return Math.floor(parseTime(text.replace(/\.\d+/, "")).getTime()) * 1000 + Number(fraction.padEnd(6, "0").slice(0, 6));
}

export function Waterfall({ request, attempts }: { request: Row; attempts: Row[] }) {
  const arrived_us = micros(String(request.ts));
  const lanes = [...gatewayLanes(request), ...attempts.map((attempt) => attemptLane(attempt, arrived_us))];
  const end_us = Math.max(Number(request.total_us), 1, ...lanes.flatMap((lane) => lane.pieces.map((piece) => piece.to_us)));
  const first_us = request.ttft_us === null ? null : Number(request.ttft_us);
  return (
    <>
      <div class="waterfall" role="list" aria-label="Stages and attempts">
        <Axis end_us={end_us} />
        {lanes.map((lane, i) => <LaneRow key={i} lane={lane} end_us={end_us} first_us={first_us} total_us={Number(request.total_us)} />)}
      </div>
      <Legend shown={new Set(lanes.flatMap((lane) => lane.pieces.map((piece) => piece.kind)))} first={first_us !== null} />
    </>
  );
}

function gatewayLanes(request: Row): Lane[] {
  const queue_us = Number(request.queue_us);
  const overhead_us = Number(request.overhead_us);
  const lanes: Lane[] = [];
  if (queue_us > 0) {
    const said = `waited ${duration(queue_us / 1000)} for admission`;
    lanes.push({ label: "Waiting for admission", pieces: [{ from_us: 0, to_us: queue_us, kind: "queue", says: said }] });
  }
  const says = `${duration(overhead_us / 1000)} in the gateway`;
  lanes.push({ label: "Gateway", note: "its own time, to the first byte sent", pieces: [{ from_us: queue_us, to_us: queue_us + overhead_us, kind: "gateway", says }] });
  return lanes;
}

function attemptLane(attempt: Row, arrived_us: number): Lane {
  const start_us = Math.max(0, micros(String(attempt.ts)) - arrived_us);
  const delay_us = Number(attempt.delay_us);
  const at = (name: string): number | null => (attempt[name] === null ? null : start_us + Number(attempt[name]));
  const end_us = start_us + Number(attempt.total_us);
  const connected_us = at("connect_us") ?? start_us;
  const first_us = at("ttft_us");
  const end = attempt.error_kind === "hedge_lost" ? "lost" : attempt.error_kind ? "failed" : undefined;
  const said = (what: string, from: number, to: number) => `${what} ${duration((to - from) / 1000)}`;
  const pieces: Piece[] = [
    { from_us: start_us - delay_us, to_us: start_us, kind: "delay", says: said("pause of", start_us - delay_us, start_us) },
    { from_us: start_us, to_us: connected_us, kind: "connect", says: said("connecting", start_us, connected_us) },
    { from_us: connected_us, to_us: first_us ?? end_us, kind: first_us === null ? (end ?? "wait") : "wait", says: said(first_us === null ? "until its end" : "until the first token", connected_us, first_us ?? end_us) },
  ];
  if (first_us !== null) pieces.push({ from_us: first_us, to_us: end_us, kind: end ?? "answer", says: said("answer of", first_us, end_us) });
  return {
    label: `${Number(attempt.attempt) > 0 ? `${attempt.attempt}. ` : ""}${attempt.kind}`,
    note: String(attempt.deployment),
    pieces: pieces.filter((piece) => piece.to_us > piece.from_us),
  };
}

function LaneRow({ lane, end_us, first_us, total_us }: { lane: Lane; end_us: number; first_us: number | null; total_us: number }) {
  const x = (us: number) => (us / end_us) * WIDTH;
  const said = lane.pieces.map((piece) => piece.says).join(", ");
  const to_us = Math.max(0, ...lane.pieces.map((piece) => piece.to_us));
  const from_us = Math.min(to_us, ...lane.pieces.filter((piece) => piece.kind !== "delay").map((piece) => piece.from_us));
  return (
    <div class="lane" role="listitem" title={said}>
      <span class="lane-label"><bdi>{lane.label}</bdi>{lane.note && <span class="note"><bdi>{lane.note}</bdi></span>}</span>
      <svg class="lane-track" viewBox={`0 0 ${WIDTH} 20`} preserveAspectRatio="none" aria-hidden="true">
        {ticks(end_us).map((us) => <line key={us} class="tick" x1={x(us)} x2={x(us)} y1="0" y2="20" />)}
        {lane.pieces.map((piece, i) => (
          <rect key={i} class={`piece ${piece.kind}`} x={x(piece.from_us)} width={Math.max(3, x(piece.to_us - piece.from_us))} y={piece.kind === "delay" ? 8 : 3} height={piece.kind === "delay" ? 4 : 14} />
        ))}
        {first_us !== null && <line class="first-token" x1={x(first_us)} x2={x(first_us)} y1="0" y2="20" />}
        {total_us < end_us && <line class="ended" x1={x(total_us)} x2={x(total_us)} y1="0" y2="20" />}
      </svg>
      <span class="lane-time number">{duration((to_us - from_us) / 1000)}</span>
      <span class="unseen">{said}</span>
    </div>
  );
}

/** Round times, four or so. */
function ticks(end_us: number): number[] {
  const rough = end_us / 4;
  const scale = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * scale).find((width) => width >= rough)!;
  return Array.from({ length: Math.floor(end_us / step) + 1 }, (_, i) => i * step);
}

function Axis({ end_us }: { end_us: number }) {
  const all = ticks(end_us);
  return (
    <div class="lane axis" aria-hidden="true">
      <span class="lane-label" />
      <svg class="lane-axis">
        {all.map((us, i) => (
          <text key={us} x={`${(us / end_us) * 100}%`} y="12" text-anchor={i === 0 ? "start" : us / end_us > 0.95 ? "end" : "middle"}>{i === 0 ? "0" : duration(us / 1000)}</text>
        ))}
      </svg>
      <span class="lane-time" />
    </div>
  );
}

const LEGEND: [Piece["kind"], string][] = [
  ["queue", "waiting for admission"], ["gateway", "gateway"], ["delay", "pause"], ["connect", "connecting"],
  ["wait", "waiting for the first token"], ["answer", "answer"], ["failed", "failed"], ["lost", "another was faster"],
];

function Legend({ shown, first }: { shown: Set<Piece["kind"]>; first: boolean }) {
  return (
    <p class="legend">
      {LEGEND.filter(([kind]) => shown.has(kind)).map(([kind, label]) => (
        <span key={kind} class="legend-entry"><svg viewBox="0 0 22 8" aria-hidden="true"><rect class={`piece ${kind}`} width="22" height="8" /></svg>{label}</span>
      ))}
      {first && <span class="legend-entry"><svg viewBox="0 0 22 8" aria-hidden="true"><line class="first-token" x1="11" x2="11" y1="0" y2="8" /></svg>first token at the client</span>}
    </p>
  );
}
