"""The main job: starts the stack, ingests a catalog through Airflow, waits until the reports contain it, and prints them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from pymongo.errors import PyMongoError
from rich.console import Console
from rich.markdown import Markdown
from rich.markup import escape

from tidemark.catalog.observations import moment
from tidemark.catalog.words import counted
from tidemark.ingest import jobs, sources
from tidemark.ingest.generate import write
from tidemark.ingest.layouts import Columns
from tidemark.local import accounts, health, prerequisites, reports, stack
from tidemark.local.runs import ENDED, WAITING, Airflow
from tidemark.rendering.verifications import render_verification
from tidemark.serving import control, history, ledger, publications, verifications
from tidemark.serving.database import connect, database_of
from tidemark.serving.status import STALE_HEARTBEAT_SECONDS
from tidemark.settings import Settings
from tidemark.settings.airflow_names import Dag
from tidemark.settings.sections import AirflowSettings, HomeSettings, MongodbSettings

START_SECONDS = 600.0
POLL_SECONDS = 0.5  # interval of health checks while servers start
UNREACHABLE_SECONDS = 180.0  # how long Airflow's API may be unreachable during a run
FIRST_DAY = date(2024, 1, 1)  # first day of a generated catalog
SEED = 1
STARTED_LATER = ("superset",)  # takes long to start, and ingestion does not need it
CATALOG = "/superset/dashboard/tidemark-catalog/"  # path of dashboard Catalog


class CannotRun(Exception):
    """The job cannot run; the message says why and what to do."""


class Progress:
    """Progress: one updating line in a terminal; otherwise a new line for each change, and during long steps."""

    EVERY_SECONDS = 5.0
    AT_LEAST_EVERY_SECONDS = 30.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("") if console.is_terminal else None
        self._started = time.monotonic()
        self._reported, self._at = "", self._started - self.EVERY_SECONDS

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def __call__(self, text: str) -> None:
        line = f"{text} ({time.monotonic() - self._started:.0f} s)"
        if self._status:
            self._status.update(escape(line))
        elif time.monotonic() - self._at >= (self.AT_LEAST_EVERY_SECONDS if text == self._reported else self.EVERY_SECONDS):
            self._reported, self._at = text, time.monotonic()
            self._console.print(f"  {line}", highlight=False, markup=False)


def start(console: Console, of: Settings, *, later: Collection[str] = ()) -> None:
    """Starts the stack, and waits until all servers but those in `later` are healthy and Airflow has loaded the DAGs. Raises CannotRun."""
    if not stack.is_running(of.home):
        if stack.end_leftovers(of.home):
            console.print("ended processes left behind by a former stack")
        if problems := prerequisites.problems(of):
            raise CannotRun("\n".join(problems))
    of.home.mkdir(parents=True, exist_ok=True)
    try:
        stack.start(of)
    except RuntimeError as error:
        raise CannotRun(str(error)) from error
    until = time.monotonic() + START_SECONDS
    with Progress(console) as report:
        _wait_until_healthy(console, of, report, health.CHECKS.keys() - set(later), until)
        _wait_for_dag(of, report, until)


def _wait_until_healthy(console: Console, of: Settings, report: Progress, names: Collection[str], until: float) -> None:
    """Waits for these servers and reports each when it is up. Raises CannotRun."""
    missing = {name: check for name, check in health.CHECKS.items() if name in names}
    while missing:
        report(f"starting: waiting for {', '.join(missing)}")
        for name in [name for name, check in missing.items() if check(of).healthy]:
            del missing[name]
            console.print(f"  {name} is up", highlight=False)
        if not missing:
            return
        if not stack.is_running(of.home):
            raise CannotRun("the stack was stopped in the meantime: make run starts it again and continues")
        if time.monotonic() > until:
            raise CannotRun(_describe_missing(missing, of))
        time.sleep(POLL_SECONDS)


class Catalog(NamedTuple):
    """What to ingest: files with their dates and columns, or, without files, the size of a generated catalog."""

    products: Sequence[str]
    categories: Sequence[str]
    observed_at: Sequence[str]
    columns: Columns
    rows: int
    days: int


def dry_run(console: Console, of: Settings, catalog: Catalog) -> None:
    """Shows what ingesting the files would change, and changes nothing. Raises CannotRun."""
    conf = _conf(console, of, catalog)
    start(console, of)
    with Airflow(of) as airflow:
        identity = airflow.trigger({**conf, "dry_run": True})
        _wait_for_run(console, of, airflow, identity)
        console.print(Markdown(airflow.result(identity, "preview", "text")))
    console.print("\nNothing was sent. To ingest the files, use make run with the same arguments", highlight=False)


def run(console: Console, of: Settings, catalog: Catalog, *, batch: bool = True) -> None:
    """The whole job, followed by a nightly batch and the history unless `batch` is False.

    Raises CannotRun if it does not finish; what has been ingested by then stays ingested.
    """
    conf = _conf(console, of, catalog)
    started = time.monotonic()
    start(console, of, later=STARTED_LATER)
    _require_stream(of)
    console.print(f"Ingesting {', '.join(Path(one).name for one in (*conf['products'], *conf['categories']))}", highlight=False)
    with Airflow(of) as airflow:
        identity = airflow.trigger(conf)
        console.print(f"  {airflow.page(identity)}", highlight=False)
        _wait_for_run(console, of, airflow, identity)
        if any(task.name == jobs.PLAN and task.state == "skipped" for task in airflow.tasks(identity)):
            raise CannotRun(f"nothing was sent: the run was not approved ({airflow.page(identity)})")
        console.print(f"Served after {time.monotonic() - started:.0f} s", highlight=False)
        verified = _batch(console, of, airflow, _last_day(conf["observed_at"])) if batch else []
    with Progress(console) as report:
        _wait_until_healthy(console, of, report, STARTED_LATER, time.monotonic() + START_SECONDS)
    console.print()
    with connect(of.mongodb) as client:
        reports.show(console, database_of(client, of.database))
    for line in verified:
        console.print(line, highlight=False, markup=False)
    console.print(addresses(of), soft_wrap=True)


def _require_stream(of: MongodbSettings) -> None:
    """Raises CannotRun if the stream is paused, because nothing would be served."""
    with connect(of.mongodb) as client:
        wanted = control.read(database_of(client, of.database))
    if wanted.pause is not None:
        raise CannotRun(f"the stream is {control.describe(wanted)}. Resume it with make resume")


def _last_day(observed_at: Sequence[str]) -> date:
    """The newest day of the files, at most yesterday."""
    newest = max(datetime.fromtimestamp((moment(text) or 0) / 1000, UTC).date() for text in observed_at)
    return min(newest, datetime.now(UTC).date() - timedelta(days=1))


def _batch(console: Console, of: MongodbSettings, airflow: Airflow, last: date) -> list[str]:
    """Triggers the nightly batch, and the history up to a day, if there is anything new since the last one. Returns the lines of the
    verification.
    """
    with connect(of.mongodb) as client:
        database = database_of(client, of.database)
        served = publications.read(database, publications.served(database))
        if served.mark.reaches(ledger.read(database).offsets) and last in history.labels(database):
            console.print("Nothing is new since the last nightly run", highlight=False)
        else:
            for dag, conf in ((Dag.NIGHTLY_BATCH, {}), (Dag.HISTORY, {"last_day": last.isoformat(), "changed": True})):
                identity = airflow.trigger(conf, dag)
                console.print(f"  {airflow.page(identity, dag)}", highlight=False)
                _wait_for_run(console, of, airflow, identity, dag)
        return render_verification(verifications.read(database, publications.served(database)))


def addresses(of: Settings) -> str:
    """The addresses of all pages and servers. Plain lines: a table would break addresses that are wider than the terminal."""
    pages = {name: address(of) for name, address in health.ADDRESSES.items()}
    logins = {server: accounts.render(passwords) for server, passwords in accounts.generated_passwords(of).items()}
    return "\n".join(
        (
            f"Superset (the dashboards)     {pages['superset']}{CATALOG}  {logins['superset']}".rstrip(),
            f"Airflow (runs, backfills)     {pages['airflow']}  {logins['airflow']}".rstrip(),
            f"Airflow (operations page)     {pages['airflow']}/plugin/tidemark",
            f"API (posts, documentation)    {pages['api']}/docs",
            f"Spark (the stream)            {pages['speed']}",
            f"MongoDB (the reports)         {pages['mongodb']}  database {of.database}",
            f"Kafka                         {pages['kafka']}",
            f"State, logs                   {of.home}",
        )
    )


def _conf(console: Console, of: HomeSettings, catalog: Catalog) -> dict[str, Any]:
    """The run's configuration. Raises CannotRun if the arguments are invalid."""
    if catalog.products or catalog.categories:
        given: dict[str, Any] = _given(console, catalog.products, catalog.categories, catalog.observed_at)
        sources.add_folders(of, [name.rpartition("/")[0] for name in (*given["products"], *given["categories"])])
        return {**given, "columns": dict(catalog.columns)} if catalog.columns else given
    if catalog.observed_at or catalog.columns:
        raise CannotRun("OBSERVED_AT and COLUMNS need files: give PRODUCTS=a.csv, too, or leave them out")
    return _generated(console, of.catalogs, catalog.rows, catalog.days)


def _given(console: Console, products: Sequence[str], categories: Sequence[str], observed_at: Sequence[str]) -> dict[str, list[str]]:
    """The run's configuration for given files."""
    names = [name if "://" in name else str(Path(name).expanduser().resolve()) for name in (*products, *categories)]
    if missing := [name for name in names if "://" not in name and not Path(name).is_file()]:
        raise CannotRun(f"no such file: {', '.join(missing)}")
    product_files, category_files = names[: len(products)], names[len(products) :]
    if wrong := [text for text in observed_at if moment(text) is None]:
        raise CannotRun(f"OBSERVED_AT={','.join(wrong)} is not a valid date: write it as 2023-12-31")
    dated = product_files or category_files
    if observed_at and len(observed_at) not in (1, len(dated)):
        raise CannotRun(
            f"OBSERVED_AT has {counted(len(observed_at), 'date')} for {counted(len(dated), 'file')}: give one date for all files, or one "
            "date per file in the same order"
        )
    dates = list(observed_at)
    if not dates:
        if remote := [name for name in dated if "://" in name]:
            raise CannotRun(f"no date given for {', '.join(remote)}: give one with OBSERVED_AT=2023-12-31")
        days = [datetime.fromtimestamp(Path(name).stat().st_mtime, UTC).date().isoformat() for name in dated]
        for name, day in zip(dated, days, strict=True):
            console.print(f"{name}: OBSERVED_AT is not given, using its modification day {day}", highlight=False, soft_wrap=True)
        dates = days if product_files else [max(days)]
    return {"products": product_files, "categories": category_files, "observed_at": dates}


def _generated(console: Console, catalogs: Path, rows: int, days: int) -> dict[str, list[str]]:
    """The run's configuration for a generated catalog, which is written if it does not exist yet."""
    folder = catalogs / f"{rows}-rows-{days}-days"
    whole = folder / ".whole"
    if not whole.exists():
        with Progress(console) as report:
            what = f"generating {counted(rows, 'product')} over {counted(days, 'day')}"
            report(what)
            for path in write(rows, days, SEED, folder, FIRST_DAY):
                report(f"{what}: {path.name} is written")
        whole.touch()
    files = sorted(folder.glob("products_*.csv"))
    return {
        "products": [str(file.resolve()) for file in files],
        "categories": [str((folder / "categories.csv").resolve())],
        "observed_at": [file.stem.removeprefix("products_") for file in files],
    }


def _wait_for_dag(of: AirflowSettings, report: Callable[[str], None], until: float) -> None:
    with Airflow(of) as airflow:
        while not all(airflow.has_dag(dag) for dag in (Dag.INGEST, Dag.NIGHTLY_BATCH, Dag.HISTORY)):
            report("waiting for Airflow to read the DAGs")
            if errors := airflow.import_errors():
                raise CannotRun(f"Airflow cannot read the DAGs: {'; '.join(errors)}")
            if time.monotonic() > until:
                raise CannotRun("Airflow has not loaded all DAGs: see make logs")
            time.sleep(0.5)


def _wait_for_run(console: Console, of: MongodbSettings, airflow: Airflow, identity: str, dag: Dag = Dag.INGEST) -> None:
    """Waits until the run has ended. Airflow may be unreachable for a while, until supervisor has restarted it."""
    state, answered_at = "", time.monotonic()
    with Progress(console) as report:
        while state not in ENDED:
            try:
                state = airflow.state(identity, dag)
                report(_ingestion_progress(of, airflow, identity, state) if dag is Dag.INGEST else _task_progress(airflow, identity, dag))
                answered_at = time.monotonic()
            except httpx.TransportError as error:
                if time.monotonic() - answered_at > UNREACHABLE_SECONDS:
                    raise
                report(f"Airflow does not answer: {error}")
            time.sleep(0.25)
    if state != "success":
        raise CannotRun(
            f"the run has failed: {airflow.failure(identity, dag)}\n"
            f"All attempts: {airflow.page(identity, dag)} (clear the task there to continue)"
        )


def _ingestion_progress(of: MongodbSettings, airflow: Airflow, identity: str, state: str) -> str:
    tasks = airflow.tasks(identity)
    if state == "queued":
        return "waiting for Airflow to start the run"
    states = {task.name: task.state for task in tasks if task.map_index < 0}
    if states.get(jobs.APPROVE) in WAITING:
        return f"waiting for approval: {airflow.page(identity)}/required_actions"
    if states.get("preview") not in ENDED:
        return "validating rows"
    if states.get(jobs.PLAN) != "success":
        return "planning chunks"
    chunks = Counter(task.state for task in tasks if task.name == "produce" and task.map_index >= 0)
    sent = f"{chunks['success']} of {counted(chunks.total(), 'chunk')} in Kafka" if chunks else "everything was sent before"
    retried = chunks["up_for_retry"] + chunks["failed"]
    return sent + (f", {counted(retried, 'chunk')} to be retried" if retried else "") + _stream_progress(of)


def _task_progress(airflow: Airflow, identity: str, dag: Dag) -> str:
    tasks = airflow.tasks(identity, dag)
    waiting = [task for task in tasks if task.state in WAITING]
    if waiting:
        return f"waiting for approval: {airflow.page(identity, dag)}/required_actions"
    done = sum(task.state in ("success", "skipped") for task in tasks)
    return f"{airflow.name(dag)}: {done} of {len(tasks)} tasks done" + "".join(
        f", {task.name} running" for task in tasks if task.state == "running"
    )


def _stream_progress(of: MongodbSettings) -> str:
    try:
        with connect(of.mongodb, within_seconds=5) as client:
            now = database_of(client, of.database).report_freshness.find_one() or {}
    except PyMongoError:
        return ", MongoDB does not answer"
    behind, beat = now.get("events_behind"), now.get("seconds_since_heartbeat")
    if beat is None or beat > STALE_HEARTBEAT_SECONDS:
        return ", the stream is not running: see make logs PROGRAM=speed"
    return "" if behind is None else f", the stream is {counted(behind, 'event')} behind"


def _describe_missing(missing: dict[str, Callable[[Settings], health.Health]], of: Settings) -> str:
    lines = [f"{name} is not up after {START_SECONDS:.0f} s: {check(of).detail}" for name, check in missing.items()]
    lines += [f"program {one.name}: {one.state} {one.detail}" for one in stack.programs(of.home) if one.state not in ("RUNNING", "EXITED")]
    return "\n".join([*lines, f"The logs are in {stack.log_folder(of.home)}"])
