// Filters and range: all of them in the URL, so that what is seen can be sent to somebody.
import { useState } from "preact/hooks";
import { query } from "./api";
import { FILTERS } from "./filter_names";
import { useLoad } from "./load";
import { bounds, RANGE_DEFAULT, RANGES } from "./range";
import { carried, changed, go, useRoute } from "./router";
import { time } from "./values";

/** Chips of what is filtered, a field to add to them, and the range. */
export function Filters({ names = FILTERS, range = true }: { names?: string[]; range?: boolean }) {
  const { path, params } = useRoute();
  const set = (name: string, values: string[]) => go(path, changed(params, { [name]: values }));
  const chips = FILTERS.flatMap((name) => params.getAll(name).map((value) => ({ name, value })));
  const without = ({ name, value }: Chip) => set(name, params.getAll(name).filter((other) => other !== value));
  return (
    <div class="filters" role="search" aria-label="Filters and range">
      {names.length > 0 && <AddFilter names={names} add={(name, value) => set(name, [...new Set([...params.getAll(name), value])])} />}
      {chips.map((chip) => <ChipButton key={`${chip.name}=${chip.value}`} chip={chip} used={names.includes(chip.name)} remove={() => without(chip)} />)}
      {chips.length > 1 && <button type="button" class="quiet" onClick={() => go(path, changed(params, Object.fromEntries(FILTERS.map((name) => [name, null]))))}>Clear</button>}
      {range && <RangePicker />}
    </div>
  );
}

interface Chip {
  name: string;
  value: string;
}

function ChipButton({ chip, used, remove }: { chip: Chip; used: boolean; remove: () => void }) {
  const said = `${chip.name.replace("_", " ")}: ${chip.value || "(none)"}`;
  return (
    <span class={`chip ${used ? "" : "unused"}`} title={used ? said : "This page cannot filter by it"}>
      <bdi>{said}</bdi>{!used && " (not used here)"}
      <button type="button" aria-label={`Remove the filter ${said}`} onClick={remove}>×</button>
    </span>
  );
}

function AddFilter({ names, add }: { names: string[]; add: (name: string, value: string) => void }) {
  const [name, setName] = useState(names.includes("team") ? "team" : names[0]!);
  const [value, setValue] = useState("");
  const suggestions = useSuggestions(name, value);
  const submit = (event: Event) => {
    event.preventDefault();
    add(name, value.trim());
    setValue("");
  };
  return (
    <form class="add-filter" onSubmit={submit}>
      <select aria-label="Filter by" value={name} onChange={(event) => setName(event.currentTarget.value)}>
        {names.map((one) => <option key={one} value={one}>{one.replace("_", " ")}</option>)}
      </select>
      <input
        data-filter aria-label={`Value of ${name}`} placeholder="is …" list="filter-values" autocomplete="off" spellcheck={false}
        value={value} onInput={(event) => setValue(event.currentTarget.value)}
      />
      <datalist id="filter-values">{suggestions.map((one) => <option key={one} value={one} />)}</datalist>
      <button type="submit" title="An empty value means rows without one">Add</button>
    </form>
  );
}

function useSuggestions(name: string, prefix: string): string[] {
  const { params } = useRoute();
  const asked = changed(carried(params), { ...Object.fromEntries(FILTERS.map((one) => [one, null])), prefix });
  const loaded = useLoad(`values/${name}?${asked}`, async (signal) => {
    await new Promise((settled) => setTimeout(settled, 150));
    if (signal.aborted) return [];
    const { columns, rows } = await query(`values/${name}`, asked, signal);
    return rows.map((row) => String(row[columns[0]!.name]));
  });
  return loaded.value ?? [];
}

function RangePicker() {
  const { path, params } = useRoute();
  const own = params.get("from") && params.get("to");
  const range = own ? "own" : (params.get("range") ?? RANGE_DEFAULT);
  const choose = (name: string) => go(path, changed(params, { range: name, from: null, to: null }));
  return (
    <div class="ranges">
      <div class="segments" role="group" aria-label="Range of time, UTC">
        {RANGES.map(([name, label]) => (
          <button type="button" key={name} aria-pressed={name === range} onClick={() => choose(name)}>{label}</button>
        ))}
      </div>
      <OwnRange />
    </div>
  );
}

function OwnRange() {
  const { path, params } = useRoute();
  const { from, to } = bounds(params);
  const own = Boolean(params.get("from") && params.get("to"));
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const fields = new FormData(event.currentTarget as HTMLFormElement);
    const [start, end] = ["from", "to"].map((name) => new Date(`${fields.get(name)}Z`));
    if (start! < end!) go(path, changed(params, { range: null, from: start!.toISOString(), to: end!.toISOString() }));
  };
  const field = (at: Date) => at.toISOString().slice(0, 16);
  return (
    <details class={`own-range ${own ? "chosen" : ""}`}>
      <summary>{own ? `${time(from).slice(0, 16)} – ${time(to).slice(0, 16)} UTC` : "From – to"}</summary>
      <form onSubmit={submit}>
        <label>From, UTC <input type="datetime-local" name="from" required defaultValue={field(from)} /></label>
        <label>To, UTC <input type="datetime-local" name="to" required defaultValue={field(to)} /></label>
        <button type="submit">Show</button>
      </form>
    </details>
  );
}
