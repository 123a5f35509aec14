// Formatting of numbers and times.

export const count = (number) => (number == null ? "–" : number.toLocaleString("en"));

export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part / whole < 0.1 ? 1 : 0)}%` : "–");

// A time of the state (ISO 8601, UTC) for tables.
export const when = (moment) => (moment ? moment.slice(0, 16).replace("T", " ") : "–");

export const clock = (moment) => moment.slice(11, 19);

export const seconds = (from, to) => Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);

// The time from `moment` to `now`, both by the same clock.
export const ago = (moment, now) => (moment ? `${span(seconds(moment, now))} ago` : "never");

export function span(length) {
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [name, unit] = units.find(([, unit]) => length >= 2 * unit) ?? ["s", 1];
  return `${Math.floor(length / unit)} ${name}`;
}
