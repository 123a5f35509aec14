// Page Tidemark: asks for the state every few seconds and draws it. Airflow gives React, the router and the colours.
import { Alerts, Dags, Figures, Ingestions, Problem, Publications, Quarantine, Tides, Top, Verification, Work } from "./cards.js";

const { createElement: h, useEffect, useState } = globalThis.React;
const PARTS = [Alerts, Figures, Tides, Work, Verification, Quarantine, Ingestions, Publications];
const [EVERY, DAGS_EVERY] = [3000, 60000]; // milliseconds
const at = (path) => new URL(path, import.meta.url);

// What `ask` answers, again and again while the page is seen; `undefined` is no news.
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

// With a problem the former state stays: old figures that say so are better than none.
async function askState(signal) {
  try {
    const response = await fetch(at("../state"), { signal });
    if (response.ok) return await response.json();
    if (response.status === 503) {
      const { problem, superset, dag_ids } = await response.json();
      return { problem, superset, dag_ids };
    }
    const meaning = { 401: "You are not logged in any more: load the page again", 403: "You may not see this" };
    return { problem: meaning[response.status] ?? `Airflow answers ${response.status}` };
  } catch {
    return { problem: "Airflow does not answer" };
  }
}

// Ids of the DAGs that are there: only these are linked.
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
