// The parts of the page. Each renders one part of the state.
import { Rates, Tide, lastHour } from "./pictures.js";
import { ago, clock, count, counted, seconds, share, span, when } from "./words.js";

const { createElement: h } = globalThis.React;
const { Link } = globalThis.ReactRouterDOM;

// The DAGs that act on a part, with tooltips. Links lead to the DAG, because Airflow has no address for its form.
const ACTS = {
  alerts: { alerts: "check the health and send notifications" },
  tides: { nightly_batch: "advance the tide marks", history: "compute the cube of each day", maintenance: "compact the raw history" },
  stream: { stream: "pause, resume or restart the stream" },
  verification: { nightly_batch: "verify again; on_drift decides what to do", rebuild: "restore a publication, given its number" },
  quarantine: { replay_quarantine: "validate again and send the valid records", discard_quarantine: "close records, with a reason" },
  ingestions: { ingest: "ingest files, or backfill days", withdraw: "withdraw one of these ingestions" },
  publications: { nightly_batch: "publish the current state", rebuild: "repair, or roll back to a publication, given its number" },
};
const UNSEEN = 10; // seconds; the watcher measures the log every second
const PIPELINE = "tidemark-pipeline";
const DASHBOARDS = { "tidemark-catalog": "Catalog", "tidemark-products": "Products", "tidemark-trends": "Trends", [PIPELINE]: "Pipeline" };
const KINDS = { cell: "cells", product: "products", category: "categories", quarantine: "rejections", ingestion: "rows of files" };

const quiet = (...content) => h("p", { className: "quiet" }, ...content);
const toned = (tone, content) => h("span", { className: tone }, content);

const Dashboard = ({ superset, slug, children }) =>
  superset && h("a", { href: `${superset}/superset/dashboard/${slug}/`, target: "_blank", rel: "noreferrer" }, children, " ↗");

function Card({ name, title, wide, dags, beside, children }) {
  const acts = Object.entries(ACTS[name] ?? {}).filter(([dag]) => dags?.[dag]);
  const links = acts.map(([dag, does]) => h(Link, { key: dag, to: `/dags/${dags[dag]}`, className: "act", title: does }, dag));
  return h(
    "section",
    { className: wide ? "card wide" : "card", "data-part": name },
    h("header", null, h("h2", null, title), h("nav", null, beside, links)),
    children,
  );
}

// A column has a title and a function `of` from row to cell; `text` columns are aligned left.
function Table({ columns, rows, empty }) {
  if (!rows.length) return quiet(empty);
  const line = (kind, content) => columns.map((one, key) => h(kind, { key, className: one.text ? "text" : "" }, content(one)));
  return h(
    "table",
    null,
    h("thead", null, h("tr", null, line("th", (one) => one.title))),
    h("tbody", null, rows.map((row, key) => h("tr", { key }, line("td", (one) => one.of(row))))),
  );
}

const Figure = ({ name, title, value, tone, children }) =>
  h(
    "div",
    { className: `figure ${tone ?? ""}`, "data-figure": name },
    h("div", { className: "title" }, title),
    h("div", { className: "value" }, value),
    h("div", { className: "quiet" }, children),
  );

function Stream({ of, beat, now }) {
  const figure = (value, tone, says) => h(Figure, { name: "stream", title: "Stream", value, tone }, says);
  const { paused, by, since, reason, stopped_at: ended } = of.control;
  if (of.rebuilding != null) return figure("stopped", "warned", `publication ${of.rebuilding} is being rebuilt`);
  const at = of.alive && !ended ? "pausing" : "paused";
  if (paused) return figure(at, "warned", `by ${by} since ${when(since)} UTC${reason ? `: ${reason}` : ""}`);
  if (of.alive) return figure("running", "good", `for ${span(seconds(of.started_at, now))}, generation ${of.generation}`);
  return figure("down", "bad", beat ? `no heartbeat for ${span(seconds(beat, now))}` : "never started");
}

function Behind({ freshness, measuredAt, now }) {
  const figure = (value, tone, says) => h(Figure, { name: "behind", title: "Events behind", value, tone }, says);
  const behind = freshness.events_behind;
  if (!measuredAt) return figure("unknown", "bad", "the log has not been measured yet");
  if (seconds(measuredAt, now) > UNSEEN) {
    const says = `Log not measured for ${span(seconds(measuredAt, now))}: check that Kafka and the watcher are running`;
    return figure(behind == null ? "unknown" : `${count(behind)} or more`, "bad", says);
  }
  return figure(count(behind), behind ? "warned" : "good", `log measured ${ago(measuredAt, now)}`);
}

// Alerts that have begun and not ended.
export function Alerts({ state, dags }) {
  if (!state.alerts.length) return null;
  return h(
    Card,
    { name: "alerts", title: "Alerts", wide: true, dags },
    h(Table, {
      rows: state.alerts,
      columns: [
        { title: "Alert", text: true, of: (one) => toned("bad", one._id) },
        { title: "Problem", text: true, of: (one) => one.text },
        { title: "Since (UTC)", text: true, of: (one) => when(one.began_at) },
      ],
    }),
  );
}

export function Figures({ state }) {
  const { at: now, freshness, stream, verification, summary } = state;
  const rejected = Object.values(state.quarantine).reduce((sum, one) => sum + one, 0);
  const drift = verification?.drift;
  const bad = drift && !verification.rules_changed;
  const plain = (name, title, value, tone, says) => h(Figure, { name, title, value, tone }, says);
  return h(
    "div",
    { className: "figures" },
    h(Stream, { of: stream, beat: freshness.heartbeat, now }),
    h(Behind, { freshness, measuredAt: state.log.measured_at, now }),
    plain("products", "Products served", count(summary?.products ?? 0), "", `newest event ${ago(freshness.newest_event, now)}`),
    plain("publication", "Publication", count(freshness.publication), "", `published ${ago(freshness.published_at, now)}`),
    plain("drift", "Drift", count(drift), bad ? "bad" : drift === 0 ? "good" : "", `verified ${ago(verification?.at, now)}`),
    plain("quarantine", "In quarantine", count(rejected), rejected ? "warned" : "", "records that break a rule"),
  );
}

export function Tides({ state, superset, dags }) {
  const number = (title, name) => ({ title, of: (one) => count(one[name]) });
  const legend = { published: "published", streamed: "served by the stream", behind: "not served yet", landed: "in the raw history" };
  const landed = state.raw_history.landed_at;
  const { durability } = state.log;
  return h(
    Card,
    { name: "tides", title: "Tide marks", wide: true, dags, beside: h(Dashboard, { superset, slug: PIPELINE }, "Pipeline") },
    h(Table, {
      empty: "The log has not been measured yet: check that Kafka and the watcher are running.",
      rows: state.partitions,
      columns: [
        { title: "Partition", text: true, of: (one) => `${one.topic}/${one.partition}` },
        { title: "", text: true, of: (one) => h(Tide, { of: one }) },
        number("Log starts", "log_start"),
        number("Tide mark", "published"),
        number("Raw history", "landed"),
        number("Served", "served"),
        number("Log ends", "log_end"),
        { title: "Behind", of: (one) => h("b", { className: one.behind ? "warned" : "" }, state.log.lag ? count(one.behind) : "unknown") },
      ],
    }),
    h(
      "p",
      { className: "legend quiet" },
      Object.entries(legend).map(([name, says]) => h("span", { key: name }, h("i", { className: name }), says)),
      h("span", null, h("i", { className: "mark" }), "tide mark: where the batch layer ends and the stream begins"),
      h("span", null, landed ? `raw history updated ${ago(landed, state.at)}` : "raw history is empty"),
      durability && h("span", { "data-log": "durability" }, `an acknowledged event has ${durability}`),
    ),
  );
}

export function Work({ state, dags }) {
  const minutes = lastHour(state.rates, state.at);
  const sum = (name) => minutes.reduce((total, one) => total + one[name], 0);
  const most = Math.max(...minutes.map((one) => one.events));
  const { last_micro_batch: last, committed_at: committed } = state.stream;
  const busy = share(sum("busy_milliseconds"), 3600000);
  return h(
    Card,
    { name: "stream", title: "Stream, last hour", dags },
    h(
      "p",
      null,
      "Events: ",
      h("b", { "data-sum": "events" }, count(sum("events"))),
      ", micro-batches: ",
      h("b", { "data-sum": "micro-batches" }, count(sum("micro_batches"))),
      `, busy ${busy} of the time`,
    ),
    h(
      "div",
      { className: "scale quiet" },
      toned("", `${count(most)} per minute`),
      h("span", null, "accepted, ", toned("warned", "rejected")),
    ),
    h(Rates, { minutes }),
    h(
      "div",
      { className: "scale quiet" },
      toned("", clock(minutes[0].minute).slice(0, 5)),
      toned("", "below: share of each minute the stream was busy"),
      toned("", clock(state.at).slice(0, 5)),
    ),
    last
      ? quiet(`Last micro-batch ${ago(committed, state.at)}: ${counted(last.events, "event")}, ${count(last.events_per_second)} per second`)
      : quiet("No micro-batch yet."),
  );
}

export function Verification({ state, superset, dags }) {
  const found = state.verification;
  const card = { name: "verification", title: "Verification", dags, beside: h(Dashboard, { superset, slug: PIPELINE }, "Differences") };
  if (!found) return h(Card, card, quiet("No verification yet: the nightly batch does the first one."));
  const named = Object.entries(found.named ?? {}).flatMap(([kind, ones]) => ones.map((one) => ({ kind, ...one })));
  const why = found.rules_changed ? ", corrected: the rules have changed since the previous publication" : "";
  const said = found.drift ? `${counted(found.drift, "difference")}${why}` : "no drift: the stream's numbers equal the recomputed ones";
  const counted = (many, what) => h("li", { key: what }, h("b", null, count(many)), what);
  return h(
    Card,
    card,
    h("p", null, `Publication ${found._id}, ${when(found.at)} UTC: `, h("b", { className: found.drift && !why ? "bad" : "good" }, said)),
    h(
      "ul",
      { className: "counts quiet" },
      Object.entries(found.counts ?? {}).map(([kind, many]) => counted(many, KINDS[kind] ?? kind)),
      counted(found.reconciled, "files reconciled"),
    ),
    named.slice(0, 3).map((one, key) => h("p", { key, className: "difference" }, h("b", null, one.kind), ` ${one.what}: ${one.how}`)),
  );
}

export function Quarantine({ state, superset, dags }) {
  const reasons = Object.entries(state.quarantine).sort(([, one], [, other]) => other - one);
  const most = Math.max(...reasons.map(([, many]) => many));
  const bar = (many) => h("i", { style: { width: `${(100 * many) / most}%` } });
  const beside = h(Dashboard, { superset, slug: PIPELINE }, "Records");
  const lines = reasons.flatMap(([reason, many]) => [
    h("dt", { key: reason }, reason),
    h("dd", { key: `${reason}, bar` }, bar(many)),
    h("dd", { key: `${reason}, count` }, count(many)),
  ]);
  const content = lines.length ? h("dl", null, lines) : quiet("No invalid records.");
  return h(Card, { name: "quarantine", title: "Quarantine", dags, beside }, content);
}

export function Ingestions({ state, dags }) {
  const { served, under_way: underWay, newest } = state.ingestions;
  const sent = (one) => (one.sent < one.file_rows ? `${share(one.sent, one.file_rows)} sent` : "waiting to be served");
  const where = (one) => (one.withdrawn_at ? toned("warned", "withdrawn") : one.served ? toned("good", "served") : sent(one));
  const beside = toned("quiet", `${count(served)} served, ${count(underWay)} in progress`);
  return h(
    Card,
    { name: "ingestions", title: "Ingestions", wide: true, dags, beside },
    h(Table, {
      empty: "No file has been ingested yet.",
      rows: newest,
      columns: [
        { title: "File", text: true, of: (one) => h("span", { title: `${one.file}\n${one.ingestion}` }, one.name) },
        { title: "Kind", text: true, of: (one) => one.kind },
        { title: "As of (UTC)", text: true, of: (one) => when(one.observed_at) },
        { title: "Registered (UTC)", text: true, of: (one) => when(one.registered_at) },
        { title: "Rows", of: (one) => count(one.file_rows) },
        { title: "Accepted", of: (one) => count(one.accepted) },
        { title: "Rejected", of: (one) => toned(one.rejected ? "warned" : "", count(one.rejected)) },
        { title: "", text: true, of: where },
      ],
    }),
  );
}

export function Publications({ state, dags }) {
  const back = (one) => (one.is_served ? "currently served" : `to roll back: run rebuild with publication ${one.publication}`);
  return h(
    Card,
    { name: "publications", title: "Publications", wide: true, dags },
    h(Table, {
      empty: "No publication yet: the nightly batch makes the first one.",
      rows: state.publications,
      columns: [
        { title: "Number", text: true, of: (one) => h("span", { title: back(one) }, one.publication) },
        { title: "Published (UTC)", text: true, of: (one) => when(one.published_at) },
        { title: "Tide mark", text: true, of: (one) => h("span", { className: "mark", title: one.mark }, one.mark) },
        { title: "Events below it", of: (one) => count(one.events) },
        { title: "Drift found", of: (one) => toned(one.drift ? "bad" : "", count(one.drift)) },
        { title: "", text: true, of: (one) => one.is_served && toned("good", "served") },
      ],
    }),
  );
}

export const Top = ({ state, problem, superset }) =>
  h(
    "header",
    { className: "top" },
    h("h1", null, "Tidemark"),
    toned("quiet", state ? `as of ${clock(state.at)} UTC` : problem ? "" : "loading …"),
    h("nav", null, Object.entries(DASHBOARDS).map(([slug, name]) => h(Dashboard, { key: slug, superset, slug }, name))),
  );

export function Problem({ problem, state }) {
  const shown = state ? ` Showing the state as of ${clock(state.at)} UTC.` : "";
  return problem && h("p", { className: "problem", role: "alert" }, `${problem}.${shown}`);
}

// Shown instead of the parts while there is no state.
export function Dags({ dags }) {
  const links = Object.entries(dags).map(([dag, id]) => h(Link, { key: dag, to: `/dags/${id}`, className: "act" }, dag));
  return h("section", { className: "card" }, h("header", null, h("h2", null, "DAGs"), h("nav", null, links)));
}
