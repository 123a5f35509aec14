// Numbers and moments as people read them.

export const count = (number) => (number == null ? "–" : number.toLocaleString("en"));

export const share = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part / whole < 0.1 ? 1 : 0)}%` : "–");

// A moment of the state (ISO 8601, UTC) as a table shows it.
export const when = (moment) => (moment ? moment.slice(0, 16).replace("T", " ") : "–");

export const clock = (moment) => moment.slice(11, 19);

export const seconds = (from, to) => Math.max(0, (Date.parse(to) - Date.parse(from)) / 1000);

// How long ago a moment was, by the clock of whoever wrote both.
export const ago = (moment, now) => (moment ? `${span(seconds(moment, now))} ago` : "never");

export function span(length) {
  const units = [["d", 86400], ["h", 3600], ["min", 60]];
  const [name, unit] = units.find(([, unit]) => length >= 2 * unit) ?? ["s", 1];
  return `${Math.floor(length / unit)} ${name}`;
}
