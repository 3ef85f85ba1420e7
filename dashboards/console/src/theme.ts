// Light or dark: as the system has it, unless the switch says otherwise.
import { Cell } from "./cell";

export type Theme = "system" | "light" | "dark";
const THEMES: Theme[] = ["system", "light", "dark"];
const KEPT_AS = "weir.theme";

const kept = localStorage.getItem(KEPT_AS) as Theme;
export const theme = new Cell<Theme>(THEMES.includes(kept) ? kept : "system");

/** Counts changes of the colours, for what is drawn and not styled. */
export const colours = new Cell(0);

function apply(): void {
  document.documentElement.dataset.theme = theme.get();
  colours.set(colours.get() + 1);
}

export function nextTheme(): void {
  theme.set(THEMES[(THEMES.indexOf(theme.get()) + 1) % THEMES.length]!);
  localStorage.setItem(KEPT_AS, theme.get());
  apply();
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
apply();
