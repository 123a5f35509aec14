"""The whole local stack as `python -m tidemark.local` starts it, in a home and on ports of its own; and what tests do with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from kafka.errors import KafkaError
from pymongo.database import Database
from pymongo.errors import PyMongoError
from support.catalogs import wrong_reports
from support.databases import connected
from support.environment import setting
from support.names import NAMES
from support.recompute import CsvFile, Recomputed, differences, recompute_files, reports
from support.servers import free_ports

from tidemark.catalog.marks import TideMark
from tidemark.ingest import topics, watch
from tidemark.ingest.generate import write
from tidemark.local import processes, stack
from tidemark.local.programs import marks
from tidemark.local.runs import ENDED, WAITING, Airflow
from tidemark.serving import ledger, offsets
from tidemark.serving.database import Document
from tidemark.serving.snapshot import snapshot
from tidemark.serving.status import state
from tidemark.settings import CHECKOUT, Settings
from tidemark.settings.airflow_names import Dag

PORTS = (
    "kafka_port",
    "kafka_controller_port",
    "mongodb_port",
    "airflow_port",
    "api_port",
    "spark_ui_port",
    "speed_metrics_port",
    "superset_port",
)
# The states of a run that has sent its files without asking anybody.
SENT = {name: {"success"} for name in ("preview", "plan", "produce", "reconcile", "served")} | {"approve": {"skipped"}}
REPORTS = ("report_cube", "report_price_level", "report_category", "report_summary")
SHELL = ("PATH", "HOME", "USER", "LANG", "TERM", "TMPDIR", "JAVA_HOME", "JAVA_TOOL_OPTIONS", "http_proxy", "https_proxy", "no_proxy")
RUN_SECONDS = 1_000.0  # on a machine with other things to do
ANSWER_SECONDS = 2.0  # that a person takes at least to answer a question

Registered = dict[tuple[str, str, str], datetime]


class Given(NamedTuple):
    """A file that has been ingested, as the ingestion is named, and the plain file that says the same."""

    name: str
    kind: str
    day: str
    path: str


@dataclass
class Stack:
    folder: Path
    settings: dict[str, str]
    ingested: set[Given] = field(default_factory=set)

    @property
    def of(self) -> Settings:
        return Settings(**self.settings)

    @property
    def home(self) -> Path:
        return Path(self.settings["home"])

    def airflow(self) -> Airflow:
        return Airflow(self.of)

    @property
    def environment(self) -> dict[str, str]:
        """That of somebody's new shell: Spark, Airflow and pytest all leave variables in the tests' own process."""
        theirs = {name: os.environ[name] for name in SHELL if name in os.environ}
        return {**theirs, **{f"TIDEMARK_{name.upper()}": value for name, value in self.settings.items()}}

    def command(self, *words: str, **more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tidemark.local", *words]
        return subprocess.Popen(
            command,
            cwd=CHECKOUT,
            env={**self.environment, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=_restore_interrupts,
        )

    def local(self, *words: str, status: int | None = 0, **more: str) -> str:
        """What `python -m tidemark.local ...` says; it must end with that exit status, if one is named."""
        with self.command(*words, **more) as running:
            try:
                output, _ = running.communicate(timeout=RUN_SECONDS)
            except BaseException:
                running.kill()
                raise
        assert status in (None, running.returncode), output + self.logs()
        return output

    def logs(self) -> str:
        """The end of every program's log, for whoever reads a failure."""
        return "".join(f"\n--- {log.name}\n{log.read_text(errors='replace')[-800:]}" for log in sorted((self.home / "logs").glob("*.log")))

    def catalog(self, name: str, rows: int, first: date, days: int = 1, seed: int = 1) -> list[Path]:
        """Files of a generated catalog, products by day first, categories last."""
        categories, *products = write(rows, days, seed, self.folder / name, first)
        return [*products, categories]

    def add_ingested(self, day: str, *, products: Iterable[Path] = (), categories: Iterable[Path] = ()) -> None:
        """Notes what has been ingested as of a day, for `wrong`."""
        self.ingested |= {Given(str(path), "product", day, str(path)) for path in products}
        self.ingested |= {Given(str(path), "category", day, str(path)) for path in categories}

    def add_ingested_as(self, day: str, name: str, path: Path, kind: str) -> None:
        """Notes what has been ingested in another form, under that name, as the plain file that says the same."""
        self.ingested = {one for one in self.ingested if one[:3] != (name, kind, day)} | {Given(name, kind, day, str(path))}

    def trigger(self, key: str | None = None, **conf: Any) -> str:
        """Starts a run of DAG `tidemark_ingest`, of a day where one is named; its id."""
        with self.airflow() as airflow:
            if key is None:
                return airflow.trigger(conf)
            body = {"dag_run_id": f"test-{key}-{time.time_ns()}", "logical_date": None, "conf": conf, "partition_key": key}
            answer = airflow._http.post(f"/dags/{NAMES.of(Dag.INGEST)}/dagRuns", json=body)
            assert answer.is_success, answer.text
            return str(answer.json()["dag_run_id"])

    def runs(self) -> list[Document]:
        with self.airflow() as airflow:
            found: list[Document] = airflow._get(f"/dags/{NAMES.of(Dag.INGEST)}/dagRuns?limit=200")["dag_runs"]
            return found

    def task_instances(self, run: str, dag: Dag = Dag.INGEST) -> list[Document]:
        with self.airflow() as airflow:
            found: list[Document] = airflow._get(f"/dags/{NAMES.of(dag)}/dagRuns/{run}/taskInstances?limit=1000")["task_instances"]
            return found

    def states(self, run: str, dag: Dag = Dag.INGEST) -> dict[str, set[str | None]]:
        """By task its states; those of all its chunks."""
        found: dict[str, set[str | None]] = {}
        for one in self.task_instances(run, dag):
            found.setdefault(one["task_id"], set()).add(one["state"])
        return found

    def question_of(self, run: str, dag: Dag = Dag.INGEST, task: str = "approve") -> str:
        """Waits until a run asks a person; what it asks, in Markdown."""

        def asked() -> Document | None:
            if not WAITING & self.states(run, dag).get(task, set()):  # the question is there before the task waits for its answer
                return None
            with self.airflow() as airflow:
                answer = airflow._http.get(_question(run, dag, task))
                return answer.json() if answer.is_success else None

        return str(until(asked, f"run {run} asks a person", lambda: f"{self.states(run, dag)}{self.logs()}")["body"])

    def decide(self, run: str, option: str, dag: Dag = Dag.INGEST) -> str:
        """Waits until a run asks a person, answers until the answer is taken, and returns what it has asked.

        Whoever answers before Airflow's scheduler has seen the end of the process that asked is asked again, as often as a task is tried.
        """
        question = self.question_of(run, dag)

        def taken() -> bool:
            states = self.states(run, dag)["approve"]
            if WAITING & states:
                time.sleep(ANSWER_SECONDS)
                with self.airflow() as airflow:
                    airflow._http.patch(_question(run, dag), json={"chosen_options": [option]})
            return bool(ENDED & states)

        until(taken, f"run {run} has taken the answer", lambda: f"{self.states(run, dag)}{self.logs()}")
        return question

    def end_of(self, run: str, dag: Dag = Dag.INGEST, seconds: float = RUN_SECONDS) -> str:
        """Waits for the end of a run; its state."""

        def ended() -> str | None:
            with self.airflow() as airflow:
                state = airflow.state(run, dag)
            return state if state in ENDED else None

        return until(ended, f"run {run} ends", lambda: f"{self.states(run, dag)}{self.logs()}", seconds)

    def succeeds(self, run: str, dag: Dag = Dag.INGEST, seconds: float = RUN_SECONDS) -> None:
        """Waits for the end of a run, which must be a good one."""
        state = self.end_of(run, dag, seconds)
        assert state == "success", self.failure(run, dag)

    def backfilled(self, backfill: int, dag: Dag = Dag.INGEST) -> dict[str, str]:
        """Waits for the end of a backfill; by day (YYYY-MM-DD) how the newest run of any has ended."""

        def ended() -> bool:
            with self.airflow() as airflow:
                return airflow._get(f"/backfills/{backfill}")["completed_at"] is not None

        until(ended, f"backfill {backfill} ends", self.logs, seconds=1_500)
        with self.airflow() as airflow:
            runs = airflow._get(f"/dags/{NAMES.of(dag)}/dagRuns?limit=500&order_by=id")["dag_runs"]
        return {one["partition_key"]: one["state"] for one in runs if one["run_type"] == "backfill"}

    def clear(self, run: str, dag: Dag, *tasks: str) -> None:
        """Clears single tasks of a run that has ended, and none that come after them; it must come to a good end again."""
        body = {"dry_run": False, "dag_run_id": run, "task_ids": tasks, "only_failed": False, "include_downstream": False}
        tries = {one["task_id"]: one["try_number"] for one in self.task_instances(run, dag)}
        with self.airflow() as airflow:
            assert airflow._http.post(f"/dags/{NAMES.of(dag)}/clearTaskInstances", json=body).is_success
        self.succeeds(run, dag)
        again = {one["task_id"] for one in self.task_instances(run, dag) if one["try_number"] > tries[one["task_id"]]}
        assert again == {*tasks}

    def failure(self, run: str, dag: Dag = Dag.INGEST) -> str:
        """What a failed run says of it, and the stack's logs."""
        with self.airflow() as airflow:
            return airflow.failure(run, dag) + self.logs()

    def log_ends(self) -> TideMark:
        with topics.admin(self.of) as client:
            return offsets.from_documents(watch.fetch_end_offsets(client, self.of.topics))

    def served_reports(self) -> dict[str, list[Document]]:
        with connected() as database, snapshot(database) as now:
            return {view: sorted(now.rows(view), key=str) for view in REPORTS}

    def state(self) -> Document:
        with connected() as database:
            return state(database)

    def generation(self) -> int:
        with connected() as database:
            return ledger.read(database).generation

    def wrong_history(self, days: Iterable[str]) -> list[str]:
        """What is wrong with the history of days (YYYY-MM-DD), given all that has been ingested."""
        found = []
        with connected() as database, snapshot(database) as now:
            files = self._files(_registered(database))
            for day in days:
                known = [one for one in files if one.kind == "category" or str(one.observed_at) <= day]
                rows = now.rows("report_history", {"$match": {"day": datetime.fromisoformat(f"{day}T00:00:00+00:00")}}, {"$unset": "day"})
                found += [f"{day}: {line}" for line in differences("report_cube", reports(recompute_files(known))["report_cube"], rows)]
        return found

    def wrong(self) -> list[str]:
        """What is wrong with the served reports and products, given all that has been ingested; its order is what MongoDB was told."""
        with connected() as database:
            registered, ours = _registered(database), {one[:3]: one for one in self.ingested}
            wrong = [f"{one} has not been ingested" for one in ours.keys() - registered.keys()]
            wrong += [f"{one} has been ingested" for one in registered.keys() - ours.keys()]
            known = {(one.name, one.kind): one.path for key, one in ours.items() if key in registered}
            return wrong + wrong_reports(database, self._files(registered), known)

    def recomputed(self) -> Recomputed:
        """What all that has been ingested comes to."""
        with connected() as database:
            return recompute_files(self._files(_registered(database)))

    def _files(self, registered: Registered) -> list[CsvFile]:
        ours = [(one, registered[one[:3]]) for one in self.ingested if one[:3] in registered]
        return [CsvFile(one.path, one.kind, one.day, int(when.timestamp() * 1000)) for one, when in ours]


def _registered(database: Database[Document]) -> Registered:
    """When each file that counts was told of, by path, kind and day."""
    found = database.ingestion.find({"withdrawn": None})
    return {(one["file"], one["kind"], one["observed_at"].date().isoformat()): one["registered_at"] for one in found}


def _question(run: str, dag: Dag, task: str = "approve") -> str:
    """Where a run's question to a person is, and its answer goes."""
    return f"/dags/{NAMES.of(dag)}/dagRuns/{run}/taskInstances/{task}/-1/hitlDetails"


def until(condition: Callable[[], Any], what: str, describe: Callable[[], str] = str, seconds: float = RUN_SECONDS) -> Any:
    """The first thing found that counts as true. What a server refuses while it starts again is nothing found."""
    end = time.monotonic() + seconds
    while True:
        try:
            if found := condition():
                return found
        except (httpx.TransportError, PyMongoError, KafkaError):
            pass
        assert time.monotonic() < end, f"after {seconds:.0f} s it is still not so that {what}: {describe()}"
        time.sleep(0.5)


def kill_chunk(of: Stack, run: str, kept: int) -> str:
    """Waits until as many chunks of a run are done, then ends a running one by kill -9, with the worker it runs in; the task's id."""

    def killed() -> str | None:
        produced = chunks()
        if sum(one["state"] == "success" for one in produced) < kept:
            return None
        for one in produced:
            if one["state"] == "running" and (found := [pid for pid in processes.marked(marks(of.home)) if one["id"] in _command(pid)]):
                # Only what stands still is still running when it is killed.
                for pid in found:
                    processes.send(pid, signal.SIGSTOP)
                runs = any(now["id"] == one["id"] and now["state"] == "running" for now in chunks())
                for pid in found:
                    processes.send(pid, signal.SIGKILL if runs else signal.SIGCONT)
                if runs:
                    return str(one["id"])
        return None

    def chunks() -> list[Document]:
        return [one for one in of.task_instances(run) if one["task_id"] == "produce"]

    return str(until(killed, f"{kept} chunks are done and another is killed", lambda: str(of.states(run))))


def kill_program(of: Stack, name: str) -> int:
    """Ends one of the stack's programs by kill -9; its process id."""
    (program,) = (one for one in stack.programs(of.home) if one.name == name)
    assert program.state == "RUNNING", program
    pid = int(program.detail.split()[1].rstrip(","))
    os.kill(pid, signal.SIGKILL)
    return pid


def _restore_interrupts() -> None:
    """As in somebody's terminal: what runs in the background of a shell is born deaf to them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _command(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def prepared_stack() -> Iterator[Stack]:
    """A stack that has not been started, whose settings are those of this process too. Nothing of it is left when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="tidemark-stack-"))
    settings = {
        "home": str(folder / "a home"),
        **{name: str(port) for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)},
        "mongodb_cache_gb": "0.5",
        "ingest_from": str(folder),
        **{"alert_heartbeat_minutes": "0.1", "alert_calm_minutes": "0", "alert_disk_share": "never"},
        "products_pattern": f"{folder}/days/products_{{day}}.csv",
        "categories_pattern": f"{folder}/days/categories_{{day}}.csv",
    }
    try:
        with setting(**settings):
            made = Stack(folder, settings)
            try:
                yield made
            finally:
                made.local("stop")
                assert processes.marked(marks(made.home)) == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def yesterday() -> date:
    return datetime.now(UTC).date() - timedelta(days=1)
