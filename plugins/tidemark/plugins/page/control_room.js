// Page Tidemark: fetches and renders the state every few seconds. React, the router and the colours are Airflow's.
import { Alerts, Dags, Figures, Ingestions, Problem, Publications, Quarantine, Tides, Top, Verification, Work } from "./cards.js";

const { createElement: h, useEffect, useState } = globalThis.React;
const PARTS = [Alerts, Figures, Tides, Work, Verification, Quarantine, Ingestions, Publications];
const [EVERY, DAGS_EVERY] = [3000, 60000]; // milliseconds
const at = (path) => new URL(path, import.meta.url);

// Polls `ask` while the page is visible and merges the answers; `undefined` means no change.
function useAnswers(ask, every, first) {
  const [answer, setAnswer] = useState(first);
  useEffect(() => {
    const gone = new AbortController();
    let timer;
    async function again() {
      const news = document.hidden ? undefined : await ask(gone.signal);
      if (gone.signal.aborted) return;
      if (news !== undefined) setAnswer((before) => ({ ...before, ...news }));
      timer = setTimeout(again, every);
    }
    again();
    return () => {
      gone.abort();
      clearTimeout(timer);
    };
  }, []);
  return answer;
}

// With a problem the last state stays on the page, marked as old.
async function askState(signal) {
  try {
    const response = await fetch(at("../state"), { signal });
    if (response.ok) return await response.json();
    if (response.status === 503) {
      const { problem, superset, dag_ids } = await response.json();
      return { problem, superset, dag_ids };
    }
    const meaning = { 401: "You are logged out: reload the page", 403: "You do not have access to this page" };
    return { problem: meaning[response.status] ?? `Airflow answered ${response.status}` };
  } catch {
    return { problem: "Airflow does not answer" };
  }
}

// Ids of the existing DAGs; only these are linked.
async function askDags(signal) {
  try {
    const response = await fetch(new URL("api/v2/dags?tags=tidemark&limit=100", document.baseURI), { signal });
    return response.ok ? { there: (await response.json()).dags.map((one) => one.dag_id) } : undefined;
  } catch {
    return undefined;
  }
}

function ControlRoom() {
  const { state, problem, superset, dag_ids } = useAnswers(askState, EVERY, { dag_ids: {} });
  const { there } = useAnswers(askDags, DAGS_EVERY, { there: [] });
  const dags = Object.fromEntries(Object.entries(dag_ids).filter(([, id]) => there.includes(id)));
  const all = { state, problem, superset, dags };
  return h(
    "main",
    { className: problem ? "tidemark old" : "tidemark" },
    h("link", { rel: "stylesheet", href: at("control_room.css").href }),
    h(Top, all),
    h(Problem, all),
    state && h("div", { className: "parts" }, PARTS.map((part) => h(part, { key: part.name, ...all }))),
    problem && !state && h(Dags, all),
  );
}

globalThis.Tidemark = ControlRoom;
