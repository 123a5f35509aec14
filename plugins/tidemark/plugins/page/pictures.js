// The two diagrams, as SVG.
import { clock, count, counted, share } from "./words.js";

const { createElement: h } = globalThis.React;
const MINUTES = 60;
const [FLOOR, BUSY] = [150, 20]; // pixels: the height of the highest bar, and of a fully busy minute

const box = (className, from, to, y, height, title) =>
  to > from && h("rect", { className, x: `${from}%`, width: `${to - from}%`, y, height }, title && h("title", null, title));

// A partition of the log from its earliest retained offset to its end: the batch layer up to the tide mark, then the stream, then
// events not served yet. Below it, the extent of the raw history.
export function Tide({ of }) {
  const length = Math.max(1, of.log_end - of.log_start);
  const at = (offset) => 100 * Math.min(1, Math.max(0, offset - of.log_start) / length);
  const mark = at(of.published);
  const served = Math.max(mark, at(of.served));
  const end = at(of.log_end);
  return h(
    "svg",
    { className: "tide", role: "img", "aria-label": `tide mark of ${of.topic}/${of.partition} at ${count(of.published)}` },
    h("rect", { className: "bed", x: 0, width: "100%", y: 9, height: 18 }),
    box("published", 0, mark, 9, 18, `published, up to the tide mark at ${count(of.published)}`),
    box("streamed", mark, served, 9, 18, `served by the stream since then, up to ${count(of.served)}`),
    box("behind", served, end, 9, 18, `not served yet: ${count(of.behind)}`),
    box("landed", 0, at(of.landed), 29, 3, `in the raw history, up to ${count(of.landed)}`),
    h("line", { className: "mark", x1: `${mark}%`, x2: `${mark}%`, y1: 6, y2: 28 }),
    h("svg", { x: `${mark}%`, overflow: "visible" }, h("path", { className: "mark", d: "M-5 0h10l-5 7z" })),
  );
}

// Every minute of the hour before `now`, including idle ones.
export function lastHour(rates, now) {
  const last = Math.floor(Date.parse(now) / 60000);
  const known = new Map(rates.map((one) => [Date.parse(one.minute) / 60000, one]));
  const nothing = { events: 0, rejected: 0, micro_batches: 0, busy_milliseconds: 0 };
  return Array.from({ length: MINUTES }, (_, place) => {
    const minute = last - MINUTES + 1 + place;
    return { minute: new Date(minute * 60000).toISOString(), ...nothing, ...known.get(minute) };
  });
}

const said = (one) =>
  `${clock(one.minute).slice(0, 5)}: ${counted(one.events, "event")} (${count(one.rejected)} rejected) in ` +
  `${counted(one.micro_batches, "micro-batch", "micro-batches")}, busy ${share(one.busy_milliseconds, 60000)} of the minute`;

// Bars of the events per minute, and below the share of each minute the stream was busy.
export function Rates({ minutes }) {
  const most = Math.max(1, ...minutes.map((one) => one.events));
  const width = 100 / MINUTES;
  return h(
    "svg",
    { className: "rates", role: "img", "aria-label": "events per minute in the last hour, and how busy the stream was" },
    h("line", { className: "axis", x1: 0, x2: "100%", y1: FLOOR + 0.5, y2: FLOOR + 0.5 }),
    minutes.map((one, place) => {
      const [accepted, rejected] = [one.events - one.rejected, one.rejected].map((events) => (FLOOR * events) / most);
      const busy = BUSY * Math.min(1, one.busy_milliseconds / 60000);
      const [from, to] = [place * width + 0.15, (place + 1) * width - 0.15];
      return h(
        "g",
        { key: one.minute },
        h("title", null, said(one)),
        h("rect", { className: "whole", x: `${place * width}%`, width: `${width}%`, y: 0, height: "100%" }),
        box("accepted", from, to, FLOOR - accepted, accepted),
        box("rejected", from, to, FLOOR - accepted - rejected, rejected),
        box("bed", from, to, FLOOR + 8, BUSY),
        box("busy", from, to, FLOOR + 8 + BUSY - busy, busy),
      );
    }),
  );
}
