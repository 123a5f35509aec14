"""What people do to a running stack in a browser, through Airflow's forms and its page Tidemark: the reports stay those of the files."""

from __future__ import annotations

import json
import time
from datetime import date
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from support.csvs import csv_bytes, product
from support.databases import connected
from support.forms import Form, answer
from support.listeners import Webhook, listening
from support.names import NAMES
from support.stacks import Given, Stack, until

from tidemark.local import stack as supervised
from tidemark.rendering.control import render_pause
from tidemark.serving import control, publications
from tidemark.serving.database import Document
from tidemark.settings.airflow_names import Connection, Dag

DAY = "2024-09-02"
NIGHT_SECONDS = 1_000.0  # that a night and the history may take on a machine with other things to do

pytestmark = [pytest.mark.servers, pytest.mark.airflow, pytest.mark.soak(proof="forms"), pytest.mark.timeout(1800)]


def trigger(stack: Stack, dag: Dag, **conf: object) -> str:
    """A run that is started elsewhere, beside one of a form."""
    with stack.airflow() as airflow:
        return airflow.trigger(conf, dag)


def test_the_stream_is_paused_and_resumed(stack: Stack, page: Page) -> None:
    before = stack.generation()
    form = Form(page, Dag.STREAM)
    form.fill(action="pause", reason="Kafka moves")
    run = form.trigger()
    stack.succeeds(run, Dag.STREAM)
    with connected() as database:
        pause = control.read(database).pause
    assert pause is not None
    page.goto("/plugin/tidemark")
    shown = page.locator("[data-figure=stream]")
    expect(shown.locator(".value")).to_have_text("paused")
    expect(shown).to_contain_text(f"by {pause.by} since {pause.since:%Y-%m-%d %H:%M} UTC: Kafka moves")

    def paused() -> bool:
        """Supervisor has started it again, to wait."""
        found = json.loads(stack.local("status", "--json", status=None))["speed"]
        return bool(found["healthy"]) and found["detail"] == render_pause(pause.by, pause.since, pause.reason)

    until(paused, "the pause is shown")
    assert "the stream is paused by" in stack.local("run", status=1)
    stack.clear(run, Dag.STREAM, "request")
    stack.clear(run, Dag.STREAM, "wait")
    with connected() as database:
        assert control.read(database).pause == pause, "it stays paused by whom and since when it was"

    form = Form(page, Dag.STREAM)
    form.fill(action="resume")
    run = form.trigger()
    restart = trigger(stack, Dag.STREAM, action="restart")
    stack.succeeds(run, Dag.STREAM)
    stack.succeeds(restart, Dag.STREAM)
    stack.clear(run, Dag.STREAM, "request", "wait")
    assert stack.generation() == before + 2
    page.goto("/plugin/tidemark")
    expect(shown.locator(".value")).to_have_text("running")


def sends_heartbeats(stack: Stack) -> bool:
    """Does the stream give signs of life for a while? One that starts gives one before Spark has started."""
    for _ in range(10):
        if stack.state()["freshness"]["seconds_since_heartbeat"] > 3:
            return False
        time.sleep(0.5)
    return True


def test_a_lost_stream_raises_one_alert_and_its_return_resolves_it(stack: Stack, page: Page) -> None:
    with listening(Webhook()) as webhook, stack.airflow() as airflow:
        body = {"connection_id": NAMES.of(Connection.WEBHOOK), "conn_type": "http", "host": webhook.url}
        assert airflow._http.post("/connections", json=body).is_success

        def evaluate_twice() -> list[bool]:
            """Two evaluations at once; the notifications about the stream so far."""
            for run in (Form(page, Dag.ALERTS).trigger(), trigger(stack, Dag.ALERTS)):
                stack.succeeds(run, Dag.ALERTS)
            return [post["on"] for _, post in webhook.posts if post["alert"] == "stream"]

        alert = page.locator("[data-part=alerts] tbody tr").filter(has_text="The stream has sent no heartbeat")
        assert evaluate_twice() == []
        server = supervised._server(stack.home)
        server.supervisor.stopProcess("speed")
        try:
            until(lambda: stack.state()["freshness"]["seconds_since_heartbeat"] > 6.5, "the stream has been gone for a while")
            assert evaluate_twice() == [True]
            page.goto("/plugin/tidemark")
            expect(alert).to_be_visible()
            assert "The stream has sent no heartbeat" in stack.local("status", status=1)
        finally:
            server.supervisor.startProcess("speed")
        until(lambda: sends_heartbeats(stack), "the stream is back", stack.logs)
        assert evaluate_twice() == [True, False]
        page.goto("/plugin/tidemark")
        expect(page.locator("[data-figure=stream] .value")).to_have_text("running")
        expect(alert).to_have_count(0)
        assert airflow._http.delete(f"/connections/{NAMES.of(Connection.WEBHOOK)}").is_success


@pytest.fixture(scope="module")
def file(started: Stack) -> Path:
    """Of 40 rows, three without a price and two with stars that nobody can read."""
    rows = [product(5_000 + number) for number in range(40)]
    for row in rows[3:6]:
        row[6] = "n/a"
    for row in rows[7:9]:
        row[4] = "fine"
    path = started.folder / "operations.csv"
    path.write_bytes(csv_bytes(rows))
    return path


def corrected(file: Path) -> Path:
    """The same, row by row at the same bytes, with the prices that a replay gives."""
    path = file.with_name("operations corrected.csv")
    path.write_text(file.read_text().replace(",n/a,", ",0.0,"))
    return path


def records(file: Path) -> dict[str, list[str]]:
    """By reason the statuses of a file's records in quarantine."""
    found: dict[str, list[str]] = {}
    with connected() as database:
        for one in database.quarantine.find({"source.ingestion": ingestion(file)["ingestion"]}):
            found.setdefault(one["reason"], []).append(one["status"])
    return found


def ingestion(file: Path) -> Document:
    with connected() as database:
        (found,) = database.report_ingestion.find({"file": str(file)})
        return found


def without(stack: Stack, file: Path) -> Given:
    """Notes that a file counts no more, for `wrong`."""
    (given,) = (one for one in stack.ingested if one.name == str(file))
    stack.ingested.discard(given)
    return given


def test_a_file_is_ingested_and_its_records_are_replayed_and_discarded(stack: Stack, page: Page, file: Path) -> None:
    form = Form(page, Dag.INGEST)
    form.fill(products=[str(file)], observed_at=[DAY])
    stack.succeeds(form.trigger())
    stack.add_ingested(DAY, products=[file])
    assert stack.wrong() == []
    assert records(file) == {"price": ["open"] * 3, "stars": ["open"] * 2}

    form = Form(page, Dag.REPLAY_QUARANTINE)
    form.fill(file=file.name, patch={"price": "0.0"})
    run = form.trigger()
    beside = trigger(stack, Dag.REPLAY_QUARANTINE, file=file.name, patch={"price": "0.0"}, hold=False)
    shown = answer(page, stack, Dag.REPLAY_QUARANTINE, run, "approve", "Approve")
    assert "5 open records, 3 now valid" in shown
    for one in (run, beside):
        stack.succeeds(one, Dag.REPLAY_QUARANTINE)
    assert records(file) == {"price": ["replayed"] * 3, "stars": ["open"] * 2}
    ends = stack.log_ends()
    stack.clear(run, Dag.REPLAY_QUARANTINE, "send")
    assert stack.log_ends() == ends
    stack.add_ingested_as(DAY, str(file), corrected(file), "product")
    until(lambda: stack.wrong() == [], "the replay is served", lambda: str(stack.wrong()), 60)

    form = Form(page, Dag.DISCARD_QUARANTINE)
    form.fill(file=file.name, why="test rows", hold=False)
    run = form.trigger()
    beside = trigger(stack, Dag.DISCARD_QUARANTINE, file=file.name, why="another reason", hold=False)
    for one in (run, beside):
        stack.succeeds(one, Dag.DISCARD_QUARANTINE)
    stack.clear(run, Dag.DISCARD_QUARANTINE, "discard")
    assert records(file) == {"price": ["replayed"] * 3, "stars": ["discarded"] * 2}
    assert stack.wrong() == []


def test_a_day_of_the_history_is_backfilled(stack: Stack, page: Page) -> None:
    day = date.fromisoformat(DAY)
    made = Form(page, Dag.HISTORY).backfill(day, day)
    assert stack.backfilled(made, Dag.HISTORY)[DAY] == "success"
    assert stack.wrong_history([DAY]) == []


def test_a_file_is_withdrawn(stack: Stack, page: Page, file: Path) -> None:
    """Chosen from the list that the run shows; a night has made all anew without it."""
    identity = ingestion(file)["ingestion"]
    form = Form(page, Dag.WITHDRAW)
    form.fill(reason="the wrong day")
    run = form.trigger()
    assert "40 rows of 2024-09-02" in answer(page, stack, Dag.WITHDRAW, run, "choose", "OK", ingestion=identity)
    assert "average price" in answer(page, stack, Dag.WITHDRAW, run, "approve", "Approve")
    stack.succeeds(run, Dag.WITHDRAW, NIGHT_SECONDS)
    without(stack, file)
    stack.clear(run, Dag.WITHDRAW, "chosen", "apply", "wait")
    assert stack.wrong() == []
    assert stack.wrong_history([DAY]) == []
    assert (ingestion(file)["accepted"], ingestion(file)["rejected"]) == (0, 40)


def test_a_former_publication_is_restored(stack: Stack, page: Page) -> None:
    with connected() as database:
        served = publications.served(database)
    form = Form(page, Dag.REBUILD)
    form.fill(publication=served)
    stack.succeeds(form.trigger(), Dag.REBUILD)
    until(lambda: stack.state()["freshness"]["events_behind"] == 0, "the stream has gone on from there", stack.logs)
    assert stack.wrong() == []


@pytest.mark.timeout(3600)
def test_a_withdrawal_is_undone(stack: Stack, page: Page) -> None:
    """Asked for while the file is being withdrawn: that is done first."""
    day = "2024-09-04"
    file, _ = stack.catalog("taken back", rows=60, first=date.fromisoformat(day), seed=62)
    stack.succeeds(stack.trigger(products=[str(file)], observed_at=[day]))
    stack.add_ingested(day, products=[file])
    stack.succeeds(trigger(stack, Dag.HISTORY, first_day=day), Dag.HISTORY)
    assert stack.wrong() + stack.wrong_history([day]) == []

    identity = ingestion(file)["ingestion"]
    run = trigger(stack, Dag.WITHDRAW, ingestion=identity, hold=False)
    form = Form(page, Dag.WITHDRAW)
    form.fill(ingestion=identity, take_back=True)
    back = form.trigger()
    stack.succeeds(run, Dag.WITHDRAW, NIGHT_SECONDS)
    given = without(stack, file)
    assert stack.wrong() + stack.wrong_history([day]) == []

    assert "average price" in answer(page, stack, Dag.WITHDRAW, back, "approve", "Approve")
    stack.succeeds(back, Dag.WITHDRAW, NIGHT_SECONDS)
    stack.ingested.add(given)
    stack.clear(back, Dag.WITHDRAW, "chosen", "apply", "wait")
    assert stack.wrong() + stack.wrong_history([day]) == []
    assert ingestion(file)["withdrawn_at"] is None
