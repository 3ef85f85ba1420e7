// Amounts of US dollars as decimal strings and whole picodollars: never as floating-point numbers.

const PICOS = 1_000_000_000_000n;
const DECIMALS = 12;
/** Digits that tell something, of an amount below a dollar. */
const SMALL_DIGITS = 3;

export function picos(text: string): bigint {
  const [, sign, whole, fraction = ""] = /^(-?)(\d+)(?:\.(\d+))?$/.exec(text.trim()) ?? fail(text);
  const value = BigInt(whole!) * PICOS + BigInt(fraction.slice(0, DECIMALS).padEnd(DECIMALS, "0"));
  return sign ? -value : value;
}

function fail(text: string): never {
  throw new RangeError(`not an amount: ${text}`);
}

export function decimal(amount: bigint): string {
  const value = amount < 0n ? -amount : amount;
  const fraction = (value % PICOS).toString().padStart(DECIMALS, "0").replace(/0+$/, "");
  return `${amount < 0n ? "-" : ""}${value / PICOS}${fraction && `.${fraction}`}`;
}

const grouped = (whole: bigint): string => whole.toString().replace(/\B(?=(\d{3})+$)/g, ",");

/** To the cent from a dollar on; below, as many decimals as show what there is. */
export function dollars(amount: bigint): string {
  const sign = amount < 0n ? "−" : "";
  const value = amount < 0n ? -amount : amount;
  if (value === 0n) return "$0.00";
  const places = value >= PICOS ? 2 : smallPlaces(value);
  const unit = 10n ** BigInt(DECIMALS - places);
  const rounded = (value + unit / 2n) / unit;
  const scale = 10n ** BigInt(places);
  return `${sign}$${grouped(rounded / scale)}.${(rounded % scale).toString().padStart(places, "0")}`;
}

function smallPlaces(value: bigint): number {
  const leadingZeros = DECIMALS - value.toString().length;
  return Math.max(2, Math.min(DECIMALS, leadingZeros + SMALL_DIGITS));
}

export const sum = (amounts: (string | null | undefined)[]): bigint =>
  amounts.reduce((total, amount) => total + (amount ? picos(amount) : 0n), 0n);

/** a / b as a number from 0 to 1 and beyond, for bars and percentages. */
export const ratio = (a: bigint, b: bigint): number => (b === 0n ? 0 : Number((a * 1_000_000n) / b) / 1_000_000);
